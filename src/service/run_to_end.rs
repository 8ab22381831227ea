//! Runs the work of a call to its end, even if the caller disconnects.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

/// The work of a call. If the value is dropped before the work ends, `disconnected` is cancelled and the work continues
/// in a task. Until then it needs no task, which is faster.
pub(super) struct RunToEnd<F: Future<Output: Send> + Send + 'static> {
    /// `None` once the work has ended.
    work: Option<Pin<Box<F>>>,
    disconnected: CancellationToken,
}

impl<F: Future<Output: Send> + Send + 'static> RunToEnd<F> {
    pub(super) fn new(work: F, disconnected: CancellationToken) -> Self {
        Self {
            work: Some(Box::pin(work)),
            disconnected,
        }
    }
}

impl<F: Future<Output: Send> + Send + 'static> Future for RunToEnd<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        // The work is dropped if it panics, because it must not be polled again.
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
        self.disconnected.cancel();
        // Without a runtime, the process ends.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(work);
        }
    }
}
