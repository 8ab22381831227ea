//! SIGTERM and SIGINT: the first one asks the server to stop, a second one to hurry. SIGHUP and SIGXFSZ pass.

use std::{
    future::{Future, pending},
    io,
    pin::Pin,
};

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
    let (second, hurry) = oneshot::channel();
    tokio::spawn(async move {
        either().await;
        // A server that has ended by itself listens to neither.
        let _ = first.send(());
        either().await;
        let _ = second.send(());
    });
    Ok((
        Box::pin(async { drop(stop.await) }),
        Box::pin(async { drop(hurry.await) }),
    ))
}

/// Lets SIGXFSZ pass: a file that has reached a limit of the process is a sink that fails, and no reason to die.
pub fn ignore_file_limit() -> io::Result<()> {
    // As long as somebody listens.
    let limit = signal(SignalKind::from_raw(Signals::XFSZ.as_raw()))?;
    tokio::spawn(async move {
        let _limit = limit;
        pending::<()>().await;
    });
    Ok(())
}

/// Lets SIGHUP pass, by which many services are told to read their files again: this one looks by itself.
pub fn ignore_hangup() -> io::Result<()> {
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            tracing::info!("SIGHUP changes nothing: files are taken up when they change");
        }
    });
    Ok(())
}
