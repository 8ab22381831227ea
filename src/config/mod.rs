//! The configuration: one TOML file, checked as a whole before anything starts, and again whenever it changes.

mod audit;
mod batch_accounts;
mod callers;
mod credential;
pub mod diagnostics;
pub mod files;
mod hmcs;
mod jwt_issuers;
pub mod pem;
mod platforms;
mod reader;
pub mod schema;
pub mod secret;
mod server;
mod table;
pub mod targets;
pub mod tls;
mod tracing;
pub mod urls;
mod values;

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::LazyLock,
};

use toml::{Table, Value, de::DeTable};

pub use self::{
    audit::{Audit, AuditSink},
    batch_accounts::BatchAccount,
    callers::{Allow, Caller},
    credential::{Credential, DEFAULT_SCOPE, Entra, EntraKind},
    hmcs::Hmc,
    jwt_issuers::{Jwks, JwtIssuer},
    platforms::Targets,
    server::{Audience, Limits, Server},
    targets::{BulkheadLimits, Target},
    tracing::Tracing,
    values::Roots,
};
use self::{
    callers::CallerKeys,
    diagnostics::Diagnostics,
    jwt_issuers::JwtIssuerKeys,
    reader::{Context, Reader},
    schema::Key,
    secret::SecretSource,
    table::{Table as _, table},
    tls::TlsFiles,
    values::{flattened, subtable, subtable_or_defaults, subtables},
};
use crate::file_fingerprint::FileFingerprint;

/// All keys of the file.
pub static KEYS: LazyLock<Vec<Key>> = LazyLock::new(Keys::keys);

table! {
    /// The top level of the file.
    #[table("")]
    struct Keys {
        /// The listener.
        server: Server = subtable_or_defaults();
        /// Where every deletion is recorded.
        audit: Audit = subtable_or_defaults();
        /// Where traces are sent.
        tracing: Option<Tracing> = subtable().optional("none: nothing is exported");
        /// The targets of all platforms.
        targets: Targets = flattened();
        /// Who may do what. Nothing is allowed that is not listed.
        callers: Vec<CallerKeys> = subtables().default_as("none: every call is refused", Vec::new());
        /// Whose JSON Web Tokens are believed. With at least one, a caller must show a token or a client certificate.
        jwt_issuers: Vec<JwtIssuerKeys> = subtables().default_as("none", Vec::new());
    }
}

/// The checked configuration.
#[derive(Clone)]
pub struct Config {
    /// The file; `None` if the configuration was created in this process.
    pub file: Option<PathBuf>,
    /// The listener.
    pub server: Server,
    /// The audit log.
    pub audit: Audit,
    /// Where traces are sent.
    pub tracing: Option<Tracing>,
    /// Targets by platform and alias.
    pub targets: Targets,
    /// Callers with their permissions.
    pub callers: Vec<Caller>,
    /// Issuers of bearer tokens.
    pub jwt_issuers: Vec<JwtIssuer>,
    /// The keys that take effect at a restart only.
    pub fixed: Table,
    /// The files of [`Self::files`] and of `[server.tls]` as they were before they were read.
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

    /// Returns the sources of all secrets.
    #[must_use]
    pub fn secrets(&self) -> Vec<SecretSource> {
        let targets = self.targets.all().into_iter();
        targets.flat_map(|target| target.secrets).collect()
    }

    /// Returns the files that a library reads by itself.
    #[must_use]
    pub fn token_files(&self) -> Vec<PathBuf> {
        let targets = self.targets.all().into_iter();
        targets.flat_map(|target| target.token_files).collect()
    }

    /// Returns the files whose content is part of the configuration, and the one that names them.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        let targets = self.targets.all().into_iter().map(|target| target.roots);
        let issuers = self.jwt_issuers.iter();
        let issuers = issuers.filter_map(|issuer| match &issuer.jwks {
            Jwks::Url { roots, .. } => Some(roots),
            Jwks::File(_) => None,
        });
        let collector = self.tracing.iter().map(|tracing| &tracing.roots);
        let roots = targets.chain(issuers).chain(collector);
        let roots = roots.filter_map(|roots| roots.file.as_ref());
        self.file.iter().chain(roots).cloned().collect()
    }

    fn new(path: &Path, source: &str, keys: Keys, reader: &Reader<'_>) -> Self {
        let jwt_issuers = jwt_issuers::issuers(keys.jwt_issuers, reader);
        Self {
            file: Some(path.to_owned()),
            server: keys.server,
            audit: keys.audit,
            tracing: keys.tracing,
            targets: keys.targets,
            callers: callers::callers(keys.callers, &jwt_issuers, reader),
            jwt_issuers,
            fixed: fixed(source),
            stamps: BTreeMap::new(),
            warnings: Vec::new(),
        }
    }
}

