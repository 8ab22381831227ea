//! The keys of `[batch_accounts.ALIAS]` that other targets do not have. The keys of a credential depend on its kind.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use time::OffsetDateTime;
use url::Url;

use super::{
    api_version::{API_VERSIONS, ApiVersion},
    reader::Reader,
    schema::Key,
    secret::{SecretEncoding, SecretSource},
    table::{Kind, Table as _, table},
    targets::PlatformSettings,
    values::{choice, duration, identifier, origin, seconds, secret, subtable, text},
};
use crate::names;

table! {
    /// The keys of an Azure Batch account.
    #[table("batch_accounts.ALIAS", check = check_account)]
    pub struct BatchAccount {
        /// The version of the Azure Batch REST API. Callers cannot choose it.
        api_version: &'static ApiVersion = api_version();
        /// How the service authenticates to the account.
        credential: Credential = subtable().then(|_, _, keys: CredentialKeys| keys.credential());
    }
}

impl PlatformSettings for BatchAccount {
    const URL: &'static str = "https://account.region.batch.azure.com";
    const REQUEST_FIELD: &'static str = "account";

    fn authentication(&self) -> String {
        let kind = match &self.credential {
            Credential::SharedKey { .. } => SHARED_KEY,
            Credential::OnBehalfOf(_) => ON_BEHALF_OF,
            Credential::Entra(entra) => match entra.kind {
                EntraKind::ClientSecret { .. } => CLIENT_SECRET,
                EntraKind::WorkloadIdentity { .. } => WORKLOAD_IDENTITY,
                EntraKind::ManagedIdentity { .. } => MANAGED_IDENTITY,
                EntraKind::AzureCli { .. } => AZURE_CLI,
            },
        };
        kind.to_owned()
    }

    fn api_version(&self) -> Option<&'static str> {
        Some(self.api_version.name)
    }

    fn acts_for_callers(&self) -> bool {
        matches!(self.credential, Credential::OnBehalfOf(_))
    }
}

fn api_version() -> Kind<&'static ApiVersion> {
    choice(API_VERSIONS.iter().map(|version| version.name).collect())
        .then(|reader, key, name| {
            let version = ApiVersion::find(name)?;
            if version.is_out_of_support(OffsetDateTime::now_utc()) {
                reader.warn(
                    key,
                    " is older than two years: Azure may stop serving this version",
                );
            }
            Some(version)
        })
        .default(ApiVersion::DEFAULT)
}

/// Warns of a shared key with a version whose specification does not describe shared keys.
fn check_account(account: &BatchAccount, reader: &Reader<'_>) {
    let is_shared_key = matches!(account.credential, Credential::SharedKey { .. });
    if is_shared_key && !account.api_version.documents_shared_key {
        let text = format!(
            "the specification of `api_version` {} does not describe shared keys",
            account.api_version
        );
        reader.warn_at(reader.value_span("api_version"), &text);
    }
}

#[derive(Clone)]
pub enum Credential {
    /// A Microsoft Entra token.
    Entra(Entra),
    /// A key of the account, with which requests are signed.
    SharedKey {
        account: String,
        /// The key, in base64.
        key: SecretSource,
    },
    /// Microsoft Entra tokens of the callers' own identities.
    OnBehalfOf(OnBehalfOf),
}

/// A credential that exchanges the token of a caller for a Microsoft Entra token of the same user.
#[derive(Clone)]
pub struct OnBehalfOf {
    pub tenant_id: String,
    /// The application that this service is registered as.
    pub client_id: String,
    pub proof: ClientProof,
    /// URL of the server that issues the tokens; `None` for that of the public cloud.
    pub authority: Option<Url>,
    pub scope: String,
    /// Time limit for a call to wait for a token.
    pub token_timeout: Duration,
}

/// How an application authenticates to the token endpoint.
#[derive(Clone)]
pub enum ClientProof {
    Secret(SecretSource),
    /// File with a federated token.
    TokenFile(PathBuf),
}

