//! Runs a server with a configuration, which is read from a file or created for the sandbox.

use std::{io::Write as _, net::SocketAddr, time::Duration};

use tokio::{task::spawn_blocking, time::timeout};

use crate::{config::Config, rlimit, runtimes::Runtimes, server::Server, signals, trace};

/// The default address of the gRPC listener.
pub const DEFAULT_ADDRESS: &str = "127.0.0.1:50051";
/// Maximum time to wait for writing the ready line to standard output before the server starts serving.
pub const ANNOUNCE_TIMEOUT: Duration = Duration::from_secs(1);

/// Runs a server until a signal stops it. Calls `ready` as soon as the server listens. Returns an error if the server
/// cannot start, or if standard output is closed.
pub async fn run(
    mut config: Config,
    ready: impl FnOnce(&Server, SocketAddr),
) -> Result<(), String> {
    trace::export::start(config.tracing.as_ref()).map_err(|error| format!("[tracing]: {error}"))?;
    let signals = signals::stop().map_err(|error| format!("cannot wait for signals: {error}"))?;
    if let Err(error) = rlimit::raise_open_files() {
        tracing::warn!(%error, "open-file limit not raised");
    }
    rlimit::fit_connections(&mut config);
    let runtimes = Runtimes::start().map_err(|error| format!("cannot start a thread: {error}"))?;
    let server = Server::bind(&config).await?.with_runtimes(runtimes);
    let address = server.address().map_err(|error| error.to_string())?;
    log_start(&config, &server, address);
    ready(&server, address);
    // A stalled reader of standard output must not delay serving or stopping.
    match timeout(ANNOUNCE_TIMEOUT, spawn_blocking(move || announce(address))).await {
        Ok(Ok(Ok(()))) => {}
        Ok(_) => return Err("standard output is closed".to_owned()),
        Err(_) => tracing::warn!(
            error = "standard output is stalled",
            "ready line not written"
        ),
    }
    let (stop, force_stop) = signals;
    server.run(stop, force_stop).await
}

/// Logs version, configuration, addresses, and how callers authenticate.
fn log_start(config: &Config, server: &Server, listen: SocketAddr) {
    let file = config.source.path.as_deref();
    let file = file.map_or_else(|| "sandbox".to_owned(), |file| file.display().to_string());
    let auth = match (
        config.accepts_certificates(),
        !config.jwt_issuers.is_empty(),
    ) {
        (true, true) => "certificate or token",
        (true, false) => "certificate",
        (false, true) => "token",
        (false, false) => "none",
    };
    let admin = server.admin_address().map(|address| address.to_string());
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        config = file,
        %listen,
        tls = config.server.tls.is_some(),
        auth,
        admin_listen = admin.as_deref().unwrap_or("off"),
        store = config.store.summary(),
        targets = config.targets.summary(),
        callers = config.callers.len(),
        "server started"
    );
}

/// Writes the line that reports the server as ready.
fn announce(address: SocketAddr) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "listening on {address}")?;
    stdout.flush()
}