/// Reads and checks a file.
pub fn load(path: &Path) -> Result<Config, Diagnostics> {
    // Only a first reading tells which files there are. What changes after their stamps are taken is found by whoever
    // compares them.
    let named = parse(path, &source(path)?)?;
    let tls = named.server.tls.iter().flat_map(TlsFiles::paths);
    let files = named.files().into_iter().chain(tls);
    let stamps = files
        .map(|file| (file.clone(), FileFingerprint::of(&file)))
        .collect();
    let config = parse(path, &source(path)?)?;
    Ok(Config { stamps, ..config })
}

/// Reads a file that has changed under a running server. Secrets, key sets and certificates of the server are looked at
/// by themselves: if one is bad, the rest is taken up all the same.
pub fn load_again(path: &Path) -> Result<Config, Diagnostics> {
    let (config, diagnostics) = read(path, &source(path)?);
    let config = config.filter(|_| !diagnostics.reject_reload());
    config.ok_or(diagnostics)
}

/// Checks a file, which may be a pipe, without serving it: it is read only once.
pub fn check(path: &Path) -> Result<Config, Diagnostics> {
    let text = files::read_piped_text(path, files::MAX_BYTES);
    parse(path, &text.map_err(|error| unreadable(path, &error))?)
}

/// Checks the text of a file; relative paths start at the folder of `path`.
pub fn parse(path: &Path, source: &str) -> Result<Config, Diagnostics> {
    let (config, diagnostics) = read(path, source);
    let config = config.filter(|_| diagnostics.is_empty());
    config.ok_or(diagnostics)
}

/// Returns the configuration of an empty file, which has no targets.
#[must_use]
pub fn defaults() -> Option<Config> {
    let (config, _no_targets) = read(Path::new(""), "");
    Some(Config {
        file: None,
        ..config?
    })
}

fn source(path: &Path) -> Result<String, Diagnostics> {
    match files::read_text(path, files::MAX_BYTES) {
        Ok(mut text) => Ok(std::mem::take(&mut *text)),
        Err(error) => Err(unreadable(path, &error)),
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> Diagnostics {
    Diagnostics::unreadable(path, error, &KEYS)
}

/// Returns the configuration unless a required value is missing or invalid, and all errors and warnings.
fn read(path: &Path, source: &str) -> (Option<Config>, Diagnostics) {
    let mut diagnostics = Diagnostics::new(path, source, &KEYS);
    let (root, errors) = DeTable::parse_recoverable(source);
    diagnostics.syntax_errors(&errors);
    if !diagnostics.is_empty() {
        return (None, diagnostics);
    }
    diagnostics.hide_values(root.get_ref());
    let context = Context {
        folder: path.parent().unwrap_or(Path::new("")),
        keys: &KEYS,
        diagnostics: RefCell::new(diagnostics),
    };
    let reader = Reader::new(&context, Keys::NAME, root.get_ref(), 0..0);
    let keys = Keys::read(&reader);
    let mut config = keys.map(|keys| Config::new(path, source, keys, &reader));
    let mut diagnostics = context.diagnostics.into_inner();
    if let Some(config) = &mut config {
        if diagnostics.is_empty() && config.targets.all().is_empty() {
            let tables = Targets::TABLES.iter();
            let missing: Vec<_> = tables.map(|table| format!("no [{table}.ALIAS]")).collect();
            diagnostics.error(0..0, missing.join(" and "));
        }
        config.warnings = diagnostics.warnings();
    }
    (config, diagnostics)
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
fn fixed(source: &str) -> Table {
    // It has been read once already.
    let mut file: Table = source.parse().unwrap_or_default();
    for key in ["callers", "jwt_issuers"] {
        file.remove(key);
    }
    for table in Targets::TABLES {
        let targets = file.get_mut(*table).and_then(Value::as_table_mut);
        for (_, target) in targets.into_iter().flatten() {
            if let Some(target) = target.as_table_mut() {
                target.remove("protected_users");
            }
        }
    }
    file
}
