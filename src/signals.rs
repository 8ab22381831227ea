//! SIGTERM and SIGINT: the first one asks the server to stop, a second one to hurry. SIGHUP.

use std::{future::Future, io, pin::Pin};

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
