//! `[batch_accounts.ALIAS.credential]`, whose keys depend on its kind.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use url::Url;

use super::{
    diagnostics::Faults,
    files,
    reader::{Placed, Section},
    references::secret,
    secret::{Form, SecretSource},
    urls::Shape,
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
    /// How long a call waits for a token, unless the configuration says otherwise.
    pub const TOKEN_TIMEOUT: Duration = Duration::from_secs(8);
    /// The same for the Azure CLI, which takes 10 to 15 seconds on small machines. Less than the default deadline
    /// of a call, so that a call without one fails with the cause.
    pub const AZURE_CLI_TIMEOUT: Duration = Duration::from_secs(25);
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

const KINDS: [&str; 5] = [
    "client_secret",
    "workload_identity",
    "managed_identity",
    "azure_cli",
    "shared_key",
];

/// `[batch_accounts.ALIAS.credential]`
pub fn credential(account: &Section, folder: &Path, faults: &mut Faults) -> Option<Credential> {
    if !account.has("credential") {
        faults.add(account.span(), "missing table `credential`");
        return None;
    }
    let section = account.table("credential", "batch_accounts.ALIAS.credential", faults)?;
    let kind = section.required("kind", faults)?;
    let before = faults.barring();
    for key in keys_of_other_kinds(&kind.value, &section) {
        faults.add(
            section.key_span(key),
            format!("`{key}` does not go with kind `{}`", kind.value),
        );
    }
    if KINDS.contains(&kind.value.as_str()) {
        faults.reveal(&kind.span);
    }
    if kind.value == "shared_key" {
        return shared_key(&section, folder, faults);
    }
    let tenant_id = tenant_id(&section, faults);
    let client_id = optional(&section, "client_id", faults);
    let entra = match kind.value.as_str() {
        "client_secret" => client_secret(&section, tenant_id, client_id, folder, faults),
        "workload_identity" => Some(EntraKind::WorkloadIdentity {
            tenant_id,
            client_id,
            token_file: token_file(&section, folder, faults),
        }),
        "managed_identity" => Some(EntraKind::ManagedIdentity { client_id }),
        "azure_cli" => Some(EntraKind::AzureCli { tenant_id }),
        _ => {
            let kinds = KINDS.join(", ");
            faults.add(kind.span, format!("`kind` must be one of {kinds}"));
            None
        }
    };
    let authority = section
        .has("authority")
        .then(|| section.url("authority", Shape::Origin, false, faults))
        .flatten();
    let scope = scope(&section, faults);
    let timeout = section.number("token_timeout_seconds", 1..=60, faults);
    let kind = entra.filter(|_| faults.barring() == before)?;
    let usual = match kind {
        EntraKind::AzureCli { .. } => Entra::AZURE_CLI_TIMEOUT,
        _ => Entra::TOKEN_TIMEOUT,
    };
    Some(Credential::Entra(Entra {
        kind,
        authority,
        scope,
        token_timeout: timeout.map_or(usual, |seconds| Duration::from_secs(seconds.into())),
    }))
}

/// A key that the kind does not read would be a setting without effect.
fn keys_of_other_kinds(kind: &str, section: &Section) -> Vec<&'static str> {
    let unused: &[&str] = match kind {
        "client_secret" => &["token_file", "account_name", "key_file"],
        "workload_identity" => &["secret_file", "account_name", "key_file"],
        "managed_identity" => &[
            "tenant_id",
            "secret_file",
            "token_file",
            "authority",
            "account_name",
            "key_file",
        ],
        "azure_cli" => &[
            "client_id",
            "secret_file",
            "token_file",
            "authority",
            "account_name",
            "key_file",
        ],
        "shared_key" => &[
            "tenant_id",
            "client_id",
            "secret_file",
            "token_file",
            "authority",
            "scope",
            "token_timeout_seconds",
        ],
        _ => &[],
    };
    unused
        .iter()
        .copied()
        .filter(|key| section.has(key))
        .collect()
}

fn optional(section: &Section, key: &str, faults: &mut Faults) -> Option<String> {
    if !section.has(key) {
        return None;
    }
    section.identifier(key, faults).map(|placed| placed.value)
}

fn scope(section: &Section, faults: &mut Faults) -> String {
    optional(section, "scope", faults).unwrap_or_else(|| DEFAULT_SCOPE.to_owned())
}

fn client_secret(
    section: &Section,
    tenant_id: Option<String>,
    client_id: Option<String>,
    folder: &Path,
    faults: &mut Faults,
) -> Option<EntraKind> {
    for key in ["tenant_id", "client_id"] {
        if !section.has(key) {
            faults.add(section.span(), format!("missing key `{key}`"));
        }
    }
    let secret = secret(section, "secret_file", Form::Text, folder, faults);
    Some(EntraKind::ClientSecret {
        tenant_id: tenant_id?,
        client_id: client_id?,
        secret: secret?,
    })
}

/// It becomes part of a URL.
fn tenant_id(section: &Section, faults: &mut Faults) -> Option<String> {
    if !section.has("tenant_id") {
        return None;
    }
    let text = section.required("tenant_id", faults)?;
    if !names::is_made_of(&text.value, b".-") {
        let rule = "`tenant_id` holds letters, digits, `.` and `-` only";
        faults.add(text.span, rule);
    }
    Some(text.value)
}

fn token_file(section: &Section, folder: &Path, faults: &mut Faults) -> Option<PathBuf> {
    if !section.has("token_file") {
        return None;
    }
    let Placed { value: path, span } = section.path("token_file", folder, faults)?;
    let shown = files::shown(&path);
    match files::read_secret(&path) {
        Ok(token) => {
            if let Some(doubt) = files::doubt(&token) {
                faults.warn(span, format!("`token_file`: the token {doubt}{shown}"));
            }
        }
        Err(error) => {
            faults.add_of_content(span, format!("`token_file` cannot be read: {error}{shown}"));
        }
    }
    Some(path)
}

fn shared_key(section: &Section, folder: &Path, faults: &mut Faults) -> Option<Credential> {
    let account = section.required("account_name", faults);
    let key = secret(section, "key_file", Form::Base64, folder, faults);
    if let Some(account) = &account
        && !names::is_made_of(&account.value, b"")
    {
        let rule = "`account_name` holds letters and digits only";
        faults.add(account.span.clone(), rule);
    }
    Some(Credential::SharedKey {
        account: account?.value,
        key: key?,
    })
}
