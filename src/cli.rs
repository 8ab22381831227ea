//! The command line: parse, load, start, stop.

mod audit;
mod health;

use std::{
    collections::BTreeMap, io::Write as _, net::SocketAddr, path::PathBuf, process::ExitCode,
};

use clap::{ArgGroup, Args, Parser, Subcommand};
use url::Url;

use crate::{
    config::{
        self, Allow, Audit, AuditSink, BatchAccount, BulkheadLimits, Caller, Config, Credential,
        Entra, EntraKind, Hmc,
        secret::{Secret, SecretSource},
    },
    identity::Identity,
    pattern::Pattern,
    sandbox::Sandbox,
    server::Server,
    signals, telemetry,
};

const DEFAULT_ADDRESS: &str = "127.0.0.1:50051";
/// A bad configuration, for `serve` as for `check-config`.
const BAD_CONFIGURATION: u8 = 2;

/// Deletes users of Azure Batch compute nodes and of IBM Z HMCs, behind one gRPC service.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve gRPC.
    Serve(Serve),
    /// Check a configuration file: exit 0, or 2 with every fault on standard error.
    CheckConfig {
        /// The file.
        #[arg(long)]
        config: PathBuf,
    },
    /// Ask a server for its health: exit 0 when it serves, else 1.
    Health(health::Health),
    /// What concerns the audit log.
    #[command(subcommand)]
    Audit(audit::Audit),
}

#[derive(Args)]
#[command(group(ArgGroup::new("source").required(true).args(["config", "sandbox"])))]
struct Serve {
    /// The configuration file.
    #[arg(long, conflicts_with = "listen")]
    config: Option<PathBuf>,
    /// Simulate both upstreams in this process; needs no file and no credentials.
    #[arg(long)]
    sandbox: bool,
    /// Where the sandbox serves gRPC.
    #[arg(long, requires = "sandbox", default_value = DEFAULT_ADDRESS)]
    listen: SocketAddr,
}

/// Runs the program.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("cannot start: {error}"), 1),
    };
    let code = runtime.block_on(async {
        match arguments.command {
            Command::CheckConfig { config } => match config::load(&config) {
                Ok(_) => ExitCode::SUCCESS,
                Err(faults) => fail(&faults.to_string(), BAD_CONFIGURATION),
            },
            Command::Health(health) => health::run(health).await,
            Command::Serve(serve) => self::serve(serve).await,
            Command::Audit(command) => audit::run(command),
        }
    });
    // What is still running has had its time.
    runtime.shutdown_background();
    code
}

/// Says it to whoever reads standard error, if anybody does.
fn tell(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

fn fail(text: &str, code: u8) -> ExitCode {
    tell(text.trim_end());
    ExitCode::from(code)
}

/// The same once logging has started: a line of the log.
fn end(error: &str) -> ExitCode {
    telemetry::fatal(error);
    ExitCode::FAILURE
}

async fn serve(arguments: Serve) -> ExitCode {
    if let Some(path) = arguments.config {
        let config = match config::load(&path) {
            Ok(config) => config,
            Err(faults) => return fail(&faults.to_string(), BAD_CONFIGURATION),
        };
        telemetry::start();
        if let Err(error) = signals::ignore_hangup().and_then(|()| signals::ignore_file_limit()) {
            tracing::warn!(%error, "SIGHUP, or a limit on the size of files, will end the server");
        }
        return run(&config, |_| {}).await;
    }
    telemetry::start();
    let sandbox = match Sandbox::start().await {
        Ok(sandbox) => sandbox,
        Err(error) => return end(&format!("the sandbox cannot start: {error}")),
    };
    match sandbox_config(&sandbox, arguments.listen) {
        Ok(config) => run(&config, |address| tell(&sandbox.guide(address))).await,
        Err(error) => end(&error),
    }
}

async fn run(config: &Config, ready: impl FnOnce(SocketAddr)) -> ExitCode {
    let (stop, hurry) = match signals::stop() {
        Ok(signals) => signals,
        Err(error) => return end(&format!("cannot wait for signals: {error}")),
    };
    let server = match Server::bind(config).await {
        Ok(server) => server,
        Err(error) => return end(&error),
    };
    let address = match server.address() {
        Ok(address) => address,
        Err(error) => return end(&error.to_string()),
    };
    ready(address);
    if announce(address).is_err() {
        return end("standard output is closed");
    }
    match server.run(stop, hurry).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => end(&error),
    }
}

/// The one line that scripts wait for.
fn announce(address: SocketAddr) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "listening on {address}")?;
    stdout.flush()
}

/// The configuration that goes with a sandbox: the alias `sandbox` on both upstreams, and `anonymous` may
/// do everything.
pub fn sandbox_config(sandbox: &Sandbox, listen: SocketAddr) -> Result<Config, String> {
    let url = |text: &str| Url::parse(text).map_err(|error| error.to_string());
    let memory = |text: &str| SecretSource::Memory(Secret::new(text.to_owned()));
    let known = sandbox.credentials();
    let account = BatchAccount {
        url: url(sandbox.batch_url())?,
        roots: config::Roots::default(),
        protected_users: Vec::new(),
        bulkhead: BulkheadLimits::BATCH,
        credential: Credential::Entra(Entra {
            kind: EntraKind::ClientSecret {
                tenant_id: known.tenant_id.clone(),
                client_id: known.client_id.clone(),
                secret: memory(&known.client_secret),
            },
            authority: Some(url(sandbox.authority_url())?),
            scope: config::DEFAULT_SCOPE.to_owned(),
        }),
    };
    let hmc = Hmc {
        url: url(sandbox.hmc_url())?,
        userid: known.hmc_userid.clone(),
        password: memory(&known.hmc_password),
        logon_timeout: Hmc::LOGON_TIMEOUT,
        roots: config::Roots::default(),
        protected_users: Vec::new(),
        bulkhead: BulkheadLimits::HMC,
    };
    let allow = config::RPCS.map(|rpc| Allow {
        rpc,
        targets: vec![Pattern::exact("*")],
        pools: None,
    });
    Ok(Config {
        file: None,
        fixed: toml::Table::new(),
        stamps: BTreeMap::new(),
        jwt_issuers: Vec::new(),
        server: config::Server {
            listen,
            admin_listen: None,
            ..config::Server::default()
        },
        audit: Audit {
            sink: AuditSink::Nowhere,
            sync: false,
        },
        batch_accounts: BTreeMap::from([("sandbox".to_owned(), account)]),
        hmcs: BTreeMap::from([("sandbox".to_owned(), hmc)]),
        callers: vec![Caller {
            identity: Identity::Anonymous,
            allow: allow.to_vec(),
            deletes_per_minute: None,
        }],
    })
}
