//! The configuration: one TOML file. It is checked completely before the server starts, and again whenever it
//! changes.

mod api_version;
mod audit;
mod batch_accounts;
mod callers;
mod diagnostics;
pub(crate) mod files;
mod hmcs;
mod jwt_issuers;
pub(crate) mod pem;
mod platforms;
mod reader;
mod schema;
pub(crate) mod secret;
mod server;
mod source;
mod store;
mod table;
mod targets;
pub(crate) mod tls;
mod tracing;
pub mod urls;
mod values;

use std::{collections::BTreeSet, io, path::Path, sync::LazyLock};

use toml::de::DeTable;
use zeroize::Zeroizing;

pub use self::{
    api_version::{API_VERSIONS, ApiVersion},
    audit::{Audit, AuditSink},
    batch_accounts::{
        BatchAccount, ClientProof, Credential, DEFAULT_SCOPE, Entra, EntraKind, OnBehalfOf,
    },
    callers::{Allow, Caller},
    diagnostics::Diagnostics,
    hmcs::Hmc,
    jwt_issuers::{Jwks, JwtIssuer},
    platforms::Targets,
    schema::Key,
    server::{Limits, Server},
    source::{Source, differences},
    store::{Postgres, Store, database_name, is_loopback, parse_url},
    targets::{PlatformSettings, Target, TargetSummary},
    tracing::Tracing,
    values::Roots,
};
use self::{
    reader::{Context, Reader},
    table::{Kind, Table as _, table},
    values::{flattened, subtable, subtable_or_defaults, subtables},
};
use crate::{
    file_fingerprint::FileFingerprint,
    identity::{Identity, SUBJECT_SEPARATOR},
};

/// All keys that the file can have.
pub static KEYS: LazyLock<Vec<Key>> = LazyLock::new(Config::keys);

table! {
    /// The checked configuration.
    #[table("", check = check)]
    pub struct Config {
        /// The listener.
        server: Server = subtable_or_defaults();
        /// The audit log, which records every deletion.
        audit: Audit = subtable_or_defaults();
        /// The state that survives a process, or that replicas share.
        store: Store = subtable_or_defaults();
        /// The export of traces.
        tracing: Option<Tracing> = subtable().optional("none: nothing is exported");
        /// The targets of all platforms.
        targets: Targets = flattened();
        /// The callers and their permissions. Calls that are not listed are denied.
        callers: Vec<Caller> = subtables().default_as("none: every call is refused", Vec::new());
        /// Trusted issuers of JSON Web Tokens. With at least one, a caller must present a token or a client
        /// certificate.
        jwt_issuers: Vec<JwtIssuer> = subtables().default_as("none", Vec::new());
        /// The origin of the configuration.
        source: Source = Kind::derived(|_| Some(Source::default()));
    }
}

/// Reads and checks a file, for the start of a server. Returns all errors if there is any.
pub fn load(path: &Path) -> Result<Config, Diagnostics> {
    let fingerprint = FileFingerprint::of(path);
    let mut config = parse(path, &read_source(path, files::read_text)?)?;
    let fingerprints = &mut config.source.fingerprints;
    fingerprints.insert(path.to_owned(), fingerprint);
    Ok(config)
}

/// Reads a file that has changed under a running server. Returns the diagnostics if the configuration cannot be used.
/// Secrets, key sets and certificates of the server are reloaded separately, so an error in one of them does not
/// prevent the use of the rest.
pub fn load_again(path: &Path) -> Result<Config, Diagnostics> {
    let (config, diagnostics) = read(path, &read_source(path, files::read_text)?);
    let config = config.filter(|_| !diagnostics.reject_reload());
    config.ok_or(diagnostics)
}

/// Reads and checks a file, which may be a pipe and is therefore read only once. Returns all errors if there is any.
pub fn check_file(path: &Path) -> Result<Config, Diagnostics> {
    parse(path, &read_source(path, files::read_piped_text)?)
}

fn read_source(
    path: &Path,
    read: fn(&Path) -> io::Result<Zeroizing<String>>,
) -> Result<Zeroizing<String>, Diagnostics> {
    read(path).map_err(|error| Diagnostics::unreadable(path, &error, &KEYS))
}

/// Checks the text of a configuration file. Paths in it are relative to the folder of `path`.
pub fn parse(path: &Path, text: &str) -> Result<Config, Diagnostics> {
    let (config, diagnostics) = read(path, text);
    let config = config.filter(|_| diagnostics.is_empty());
    config.ok_or(diagnostics)
}