/// A credential that yields Microsoft Entra tokens.
#[derive(Clone)]
pub struct Entra {
    pub kind: EntraKind,
    /// URL of the server that issues the tokens; `None` for the default of the kind.
    pub authority: Option<Url>,
    pub scope: String,
    /// Time limit for a call to wait for a token.
    pub token_timeout: Duration,
}

impl Entra {
    /// Default of `token_timeout_seconds`.
    pub const TOKEN_TIMEOUT: Duration = Duration::from_secs(8);
    /// Default of `token_timeout_seconds` for the Azure CLI, which takes 10 to 15 seconds on small machines. It is
    /// shorter than the default deadline of a call, so that a call without a deadline fails with the cause, not with
    /// an exceeded deadline.
    const AZURE_CLI_TIMEOUT: Duration = Duration::from_secs(25);
}

#[derive(Clone)]
pub enum EntraKind {
    ClientSecret {
        tenant_id: String,
        client_id: String,
        secret: SecretSource,
    },
    /// A Kubernetes workload identity. Absent values are read from the environment.
    WorkloadIdentity {
        tenant_id: Option<String>,
        client_id: Option<String>,
        /// File with the federated token.
        token_file: Option<PathBuf>,
    },
    /// A managed identity. Without a client ID, it is the system-assigned one.
    ManagedIdentity { client_id: Option<String> },
    /// The identity that is logged in to the Azure CLI.
    AzureCli { tenant_id: Option<String> },
}

/// The scope of Azure Batch tokens. The double slash is intended: the audience ends with a slash.
pub const DEFAULT_SCOPE: &str = "https://batch.core.windows.net//.default";

const CLIENT_SECRET: &str = "client_secret";
const WORKLOAD_IDENTITY: &str = "workload_identity";
const MANAGED_IDENTITY: &str = "managed_identity";
const AZURE_CLI: &str = "azure_cli";
const SHARED_KEY: &str = "shared_key";
const ON_BEHALF_OF: &str = "on_behalf_of";

/// The kinds of credential, each with its required keys and its optional ones.
const KINDS: [(&str, &[&str], &[&str]); 6] = [
    (
        CLIENT_SECRET,
        &["tenant_id", "client_id", "secret_file"],
        &["authority"],
    ),
    (
        WORKLOAD_IDENTITY,
        &[],
        &["tenant_id", "client_id", "token_file", "authority"],
    ),
    (MANAGED_IDENTITY, &[], &["client_id"]),
    (AZURE_CLI, &[], &["tenant_id"]),
    (SHARED_KEY, &["account_name", "key_file"], &[]),
    (
        ON_BEHALF_OF,
        &["tenant_id", "client_id"],
        &["secret_file", "token_file", "authority"],
    ),
];

table! {
    /// The keys of all kinds of credential.
    #[table("batch_accounts.ALIAS.credential", check = check)]
    pub struct CredentialKeys {
        /// The kind of credential. With `on_behalf_of`, the account is called under the identity of the caller, whose
        /// token is exchanged; it needs `[[jwt_issuers]]`.
        kind: &'static str = choice(KINDS.map(|(kind, ..)| kind).to_vec());
        /// Microsoft Entra tenant.
        tenant_id: Option<String> = tenant_id().optional("required by client_secret and on_behalf_of; environment (AZURE_TENANT_ID) for workload_identity; the CLI's for azure_cli");
        /// Application or user-assigned identity.
        client_id: Option<String> = identifier().optional("required by client_secret and on_behalf_of; environment (AZURE_CLIENT_ID) for workload_identity; system-assigned for managed_identity");
        /// The client secret; read again for each token.
        secret_file: Option<SecretSource> = secret("secret", SecretEncoding::Text).optional("required by client_secret; either this or `token_file` for on_behalf_of");
        /// The federated token of `workload_identity` and `on_behalf_of`; read again for each token.
        token_file: Option<PathBuf> = token_file().optional("environment (AZURE_FEDERATED_TOKEN_FILE) for workload_identity; either this or `secret_file` for on_behalf_of");
        /// The Entra authority, which `ca_file` of the account applies to, too. http is allowed for a loopback host
        /// only.
        authority: Option<Url> = origin().optional("https://login.microsoftonline.com; environment (AZURE_AUTHORITY_HOST) for workload_identity");
        /// The scope of the tokens. The double slash is intended: the audience ends with a slash.
        scope: String = identifier().default(DEFAULT_SCOPE.to_owned());
        /// Time limit for a call to wait for a token. A request to a token endpoint is then abandoned, and the next
        /// call sends another one. The Azure CLI continues for up to 60 seconds in total, and the next call uses the
        /// token that it prints.
        token_timeout_seconds: Option<Duration> = seconds(1..=60).map(duration).optional("8; 25 for azure_cli");
        /// The Batch account's name.
        account_name: Option<String> = account_name().optional("required by shared_key");
        /// The account's key in base64; read again when the account refuses it.
        key_file: Option<SecretSource> = secret("secret", SecretEncoding::Base64).optional("required by shared_key");
    }
}

