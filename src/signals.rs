//! Signals. The first SIGTERM or SIGINT starts the drain, a second one shortens it; signals that the server does not
//! use are ignored.

use std::io;

use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// Returns two futures that complete when the first and the second SIGTERM or SIGINT is received.
pub fn stop() -> io::Result<(
    WaitForCancellationFutureOwned,
    WaitForCancellationFutureOwned,
)> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (first, second) = (CancellationToken::new(), CancellationToken::new());
    let futures = (
        first.clone().cancelled_owned(),
        second.clone().cancelled_owned(),
    );
    tokio::spawn(async move {
        for received in [first, second] {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            received.cancel();
        }
    });
    Ok(futures)
}

/// Signals whose default action ends the process at once, and which this server does not use.
const UNUSED: [(Signal, &str); 8] = [
    (Signal::HUP, "SIGHUP"),
    (Signal::USR1, "SIGUSR1"),
    (Signal::USR2, "SIGUSR2"),
    (Signal::ALARM, "SIGALRM"),
    (Signal::VTALARM, "SIGVTALRM"),
    (Signal::PROF, "SIGPROF"),
    (Signal::IO, "SIGIO"),
    (Signal::POWER, "SIGPWR"),
];

/// Ignores the signals that would end the process without a drain. Must be called within a runtime.
pub fn ignore_unused() -> io::Result<()> {
    // Without the default action of SIGXFSZ, a write beyond RLIMIT_FSIZE fails with an error, which is reported where
    // it occurs. The handler that Tokio installs stays for the life of the process, even without a listener.
    drop(signal(SignalKind::from_raw(Signal::XFSZ.as_raw()))?);
    for (number, name) in UNUSED {
        let mut received = signal(SignalKind::from_raw(number.as_raw()))?;
        tokio::spawn(async move {
            while received.recv().await.is_some() {
                tracing::info!(signal = name, "signal ignored");
            }
        });
    }
    Ok(())
}
