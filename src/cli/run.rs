//! Runs a server with a configuration, from a file or from the sandbox.

use std::{io::Write as _, net::SocketAddr, process::ExitCode, time::Duration};

use tokio::{task::spawn_blocking, time::timeout};

use super::exit::fatal;
use crate::{config::Config, rlimit, runtimes::Runtimes, server::Server, signals, trace};

/// The default address of the gRPC listener.
pub const DEFAULT_ADDRESS: &str = "127.0.0.1:50051";
/// Maximum time to write the ready line to standard output before the server starts serving.
pub const ANNOUNCE_TIMEOUT: Duration = Duration::from_secs(1);

/// Runs a server until a signal stops it. `ready` is called as soon as it listens.
pub async fn run(mut config: Config, ready: impl FnOnce(&Server, SocketAddr)) -> ExitCode {
    if let Err(error) = trace::export::start(config.tracing.as_ref()) {
        return fatal(&format!("[tracing]: {error}"));
    }
    let (stop, force_stop) = match signals::stop() {
        Ok(signals) => signals,
        Err(error) => return fatal(&format!("cannot wait for signals: {error}")),
    };
    if let Err(error) = rlimit::raise_open_files() {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
    rlimit::fit_connections(&mut config);
    let runtimes = match Runtimes::start() {
        Ok(runtimes) => runtimes,
        Err(error) => return fatal(&format!("cannot start a thread: {error}")),
    };
    let server = match Server::bind(&config).await {
        Ok(server) => server.with_runtimes(runtimes),
        Err(error) => return fatal(&error),
    };
    let address = match server.address() {
        Ok(address) => address,
        Err(error) => return fatal(&error.to_string()),
    };
    ready(&server, address);
    // A stalled reader of standard output must delay neither the service nor its stop.
    match timeout(ANNOUNCE_TIMEOUT, spawn_blocking(move || announce(address))).await {
        Ok(Ok(Ok(()))) => {}
        Ok(_) => return fatal("standard output is closed"),
        Err(_) => tracing::warn!("standard output is stalled; serving without the ready line"),
    }
    match server.run(stop, force_stop).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fatal(&error),
    }
}

/// Writes the line that reports the server as ready.
fn announce(address: SocketAddr) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "listening on {address}")?;
    stdout.flush()
}
