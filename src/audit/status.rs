//! What the writer publishes for readiness, metrics and shutdown.

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

use super::chain::Head;

/// A write that takes longer counts as failed.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(1);

#[derive(Default)]
pub(super) struct Status(Mutex<State>);

#[derive(Clone, Default)]
pub(super) struct State {
    /// Whether the last write succeeded.
    pub(super) ok: bool,
    /// Start of the write in progress.
    pub(super) writing_since: Option<Instant>,
    /// Age of the oldest record that the writer has and has not written.
    pub(super) oldest: Option<Instant>,
    /// Number of outcomes that are not written yet, in the queue or in the writer.
    pub(super) pending: usize,
    /// Number of outcomes that will not be recorded.
    pub(super) lost: u64,
    /// How often another program changed the file.
    pub(super) changes_by_others: u64,
    /// The last record of the file.
    pub(super) head: Head,
}

impl Status {
    pub(super) fn update(&self, change: impl FnOnce(&mut State)) {
        change(&mut crate::lock(&self.0));
    }

    pub(super) fn get(&self) -> State {
        crate::lock(&self.0).clone()
    }
}

impl State {
    /// Whether the last write succeeded and none takes longer than [`WRITE_TIMEOUT`].
    pub(super) fn works(&self) -> bool {
        let since = self.writing_since;
        self.ok && since.is_none_or(|since| since.elapsed() <= WRITE_TIMEOUT)
    }
}
