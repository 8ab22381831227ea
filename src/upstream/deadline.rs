//! The deadline of a call, which ends everything that the call waits for.

use std::{
    future::{Future, pending},
    time::Duration,
};

use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::{error::Failure, proto::ErrorReason as R};

/// Minimum remaining time with which an attempt is started.
pub const MIN_ATTEMPT: Duration = Duration::from_millis(250);

/// The time by which the response must be sent. If the server must stop, the deadline passes immediately.
#[derive(Clone, Debug)]
pub struct Deadline {
    at: Instant,
    /// Cancelled if the server must stop. `None` for a deadline that has only a time.
    halt: Option<CancellationToken>,
}

impl Deadline {
    pub fn at(moment: Instant) -> Self {
        Self {
            at: moment,
            halt: None,
        }
    }

    pub fn after(time: Duration) -> Self {
        Self::at(Instant::now() + time)
    }

    /// Returns a deadline that passes after this time, or with this deadline if that is earlier.
    pub fn within(&self, time: Duration) -> Self {
        Self {
            at: self.at.min(Instant::now() + time),
            halt: self.halt.clone(),
        }
    }

    /// Sets the token that makes the deadline pass when it is cancelled.
    pub fn with_cancellation(self, halt: CancellationToken) -> Self {
        Self {
            halt: Some(halt),
            ..self
        }
    }

    /// Returns whether the deadline has passed because the server must stop.
    pub fn is_cancelled(&self) -> bool {
        let halt = self.halt.as_ref();
        halt.is_some_and(CancellationToken::is_cancelled)
    }

    /// Returns the time until the deadline, or zero if it has passed.
    pub fn remaining(&self) -> Duration {
        if self.is_cancelled() {
            return Duration::ZERO;
        }
        self.at.saturating_duration_since(Instant::now())
    }

    /// Returns whether enough time is left to start an attempt.
    pub fn allows_attempt(&self) -> bool {
        self.remaining() >= MIN_ATTEMPT
    }

    /// Waits for `work` until the deadline. Returns `None` if the deadline passes first.
    pub async fn bound<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let halted = async {
            match &self.halt {
                Some(halt) => halt.cancelled().await,
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            done = work => Some(done),
            () = sleep_until(self.at) => None,
            () = halted => None,
        }
    }

    /// Returns the failure of a call whose deadline passed before a DELETE was sent. `while_doing` is the step.
    pub fn exceeded(while_doing: &str) -> Failure {
        let context = format!("the deadline passed: {while_doing}");
        Failure::new(R::DeadlineExceeded, context)
    }
}
