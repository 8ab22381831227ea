//! `[batch_accounts.ALIAS.credential]`, whose keys depend on its kind.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use url::Url;

use super::{
    reader::Reader,
    secret::{Form, SecretSource},
    table::{Kind, Table as _, table},
    values::{choice, duration, identifier, origin, seconds, secret, text},
};
use crate::names;

/// A credential for Azure Batch.
#[derive(Clone)]
pub enum Credential {
    /// A Microsoft Entra token.
    Entra(Entra),
    /// The account's key.
    SharedKey {
        /// The account's name.
        account: String,
        /// The key, in base64.
        key: SecretSource,
    },
}

/// A credential that yields Microsoft Entra tokens.
#[derive(Clone)]
pub struct Entra {
    /// Which one.
    pub kind: EntraKind,
    /// Where tokens are asked for; `None` leaves it to the credential's own default.
    pub authority: Option<Url>,
    /// What they are asked for.
    pub scope: String,
    /// How long a call waits for a token.
    pub token_timeout: Duration,
}

impl Entra {
    /// Default of `token_timeout_seconds`.
    pub const TOKEN_TIMEOUT: Duration = Duration::from_secs(8);
    /// The same for the Azure CLI, which takes 10 to 15 seconds on small machines. Less than the default deadline
    /// of a call, so that a call without one fails with the cause.
    const AZURE_CLI_TIMEOUT: Duration = Duration::from_secs(25);
}

/// The kinds of Entra credential.
#[derive(Clone)]
pub enum EntraKind {
    /// An application with a secret.
    ClientSecret {
        /// Tenant.
        tenant_id: String,
        /// Application.
        client_id: String,
        /// Its secret.
        secret: SecretSource,
    },
    /// A Kubernetes workload identity; what is absent comes from the environment.
    WorkloadIdentity {
        /// Tenant.
        tenant_id: Option<String>,
        /// Application.
        client_id: Option<String>,
        /// The federated token.
        token_file: Option<PathBuf>,
    },
    /// A managed identity; system-assigned without a client ID.
    ManagedIdentity {
        /// A user-assigned identity.
        client_id: Option<String>,
    },
    /// Whoever is logged in to the Azure CLI.
    AzureCli {
        /// Tenant.
        tenant_id: Option<String>,
    },
}

/// The scope of Azure Batch tokens. The double slash is right: the audience ends in one.
pub const DEFAULT_SCOPE: &str = "https://batch.core.windows.net//.default";

const CLIENT_SECRET: &str = "client_secret";
const WORKLOAD_IDENTITY: &str = "workload_identity";
const MANAGED_IDENTITY: &str = "managed_identity";
const AZURE_CLI: &str = "azure_cli";
const SHARED_KEY: &str = "shared_key";

table! {
    /// The keys of all kinds of credential.
    #[table("batch_accounts.ALIAS.credential", check = check)]
    pub struct CredentialKeys {
        /// The kind of credential.
        kind: &'static str = choice(vec![CLIENT_SECRET, WORKLOAD_IDENTITY, MANAGED_IDENTITY, AZURE_CLI, SHARED_KEY]);
        /// Microsoft Entra tenant.
        tenant_id: Option<String> = tenant_id().optional("required by client_secret; environment (AZURE_TENANT_ID) for workload_identity; the CLI's for azure_cli");
        /// Application or user-assigned identity.
        client_id: Option<String> = identifier().optional("required by client_secret; environment (AZURE_CLIENT_ID) for workload_identity; system-assigned for managed_identity");
        /// The client secret; read again for each token.
        secret_file: Option<SecretSource> = secret("secret", Form::Text).optional("required by client_secret");
        /// The federated token of `workload_identity`; read again for each token.
        token_file: Option<PathBuf> = token_file().optional("environment (AZURE_FEDERATED_TOKEN_FILE)");
        /// The Entra authority, which `ca_file` of the account applies to, too. http is allowed for a loopback host only.
        authority: Option<Url> = origin().optional("https://login.microsoftonline.com; environment (AZURE_AUTHORITY_HOST) for workload_identity");
        /// The scope that tokens are asked for. The double slash is right: the audience ends in one.
        scope: String = identifier().default(DEFAULT_SCOPE.to_owned());
        /// How long a call waits for a token. A request to a token endpoint is then given up, and the next call sends
        /// another one. The Azure CLI continues for up to 60 seconds in total, and the next call uses the token that it
        /// prints.
        token_timeout_seconds: Option<Duration> = seconds(1..=60).map(duration).optional("8; 25 for azure_cli");
        /// The Batch account's name.
        account_name: Option<String> = account_name().optional("required by shared_key");
        /// The account's key in base64; read again when the account refuses it.
        key_file: Option<SecretSource> = secret("secret", Form::Base64).optional("required by shared_key");
    }
}

