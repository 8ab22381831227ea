//! `useradmin check-config`: checks a configuration, summarizes it, and checks the credentials of its targets.

use std::{fmt::Write as _, path::PathBuf, pin::pin, process::ExitCode, time::Duration};

use clap::Args;
use futures_util::StreamExt as _;
use tokio::time::timeout;
use toml::Value;

use super::exit::{BAD_CONFIGURATION, fail, print, print_error};
use crate::{
    config::{self, Allow, Caller, Config},
    error::Failure,
    identity::Identity,
    metrics::Metrics,
    pattern::Pattern,
    service::open_database,
    telemetry,
    upstream::{
        deadline::Deadline,
        platform::CredentialCheck,
        registry::{CheckedTarget, Targets},
    },
};

/// Time limit for closing the sessions on the targets.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Args)]
pub struct CheckConfig {
    /// The file; a pipe such as /dev/stdin is possible.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Print a summary of a valid configuration to standard output, without secrets.
    #[arg(long)]
    verbose: bool,
    /// Check the store, and obtain a token, or log on and off, for each target. Nothing is deleted.
    #[arg(long)]
    connect: bool,
    /// Time limit of --connect for all targets together.
    #[arg(
        long,
        value_name = "SECONDS",
        requires = "connect",
        default_value_t = 30,
        value_parser = clap::value_parser!(u64).range(1..=600)
    )]
    timeout: u64,
}

pub async fn run(arguments: CheckConfig) -> ExitCode {
    let config = match config::check_file(&arguments.config) {
        Ok(config) => config,
        Err(errors) => return fail(&errors.to_string(), BAD_CONFIGURATION),
    };
    for warning in &config.source.warnings {
        print_error(warning);
    }
    if arguments.verbose {
        print(&summary(&config));
    }
    if !arguments.connect {
        return ExitCode::SUCCESS;
    }
    connect(&config, Duration::from_secs(arguments.timeout)).await
}

/// Checks the credential of each target, and prints a line for each. Returns a failure if the checks cannot run or a
/// credential is not accepted. Logs the same events as the server.
async fn connect(config: &Config, time: Duration) -> ExitCode {
    let _log = match telemetry::start(None) {
        Ok(log) => log,
        Err(error) => return fail(&format!("cannot start a thread: {error}"), 1),
    };
    let metrics = Metrics::default();
    let opened = open_database(config, &metrics).await;
    let opened = opened.and_then(|database| {
        let targets = Targets::new(config, &metrics, database.as_ref())?;
        Ok((database, targets))
    });
    let (database, targets) = match opened {
        Ok(opened) => opened,
        Err(error) => return fail(&error, BAD_CONFIGURATION),
    };
    let limits = Deadline::after(time).into();
    let mut code = ExitCode::SUCCESS;
    if let Some(database) = database {
        let checked = database.check().await;
        if checked.is_err() {
            code = ExitCode::FAILURE;
        }
        let result = checked.map_or_else(|error| format!("failed: {error}"), |()| "ok".to_owned());
        print(&format!("store: {result}"));
    }
    let mut checks = pin!(targets.check_credentials(&limits));
    while let Some(checked) = checks.next().await {
        if checked.1.is_err() {
            code = ExitCode::FAILURE;
        }
        print(&line(&checked));
    }
    // A session that is not closed in time expires on the upstream.
    let _closed = timeout(CLOSE_TIMEOUT, targets.close()).await;
    code
}

/// Returns the output line for the check of a target.
fn line((table, result): &CheckedTarget) -> String {
    match result {
        Ok(CredentialCheck::Accepted) => format!("{table}: ok"),
        Ok(CredentialCheck::NotChecked(why)) => format!("{table}: not checked: {why}"),
        Err(failure) => format!("{table}: failed: {}", reason(failure)),
    }
}

fn reason(failure: &Failure) -> String {
    let mut text = failure.reason.as_str_name().to_owned();
    // Writing to a string cannot fail.
    if let Some(cause) = failure.cause {
        let _ = write!(text, ": {cause}");
    }
    if let Some(code) = failure.aadsts_code() {
        let _ = write!(text, ": AADSTS{code}");
    }
    format!("{text}: {}", failure.context)
}

/// Returns the summary of a configuration.
fn summary(config: &Config) -> String {
    let server = &config.server;
    let mut lines = vec![
        format!(
            "gRPC: {}{}, {}",
            server.listen,
            default_mark(config, "server", "listen"),
            match &server.tls {
                Some(tls) if tls.client_ca_file.is_some() => "TLS with client certificates",
                Some(_) => "TLS without client certificates",
                None => "plaintext",
            },
        ),
        match server.admin_listen {
            Some(address) => {
                let mark = default_mark(config, "server", "admin_listen");
                format!("admin port: {address}{mark}")
            }
            None => "admin port: none".to_owned(),
        },
        log_line(config),
    ];
    for target in config.targets.list() {
        let version = target
            .api_version
            .map(|name| format!("api_version {name}, "));
        lines.push(format!(
            "{}: {}, {}{}, protected_users: {}",
            target.table,
            target.url,
            version.unwrap_or_default(),
            target.authentication,
            target.protected_users
        ));
    }
    for issuer in &config.jwt_issuers {
        lines.push(format!("issuer of tokens: {}", issuer.issuer));
    }
    for caller in &config.callers {
        lines.push(caller_line(caller));
        lines.extend(caller.allow.iter().map(allow_line));
    }
    lines.join("\n")
}

/// Returns the line about the audit log, or about the database that keeps it.
fn log_line(config: &Config) -> String {
    if config.store.postgres().is_some() {
        return format!("store: {}", config.store.summary());
    }
    let sync = if config.audit.sync {
        "synced"
    } else {
        "not synced"
    };
    let mark = default_mark(config, "audit", "file");
    format!("audit log: {}{mark}, {sync}", config.audit.sink)
}

/// Returns a space and `(default)` for a key that is not in the file, and an empty text for one that is.
fn default_mark(config: &Config, table: &str, key: &str) -> &'static str {
    let table = config.source.restart_keys.get(table);
    let table = table.and_then(Value::as_table);
    if table.is_some_and(|table| table.contains_key(key)) {
        ""
    } else {
        " (default)"
    }
}

fn caller_line(caller: &Caller) -> String {
    let limit = match caller.deletes_per_minute {
        Some(limit) => format!("{limit} deletions per minute"),
        None => "unlimited deletions per minute".to_owned(),
    };
    let authentication = match &caller.identity {
        Identity::Anonymous => "no authentication",
        Identity::Certificate(_) => "client certificate",
        Identity::Token { .. } => "token",
    };
    format!("caller {}: {authentication}, {limit}", caller.identity)
}

fn allow_line(allow: &Allow) -> String {
    let targets = patterns(&allow.targets);
    let pools = allow.pools.as_deref().map(patterns);
    let pools = pools.map(|pools| format!(", pools {pools}"));
    format!("  {} on {targets}{}", allow.rpc, pools.unwrap_or_default())
}

fn patterns(patterns: &[Pattern]) -> String {
    let texts: Vec<_> = patterns.iter().map(ToString::to_string).collect();
    texts.join(" ")
}
