//! The limits of one call: its deadline, and the disconnection of its caller.

use std::{
    future::{Future, poll_fn},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    task::Poll,
    time::Duration,
};

use opentelemetry::Context;

use super::deadline::Deadline;
use crate::error::Failure;

/// The deadline of a call, the disconnection of its caller, the number of its DELETEs, and its trace. Clones share this
/// state.
#[derive(Clone, Debug)]
pub struct CallLimits {
    pub deadline: Deadline,
    /// The tracing context of the call, which is the parent of the spans of its requests.
    pub trace: Context,
    /// The disconnection of the caller.
    disconnection: Disconnection,
    deletes: Arc<AtomicU32>,
}

/// Whether the caller of a call has disconnected. Clones share this state.
#[derive(Clone, Debug, Default)]
pub struct Disconnection(Arc<AtomicBool>);

impl Disconnection {
    /// Records that the caller has disconnected. The work of the call must be polled afterwards.
    pub fn record(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    fn is_recorded(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

impl CallLimits {
    /// Creates the limits of a call. The server records in `disconnection` that the caller has disconnected.
    pub fn new(deadline: Deadline, disconnection: Disconnection, trace: Context) -> Self {
        Self {
            deadline,
            trace,
            disconnection,
            deletes: Arc::default(),
        }
    }

    /// Returns the limits of a step that takes at most this time.
    pub fn within(&self, time: Duration) -> Self {
        Self {
            deadline: self.deadline.within(time),
            ..self.clone()
        }
    }

    /// Returns the limits of a step that follows even if the caller disconnects.
    pub fn after_disconnection(&self) -> Self {
        Self {
            disconnection: Disconnection::default(),
            ..self.clone()
        }
    }

    /// Returns whether the caller has disconnected.
    pub fn is_disconnected(&self) -> bool {
        self.disconnection.is_recorded()
    }

    /// Waits for `work`, at most until the deadline or until the caller disconnects.
    ///
    /// A disconnection wakes no task: when the caller disconnects, a new task continues the work of the call, and polls
    /// everything that the work waits for. So this must be awaited by the call itself, and not in a spawned task, in
    /// `FuturesUnordered` or in a shared future.
    pub async fn bound<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let disconnected = poll_fn(|_| {
            if self.is_disconnected() {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        });
        tokio::select! {
            biased;
            done = self.deadline.bound(work) => done,
            () = disconnected => None,
        }
    }

    /// Fails if an attempt must not be started any more: the caller has disconnected, or too little time is left.
    /// `what` describes the step in the failure.
    pub fn check(&self, what: &str) -> Result<(), Failure> {
        if self.is_disconnected() {
            return Err(Deadline::exceeded("the caller has disconnected"));
        }
        if !self.deadline.allows_attempt() {
            return Err(Deadline::exceeded(what));
        }
        Ok(())
    }

    /// Returns the number of DELETEs that were started. The number is available even if the call panics.
    pub fn deletes(&self) -> u32 {
        self.deletes.load(Ordering::SeqCst)
    }

    pub(super) fn count_delete(&self) {
        self.deletes.fetch_add(1, Ordering::SeqCst);
    }
}

/// Creates the limits of a request that no caller waits for. The parent of its span is the current tracing context.
impl From<Deadline> for CallLimits {
    fn from(deadline: Deadline) -> Self {
        Self::new(deadline, Disconnection::default(), Context::current())
    }
}

#[cfg(test)]
mod tests {
    use std::{future::pending, pin::pin, time::Duration};

    use futures_util::FutureExt as _;
    use opentelemetry::Context;

    use super::{CallLimits, Disconnection};
    use crate::upstream::deadline::Deadline;

    #[tokio::test]
    async fn wait_ends_when_it_is_polled_after_a_disconnection() {
        let (deadline, caller) = (
            Deadline::after(Duration::from_hours(1)),
            Disconnection::default(),
        );
        let limits = CallLimits::new(deadline, caller.clone(), Context::new());
        let (copy, later) = (limits.clone(), limits.after_disconnection());
        let mut waits =
            [&limits, &copy, &later].map(|limits| Box::pin(limits.bound(pending::<()>())));
        for wait in &mut waits {
            assert!(wait.as_mut().now_or_never().is_none());
        }
        caller.record();
        let ended = waits.map(|wait| pin!(wait).now_or_never());
        assert_eq!(ended, [Some(None), Some(None), None]);
        assert!(limits.is_disconnected() && !later.is_disconnected());
        assert!(limits.check("test").is_err() && later.check("test").is_ok());
    }
}