/// A tenant becomes part of a URL.
fn tenant_id() -> Kind<String> {
    text().check(|text| {
        let is_valid = names::is_made_of(text, b".-");
        is_valid
            .then_some(())
            .ok_or("holds letters, digits, `.` and `-` only")
    })
}

fn account_name() -> Kind<String> {
    text().check(|text| {
        let is_valid = names::is_made_of(text, b"");
        is_valid
            .then_some(())
            .ok_or("holds letters and digits only")
    })
}

fn token_file() -> Kind<PathBuf> {
    secret("token", Form::Text).then(|_, _, file| file.path().map(Path::to_owned))
}

/// Reports keys that the kind of credential lacks or does not read.
fn check(keys: &CredentialKeys, reader: &Reader<'_>) {
    for key in keys_of_other_kinds(keys.kind) {
        if reader.has(key) {
            let error = format!("`{key}` does not go with kind `{}`", keys.kind);
            reader.error(reader.key_span(key), error);
        }
    }
    let required: &[&str] = match keys.kind {
        CLIENT_SECRET => &["tenant_id", "client_id", "secret_file"],
        SHARED_KEY => &["account_name", "key_file"],
        _ => &[],
    };
    for key in required {
        if !reader.has(key) {
            reader.missing("key", key);
        }
    }
}

impl CredentialKeys {
    /// Returns the credential unless its kind lacks a key.
    pub fn credential(self) -> Option<Credential> {
        let mut timeout = Entra::TOKEN_TIMEOUT;
        let kind = match self.kind {
            SHARED_KEY => {
                return Some(Credential::SharedKey {
                    account: self.account_name?,
                    key: self.key_file?,
                });
            }
            CLIENT_SECRET => EntraKind::ClientSecret {
                tenant_id: self.tenant_id?,
                client_id: self.client_id?,
                secret: self.secret_file?,
            },
            WORKLOAD_IDENTITY => EntraKind::WorkloadIdentity {
                tenant_id: self.tenant_id,
                client_id: self.client_id,
                token_file: self.token_file,
            },
            MANAGED_IDENTITY => EntraKind::ManagedIdentity {
                client_id: self.client_id,
            },
            _ => {
                timeout = Entra::AZURE_CLI_TIMEOUT;
                EntraKind::AzureCli {
                    tenant_id: self.tenant_id,
                }
            }
        };
        Some(Credential::Entra(Entra {
            kind,
            authority: self.authority,
            scope: self.scope,
            token_timeout: self.token_timeout_seconds.unwrap_or(timeout),
        }))
    }
}

/// Returns the keys that the kind does not read: they would be settings without effect.
fn keys_of_other_kinds(kind: &str) -> Vec<&'static str> {
    let read: &[&str] = match kind {
        CLIENT_SECRET => &["tenant_id", "client_id", "secret_file", "authority"],
        WORKLOAD_IDENTITY => &["tenant_id", "client_id", "token_file", "authority"],
        MANAGED_IDENTITY => &["client_id"],
        AZURE_CLI => &["tenant_id"],
        _ => &["account_name", "key_file"],
    };
    let is_read = |key: &str| {
        let by_all_tokens = matches!(key, "scope" | "token_timeout_seconds") && kind != SHARED_KEY;
        key == "kind" || read.contains(&key) || by_all_tokens
    };
    let keys = CredentialKeys::keys().into_iter().map(|key| key.name);
    keys.filter(|key| !is_read(key)).collect()
}
