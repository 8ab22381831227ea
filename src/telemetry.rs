//! Logs: JSON lines on standard error, `info` unless `RUST_LOG` says otherwise.

use tracing_subscriber::EnvFilter;

/// Starts logging. Panics are logged like everything else, so that every line stays JSON.
pub fn start() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let started = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .try_init();
    if started.is_ok() {
        std::panic::set_hook(Box::new(|info| {
            let place = info.location().map(ToString::to_string);
            tracing::error!(place, "a panic");
        }));
    }
}