/// Returns the kind of a tenant ID. Its characters are restricted, because it becomes part of a URL.
fn tenant_id() -> Kind<String> {
    text().require("holds letters, digits, `.` and `-` only", |text| {
        names::is_alphanumeric_or(text, b".-")
    })
}

fn account_name() -> Kind<String> {
    text().require("holds letters and digits only", |text| {
        names::is_alphanumeric_or(text, b"")
    })
}

fn token_file() -> Kind<PathBuf> {
    secret("token", SecretEncoding::Text).then(|_, _, file| file.path().map(Path::to_owned))
}

/// Reports required keys that are missing, and keys that belong to another kind of credential and would have no
/// effect.
fn check(keys: &CredentialKeys, reader: &Reader<'_>) {
    let kind = KINDS.iter().find(|(kind, ..)| *kind == keys.kind);
    let Some((kind, required, optional)) = kind else {
        return;
    };
    for key in required.iter().filter(|key| !reader.has(key)) {
        reader.missing("key", key);
    }
    for Key { name, .. } in CredentialKeys::keys() {
        let is_read = match name {
            "kind" => true,
            "scope" | "token_timeout_seconds" => *kind != SHARED_KEY,
            _ => required.contains(&name) || optional.contains(&name),
        };
        if reader.has(name) && !is_read {
            let error = format!("`{name}` does not go with kind `{kind}`");
            reader.error(reader.key_span(name), error);
        }
    }
    if *kind == ON_BEHALF_OF {
        check_on_behalf_of(reader);
    }
}

/// Reports a missing or ambiguous credential of the application, and a file without issuers, whose tokens are
/// exchanged.
fn check_on_behalf_of(reader: &Reader<'_>) {
    match (reader.has("secret_file"), reader.has("token_file")) {
        (true, false) | (false, true) => {}
        (false, false) => {
            let error = "kind `on_behalf_of` needs either `secret_file` or `token_file`";
            reader.error(reader.span(), error);
        }
        (true, true) => {
            let error = "kind `on_behalf_of` needs either `secret_file` or `token_file`, not both";
            reader.error(reader.key_span("token_file"), error);
        }
    }
    let mut issuers = reader.strings_in_array("jwt_issuers", "issuer");
    if issuers.next().is_none() {
        let error = "kind `on_behalf_of` needs [[jwt_issuers]]: it exchanges the tokens of callers, and without an \
                     issuer no caller can show one";
        reader.error(reader.value_span("kind"), error);
    }
}

impl CredentialKeys {
    /// Returns the credential, or `None` if a key that its kind requires is missing.
    pub fn credential(self) -> Option<Credential> {
        let mut timeout = Entra::TOKEN_TIMEOUT;
        let kind = match self.kind {
            SHARED_KEY => {
                return Some(Credential::SharedKey {
                    account: self.account_name?,
                    key: self.key_file?,
                });
            }
            ON_BEHALF_OF => {
                let secret = self.secret_file.map(ClientProof::Secret);
                return Some(Credential::OnBehalfOf(OnBehalfOf {
                    tenant_id: self.tenant_id?,
                    client_id: self.client_id?,
                    proof: secret.or(self.token_file.map(ClientProof::TokenFile))?,
                    authority: self.authority,
                    scope: self.scope,
                    token_timeout: self.token_timeout_seconds.unwrap_or(timeout),
                }));
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
