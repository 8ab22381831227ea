//! The one deadline of a call. Everything that the call waits for ends by it.

use std::{future::Future, time::Duration};

use tokio::time::{Instant, timeout_at};

use crate::{error::Failure, proto::ErrorReason};

/// An attempt is not begun with less time than this.
pub const MIN_ATTEMPT: Duration = Duration::from_millis(250);

/// The moment by which the answer leaves.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(Instant);

impl Deadline {
    /// Ends at this moment.
    #[must_use]
    pub const fn at(moment: Instant) -> Self {
        Self(moment)
    }

    /// Ends this long from now.
    #[must_use]
    pub fn after(time: Duration) -> Self {
        Self(Instant::now() + time)
    }

    /// The moment itself.
    #[must_use]
    pub const fn moment(self) -> Instant {
        self.0
    }

    /// The time that is left.
    #[must_use]
    pub fn remaining(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    /// Is there time for an attempt?
    #[must_use]
    pub fn allows_attempt(self) -> bool {
        self.remaining() >= MIN_ATTEMPT
    }

    /// Waits for `work`, but not beyond the deadline.
    pub async fn bound<T>(self, work: impl Future<Output = T>) -> Option<T> {
        timeout_at(self.0, work).await.ok()
    }

    /// The failure of a call that ran out of time before a DELETE with an unknown or final fate.
    #[must_use]
    pub fn exceeded(while_doing: &str) -> Failure {
        Failure::new(
            ErrorReason::DeadlineExceeded,
            format!("the deadline passed: {while_doing}"),
        )
    }
}
