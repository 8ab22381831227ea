//! The configuration: one TOML file, checked as a whole before anything starts, and again whenever it changes.

mod batch_accounts;
mod callers;
mod credential;
pub mod diagnostics;
pub mod files;
mod hmcs;
pub mod keys;
mod model;
pub mod pem;
mod reader;
mod references;
pub mod secret;
mod server;
pub mod targets;
pub mod tls;
mod tracing;
pub mod urls;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use toml::{Table, Value, de::DeTable};

pub use self::{
    batch_accounts::BatchAccount,
    credential::{Credential, DEFAULT_SCOPE, Entra, EntraKind},
    hmcs::Hmc,
    model::*,
};
use self::{diagnostics::Faults, reader::Section, secret::SecretSource, tls::TlsFiles};
use crate::file_fingerprint::FileFingerprint;

/// Everything that the operator decides.
#[derive(Clone)]
pub struct Config {
    /// Where it was read; `None` when it was made in this process.
    pub file: Option<PathBuf>,
    /// The listener.
    pub server: Server,
    /// The audit log.
    pub audit: Audit,
    /// Where traces are sent.
    pub tracing: Tracing,
    /// Azure Batch accounts by alias.
    pub batch_accounts: BTreeMap<String, Target<BatchAccount>>,
    /// HMCs by alias.
    pub hmcs: BTreeMap<String, Target<Hmc>>,
    /// Who may do what.
    pub callers: Vec<Caller>,
    /// Whose bearer tokens are believed.
    pub jwt_issuers: Vec<JwtIssuer>,
    /// What takes effect at a restart alone.
    pub fixed: Table,
    /// Files as they were before they were read.
    pub stamps: BTreeMap<PathBuf, FileFingerprint>,
    /// Warnings, with file, line and column.
    pub warnings: Vec<String>,
}

impl Config {
    /// Logs the warnings.
    pub fn log_warnings(&self) {
        for warning in &self.warnings {
            ::tracing::warn!(warning, "configuration warning");
        }
    }

    /// Returns the tables of targets, one for each kind.
    #[must_use]
    pub fn tables(&self) -> [&dyn targets::Table; 2] {
        [&self.batch_accounts, &self.hmcs]
    }

    /// Returns the sources of all secrets.
    #[must_use]
    pub fn secrets(&self) -> Vec<SecretSource> {
        let secrets = self.tables().map(targets::Table::secrets);
        secrets.into_iter().flatten().collect()
    }

    /// Returns the files that a library reads by itself.
    #[must_use]
    pub fn token_files(&self) -> Vec<PathBuf> {
        let files = self.tables().map(targets::Table::token_files);
        files.into_iter().flatten().collect()
    }

    /// The files whose content is part of the configuration, and the one that names them.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        let targets = self.tables().into_iter().flat_map(targets::Table::roots);
        let issuers = self
            .jwt_issuers
            .iter()
            .filter_map(|issuer| match &issuer.jwks {
                Jwks::Url { roots, .. } => Some(roots),
                Jwks::File(_) => None,
            });
        let collector = std::iter::once(&self.tracing.roots);
        let roots = targets.chain(issuers).chain(collector);
        let roots = roots.filter_map(|roots| roots.file.as_ref());
        self.file.iter().chain(roots).cloned().collect()
    }
}

/// Reads and checks a file.
pub fn load(path: &Path) -> Result<Config, Faults> {
    // Only a first reading tells which files there are. What changes after their stamps are taken is found by whoever
    // compares them.
    let (named, _) = read(path, &source(path)?);
    let stamps = named.as_ref().map(stamps).unwrap_or_default();
    let (config, faults) = read(path, &source(path)?);
    let config = config.filter(|_| faults.is_empty()).ok_or(faults)?;
    Ok(Config { stamps, ..config })
}

fn stamps(config: &Config) -> BTreeMap<PathBuf, FileFingerprint> {
    let tls = config.server.tls.iter().flat_map(TlsFiles::paths);
    let files = config.files().into_iter().chain(tls);
    files
        .map(|file| (file.clone(), FileFingerprint::of(&file)))
        .collect()
}

