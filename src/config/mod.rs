//! The configuration: one TOML file, read once, checked as a whole before anything starts.

mod callers;
mod credential;
pub mod fault;
pub mod keys;
mod model;
pub mod secret;
mod section;
mod server;
mod targets;
pub mod tls;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use toml::{Table, Value, de::DeTable};

pub use self::model::*;
use self::{fault::Faults, secret::SecretSource, section::Section};

/// The scope of Azure Batch tokens. The double slash is right: the audience ends in one.
pub const DEFAULT_SCOPE: &str = "https://batch.core.windows.net//.default";

/// The rpcs that `allow` can name.
pub const RPCS: [&str; 2] = ["DeleteBatchNodeUser", "DeleteHmcUser"];

/// Everything that the operator decides.
#[derive(Clone)]
pub struct Config {
    /// Where it was read; `None` when it was made in this process.
    pub file: Option<PathBuf>,
    /// The listener.
    pub server: Server,
    /// The audit log.
    pub audit: Audit,
    /// Azure Batch accounts by alias.
    pub batch_accounts: BTreeMap<String, BatchAccount>,
    /// HMCs by alias.
    pub hmcs: BTreeMap<String, Hmc>,
    /// Who may do what.
    pub callers: Vec<Caller>,
    /// Whose bearer tokens are believed.
    pub jwt_issuers: Vec<JwtIssuer>,
    /// What takes effect at a restart alone.
    pub fixed: Table,
}

impl Config {
    /// All secrets.
    #[must_use]
    pub fn secrets(&self) -> Vec<SecretSource> {
        let accounts = self.batch_accounts.values();
        let accounts = accounts.filter_map(|account| match &account.credential {
            Credential::SharedKey { key, .. } => Some(key),
            Credential::Entra(Entra {
                kind: EntraKind::ClientSecret { secret, .. },
                ..
            }) => Some(secret),
            Credential::Entra(_) => None,
        });
        let passwords = self.hmcs.values().map(|hmc| &hmc.password);
        accounts.chain(passwords).cloned().collect()
    }

    /// The files whose content is part of the configuration, and the one that names them.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        let accounts = self.batch_accounts.values().map(|account| &account.roots);
        let hmcs = self.hmcs.values().map(|hmc| &hmc.roots);
        let issuers = self
            .jwt_issuers
            .iter()
            .filter_map(|issuer| match &issuer.jwks {
                Jwks::Url { roots, .. } => Some(roots),
                Jwks::File(_) => None,
            });
        let roots = accounts.chain(hmcs).chain(issuers);
        let roots = roots.filter_map(|roots| roots.file.as_ref());
        self.file.iter().chain(roots).cloned().collect()
    }
}

/// Reads and checks a file.
pub fn load(path: &Path) -> Result<Config, Faults> {
    let (config, faults) = read(path, &source(path)?);
    config.filter(|_| faults.is_empty()).ok_or(faults)
}

/// Reads a file that has changed under a running server. Secrets, key sets and certificates of the server are looked at
/// by themselves: if one is bad, the rest is taken up all the same.
pub fn load_again(path: &Path) -> Result<Config, Faults> {
    let (config, faults) = read(path, &source(path)?);
    config.filter(|_| faults.allow_reload()).ok_or(faults)
}

/// Checks the text of a file; relative paths start at the folder of `path`.
pub fn parse(path: &Path, source: &str) -> Result<Config, Faults> {
    let (config, faults) = read(path, source);
    config.filter(|_| faults.is_empty()).ok_or(faults)
}

fn source(path: &Path) -> Result<String, Faults> {
    fs::read_to_string(path).map_err(|error| Faults::unreadable(path, &error))
}

/// All that can be read, and all faults; nothing when it is no TOML.
fn read(path: &Path, source: &str) -> (Option<Config>, Faults) {
    let mut faults = Faults::new(path, source);
    let (root, errors) = DeTable::parse_recoverable(source);
    for error in errors {
        faults.add(error.span().unwrap_or(0..0), error.message());
    }
    if !faults.is_empty() {
        return (None, faults);
    }
    let folder = path.parent().unwrap_or(Path::new(""));
    let file = Section::new("", root.get_ref(), 0..0, &mut faults);
    let jwt_issuers = callers::jwt_issuers(&file, folder, &mut faults);
    let config = Config {
        file: Some(path.to_owned()),
        server: server::server(&file, folder, &mut faults),
        audit: server::audit(&file, folder, &mut faults),
        callers: callers::callers(&file, &jwt_issuers, &mut faults),
        jwt_issuers,
        fixed: fixed(source),
        batch_accounts: targets::batch_accounts(&file, folder, &mut faults),
        hmcs: targets::hmcs(&file, folder, &mut faults),
    };
    if config.batch_accounts.is_empty() && config.hmcs.is_empty() && faults.is_empty() {
        faults.add(0..0, "no [batch_accounts.ALIAS] and no [hmcs.ALIAS]");
    }
    (Some(config), faults)
}

/// The file without what is taken up when it changes.
fn fixed(source: &str) -> Table {
    // It has been read once already.
    let mut file: Table = source.parse().unwrap_or_default();
    for key in ["callers", "jwt_issuers"] {
        file.remove(key);
    }
    for kind in ["batch_accounts", "hmcs"] {
        let targets = file.get_mut(kind).and_then(Value::as_table_mut);
        for (_, target) in targets.into_iter().flatten() {
            if let Some(target) = target.as_table_mut() {
                target.remove("protected_users");
            }
        }
    }
    file
}