/// Returns the configuration of an empty file, which has no targets.
pub fn defaults() -> Option<Config> {
    let (config, _no_targets) = read(Path::new(""), "");
    Some(Config {
        source: Source::default(),
        ..config?
    })
}

/// Returns the configuration, unless a required value is missing or invalid, and all errors and warnings.
fn read(path: &Path, text: &str) -> (Option<Config>, Diagnostics) {
    let mut diagnostics = Diagnostics::new(path, text, &KEYS);
    let (root, errors) = DeTable::parse_recoverable(text);
    diagnostics.syntax_errors(&errors);
    if !diagnostics.is_empty() {
        return (None, diagnostics);
    }
    let root = root.get_ref();
    diagnostics.hide_values(root);
    let context = Context::new(path, root, &KEYS, diagnostics);
    let config = Config::read(&Reader::new(&context, Config::NAME, root, 0..0));
    let (diagnostics, source) = context.into_results();
    let config = config.map(|config| Config {
        source: Source {
            path: Some(path.to_owned()),
            restart_keys: source::restart_keys(text, Targets::TABLES),
            warnings: diagnostics.warnings(),
            ..source
        },
        ..config
    });
    (config, diagnostics)
}

/// Reports callers and issuers that are listed twice and a missing target as errors, and unlikely identities and
/// missing callers as warnings.
fn check(config: &Config, reader: &Reader<'_>) {
    let issuer = |text: &str| text.to_owned();
    check_unique(
        reader,
        "jwt_issuers",
        "issuer",
        issuer,
        "this issuer is listed twice",
    );
    let caller = |text: &str| callers::parse_identity(reader, text).to_string();
    let error = "this caller is listed twice; put all that it may do into one `allow`";
    check_unique(reader, "callers", "identity", caller, error);
    for text in reader.strings_in_array("callers", "identity") {
        let identity = callers::parse_identity(reader, text.get_ref());
        if let Some(warning) = identity_warning(&identity, config) {
            reader.warn_at(text.span(), &format!("`identity` {warning}"));
        }
    }
    if config.callers.is_empty() {
        reader.warn_at(0..0, "no [[callers]]: every call is refused");
    }
    if config.targets.list().is_empty() && !reader.has_errors() {
        let tables = Targets::TABLES.iter();
        let missing: Vec<_> = tables.map(|table| format!("no [{table}.ALIAS]")).collect();
        reader.error(0..0, missing.join(" and "));
    }
}

impl Config {
    pub fn accepts_certificates(&self) -> bool {
        let tls = self.server.tls.as_ref();
        tls.is_some_and(|tls| tls.client_ca_file.is_some())
    }

    /// Returns whether a target is called under the identities of callers, and therefore needs their tokens.
    pub fn acts_for_callers(&self) -> bool {
        let targets = self.targets.list();
        targets.iter().any(|target| target.acts_for_callers)
    }
}

/// Returns the reason why an identity is probably a mistake, as the predicate of a sentence, or `None`.
fn identity_warning(identity: &Identity, config: &Config) -> Option<&'static str> {
    let has_certificates = config.accepts_certificates();
    match identity {
        Identity::Certificate(name) if name.contains(SUBJECT_SEPARATOR) => {
            Some("never occurs: no [[jwt_issuers]] has the `issuer` before the `#`")
        }
        Identity::Certificate(_) if !has_certificates => {
            Some("never occurs: client certificates need `client_ca_file` in [server.tls]")
        }
        Identity::Certificate(name) if name.contains('*') => {
            Some("is not a pattern: only a certificate with exactly this name has it")
        }
        Identity::Anonymous if has_certificates || !config.jwt_issuers.is_empty() => {
            Some("never occurs: every caller must have a certificate or a token")
        }
        Identity::Anonymous if !config.server.listen.ip().is_loopback() => {
            Some("is that of every client that can reach the address")
        }
        _ => None,
    }
}

/// Reports each table of the array `list` in which the value of `key` repeats that of an earlier table. `name`
/// converts values to the form in which they are compared.
fn check_unique(
    reader: &Reader<'_>,
    list: &'static str,
    key: &'static str,
    name: impl Fn(&str) -> String,
    error: &str,
) {
    let mut seen = BTreeSet::new();
    for text in reader.strings_in_array(list, key) {
        if !seen.insert(name(text.get_ref())) {
            reader.error(text.span(), error);
        }
    }
}