/// Reads a file that has changed under a running server. Secrets, key sets and certificates of the server are looked at
/// by themselves: if one is bad, the rest is taken up all the same.
pub fn load_again(path: &Path) -> Result<Config, Faults> {
    let (config, faults) = read(path, &source(path)?);
    config.filter(|_| faults.barring() == 0).ok_or(faults)
}

/// Checks a file, which may be a pipe, without serving it: it is read only once.
pub fn check(path: &Path) -> Result<Config, Faults> {
    let text = files::read_piped_text(path, files::MAX_BYTES);
    parse(
        path,
        &text.map_err(|error| Faults::unreadable(path, &error))?,
    )
}

/// Checks the text of a file; relative paths start at the folder of `path`.
pub fn parse(path: &Path, source: &str) -> Result<Config, Faults> {
    let (config, faults) = read(path, source);
    config.filter(|_| faults.is_empty()).ok_or(faults)
}

fn source(path: &Path) -> Result<String, Faults> {
    match files::read_text(path, files::MAX_BYTES) {
        Ok(mut text) => Ok(std::mem::take(&mut *text)),
        Err(error) => Err(Faults::unreadable(path, &error)),
    }
}

/// All that can be read, and all faults; nothing when it is no TOML.
fn read(path: &Path, source: &str) -> (Option<Config>, Faults) {
    let mut faults = Faults::new(path, source);
    let (root, errors) = DeTable::parse_recoverable(source);
    faults.add_syntax_errors(&errors);
    if !faults.is_empty() {
        return (None, faults);
    }
    let folder = path.parent().unwrap_or(Path::new(""));
    faults.hide_values(root.get_ref());
    let file = Section::new("", root.get_ref(), 0..0, &mut faults);
    let jwt_issuers = callers::jwt_issuers(&file, folder, &mut faults);
    let mut config = Config {
        file: Some(path.to_owned()),
        server: server::server(&file, folder, &mut faults),
        audit: server::audit(&file, folder, &mut faults),
        tracing: tracing::tracing(&file, folder, &mut faults),
        callers: callers::callers(&file, &jwt_issuers, &mut faults),
        jwt_issuers,
        fixed: Table::new(),
        stamps: BTreeMap::new(),
        warnings: Vec::new(),
        batch_accounts: targets::read(&file, folder, &mut faults),
        hmcs: targets::read(&file, folder, &mut faults),
    };
    if config.tables().iter().all(|table| table.is_empty()) && faults.is_empty() {
        let names = config
            .tables()
            .map(|table| format!("no [{}.ALIAS]", table.name()));
        faults.add(0..0, names.join(" and "));
    }
    config.fixed = fixed(source, &config.tables().map(targets::Table::name));
    config.warnings = faults.warnings();
    (Some(config), faults)
}

/// The keys, with the names of their tables, whose values differ.
#[must_use]
pub fn differences(before: &Table, after: &Table) -> Vec<String> {
    let keys: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let mut names = Vec::new();
    for key in keys {
        match (before.get(key), after.get(key)) {
            (Some(before), Some(after)) if before == after => {}
            (Some(Value::Table(before)), Some(Value::Table(after))) => {
                let inner = differences(before, after).into_iter();
                names.extend(inner.map(|name| format!("{key}.{name}")));
            }
            _ => names.push(key.clone()),
        }
    }
    names
}

/// The file without what is taken up when it changes.
fn fixed(source: &str, targets: &[&str]) -> Table {
    // It has been read once already.
    let mut file: Table = source.parse().unwrap_or_default();
    for key in ["callers", "jwt_issuers"] {
        file.remove(key);
    }
    for kind in targets {
        let targets = file.get_mut(*kind).and_then(Value::as_table_mut);
        for (_, target) in targets.into_iter().flatten() {
            if let Some(target) = target.as_table_mut() {
                target.remove("protected_users");
            }
        }
    }
    file
}
