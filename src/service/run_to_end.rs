//! Runs the work of a call to its end, even if the caller disconnects.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::runtime::Handle;

use crate::upstream::call_limits::Disconnection;

/// A future that polls the work of a call in place. If it is dropped before the work ends, that is, when the caller
/// disconnects, it records the disconnection, and spawns a task that continues the work. Spawning a task for each call
/// would be slower.
pub(super) struct RunToEnd<F: Future<Output: Send> + Send + 'static> {
    /// `None` during a poll, and after the work has ended or panicked.
    work: Option<Pin<Box<F>>>,
    disconnection: Disconnection,
}

impl<F: Future<Output: Send> + Send + 'static> RunToEnd<F> {
    pub(super) fn new(work: F, disconnection: Disconnection) -> Self {
        Self {
            work: Some(Box::pin(work)),
            disconnection,
        }
    }
}

impl<F: Future<Output: Send> + Send + 'static> Future for RunToEnd<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        // Taken out during the poll, so that a panic drops the work: it must not be polled again, here or in a task.
        let Some(mut work) = self.work.take() else {
            return Poll::Pending;
        };
        let polled = work.as_mut().poll(cx);
        if polled.is_pending() {
            self.work = Some(work);
        }
        polled
    }
}

impl<F: Future<Output: Send> + Send + 'static> Drop for RunToEnd<F> {
    fn drop(&mut self) {
        let Some(work) = self.work.take() else {
            return;
        };
        self.disconnection.record();
        // There is no runtime only while the process exits. The work is then dropped.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(work);
        }
    }
}
