//! The one deadline of a call. Everything that the call waits for ends by it.

use std::{future::Future, time::Duration};

use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::{error::Failure, proto::ErrorReason};

/// An attempt is not begun with less time than this.
pub const MIN_ATTEMPT: Duration = Duration::from_millis(250);

/// The moment by which the response leaves; it can be brought forward to now, when the server must stop.
#[derive(Clone, Debug)]
pub struct Deadline {
    at: Instant,
    halt: CancellationToken,
}

impl Deadline {
    /// Ends at this moment.
    #[must_use]
    pub fn at(moment: Instant) -> Self {
        Self {
            at: moment,
            halt: CancellationToken::new(),
        }
    }

    /// Ends this long from now.
    #[must_use]
    pub fn after(time: Duration) -> Self {
        Self::at(Instant::now() + time)
    }

    /// Ends at once when `halt` is cancelled.
    #[must_use]
    pub fn or_when(self, halt: CancellationToken) -> Self {
        Self { halt, ..self }
    }

    /// The time that is left.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        if self.halt.is_cancelled() {
            return Duration::ZERO;
        }
        self.at.saturating_duration_since(Instant::now())
    }

    /// Is there time for an attempt?
    #[must_use]
    pub fn allows_attempt(&self) -> bool {
        self.remaining() >= MIN_ATTEMPT
    }

    /// Waits for `work`, but not beyond the deadline.
    pub async fn bound<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            done = work => Some(done),
            () = sleep_until(self.at) => None,
            () = self.halt.cancelled() => None,
        }
    }

    /// The failure of a call that ran out of time before a DELETE with an unknown or final effect.
    #[must_use]
    pub fn exceeded(while_doing: &str) -> Failure {
        Failure::new(
            ErrorReason::DeadlineExceeded,
            format!("the deadline passed: {while_doing}"),
        )
    }
}
