//! The limits of one call: its deadline, and the disconnection of its caller.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use opentelemetry::Context;
use tokio_util::sync::CancellationToken;

use super::deadline::Deadline;
use crate::error::Failure;

/// The deadline of a call, the disconnection of its caller, the number of its DELETEs, and its trace. Clones share this
/// state.
#[derive(Clone, Debug)]
pub struct CallLimits {
    pub deadline: Deadline,
    /// Cancelled when the caller disconnects. No attempt is started afterwards.
    pub disconnected: CancellationToken,
    /// The tracing context of the call, which is the parent of the spans of its requests.
    pub trace: Context,
    deletes: Arc<AtomicU32>,
}

impl CallLimits {
    /// Creates the limits of a call. The server cancels `disconnected` when the caller disconnects.
    pub fn new(deadline: Deadline, disconnected: CancellationToken, trace: Context) -> Self {
        Self {
            deadline,
            disconnected,
            trace,
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
            disconnected: CancellationToken::new(),
            ..self.clone()
        }
    }

    /// Waits for `work`, at most until the deadline or until the caller disconnects.
    pub async fn bound<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            done = self.deadline.bound(work) => done,
            () = self.disconnected.cancelled() => None,
        }
    }

    /// Fails if an attempt must not be started any more: the caller has disconnected, or too little time is left.
    /// `what` describes the step in the failure.
    pub fn check(&self, what: &str) -> Result<(), Failure> {
        if self.disconnected.is_cancelled() {
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
        Self::new(deadline, CancellationToken::new(), Context::current())
    }
}
