//! Signals. The first SIGTERM or SIGINT starts the drain, a second one shortens it; signals that the server does not use
//! are ignored.

use std::{future::Future, io, pin::Pin};

use rustix::process::Signal as Signals;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};

/// Ends when its signal has come.
pub type Signal = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The first and the second signal.
pub fn stop() -> io::Result<(Signal, Signal)> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut either = async move || {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    let (first, stop) = oneshot::channel();
    let (second, force_stop) = oneshot::channel();
    tokio::spawn(async move {
        either().await;
        // A server that has ended by itself listens to neither.
        let _ = first.send(());
        either().await;
        let _ = second.send(());
    });
    Ok((
        Box::pin(async { drop(stop.await) }),
        Box::pin(async { drop(force_stop.await) }),
    ))
}

/// Signals whose default action ends the process at once, and which this server does not use.
const UNUSED: [(Signals, &str); 8] = [
    (Signals::HUP, "SIGHUP"),
    (Signals::USR1, "SIGUSR1"),
    (Signals::USR2, "SIGUSR2"),
    (Signals::ALARM, "SIGALRM"),
    (Signals::VTALARM, "SIGVTALRM"),
    (Signals::PROF, "SIGPROF"),
    (Signals::IO, "SIGIO"),
    (Signals::POWER, "SIGPWR"),
];

/// Ignores the signals that would end the process without a drain. Must be called within a runtime.
pub fn ignore_unused() -> io::Result<()> {
    // A write beyond RLIMIT_FSIZE then fails with an error, which is reported where it occurs. The handler that Tokio
    // installs stays for the life of the process, even without a listener.
    drop(signal(SignalKind::from_raw(Signals::XFSZ.as_raw()))?);
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
