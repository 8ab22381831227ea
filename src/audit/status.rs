//! What the writer publishes for readiness, metrics and shutdown.

use std::{
    collections::VecDeque,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::watch;

use super::chain::Head;
use crate::metrics::AuditState;

/// A write that takes longer counts as failed.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(1);

/// Arrival times of the records that are not written yet.
#[derive(Default)]
struct Waiting {
    /// Records in the queue, oldest first.
    queued: VecDeque<Instant>,
    /// The oldest record that was taken from the queue.
    in_work: Option<Instant>,
}

#[derive(Default)]
pub(super) struct Status {
    /// Whether the last write succeeded.
    last: AtomicBool,
    /// Start of the write in progress.
    busy_since: Mutex<Option<Instant>>,
    waiting: Mutex<Waiting>,
    /// Number of outcomes that are not written yet.
    pending: watch::Sender<usize>,
    head: Mutex<Head>,
    changes_by_others: AtomicU64,
    lost: AtomicU64,
}

impl Status {
    /// Whether the last write succeeded and none takes longer than [`WRITE_TIMEOUT`].
    pub(super) fn works(&self) -> bool {
        let busy = *crate::lock(&self.busy_since);
        let hangs = busy.is_some_and(|since| since.elapsed() > WRITE_TIMEOUT);
        self.last.load(Ordering::SeqCst) && !hangs
    }

    pub(super) fn failed(&self) -> bool {
        !self.last.load(Ordering::SeqCst)
    }

    pub(super) fn writing(&self) {
        *crate::lock(&self.busy_since) = Some(Instant::now());
    }

    pub(super) fn written(&self, ok: bool) {
        *crate::lock(&self.busy_since) = None;
        self.last.store(ok, Ordering::SeqCst);
    }

    pub(super) fn set_head(&self, head: &Head) {
        crate::lock(&self.head).clone_from(head);
    }

    pub(super) fn head(&self) -> Head {
        crate::lock(&self.head).clone()
    }

    pub(super) fn set_changes_by_others(&self, times: u64) {
        self.changes_by_others.store(times, Ordering::SeqCst);
    }

    pub(super) fn metrics(&self) -> AuditState {
        AuditState {
            works: self.works(),
            changes_by_others: self.changes_by_others.load(Ordering::SeqCst),
            lost: self.lost.load(Ordering::SeqCst),
            queued: self.queued(),
            pending: self.pending(),
            lag: self.lag(),
        }
    }

    /// Returns how long the oldest record that is not written has been waiting.
    fn lag(&self) -> Duration {
        let waiting = crate::lock(&self.waiting);
        let oldest = waiting.in_work.or(waiting.queued.front().copied());
        oldest.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// All records that were taken from the queue are written or refused.
    pub(super) fn caught_up(&self) {
        crate::lock(&self.waiting).in_work = None;
    }

    /// Counts an outcome that will not be recorded.
    pub(super) fn lose(&self) {
        self.lost.fetch_add(1, Ordering::SeqCst);
    }

    /// Returns the number of records in the queue.
    pub(super) fn queued(&self) -> usize {
        crate::lock(&self.waiting).queued.len()
    }

    pub(super) fn queue(&self, outcome: bool) {
        crate::lock(&self.waiting).queued.push_back(Instant::now());
        if outcome {
            self.pending.send_modify(|count| *count += 1);
        }
    }

    /// Undoes [`Status::queue`].
    pub(super) fn unqueue(&self, outcome: bool) {
        crate::lock(&self.waiting).queued.pop_back();
        if outcome {
            self.settle(1);
        }
    }

    pub(super) fn dequeue(&self, records: usize) {
        let mut waiting = crate::lock(&self.waiting);
        let records = records.min(waiting.queued.len());
        let oldest = waiting.queued.drain(..records).next();
        waiting.in_work = waiting.in_work.or(oldest);
    }

    /// Counts an outcome that the writer has to add by itself.
    pub(super) fn owe(&self) {
        self.pending.send_modify(|count| *count += 1);
        let mut waiting = crate::lock(&self.waiting);
        waiting.in_work.get_or_insert_with(Instant::now);
    }

    /// Counts outcomes that are written or lost.
    pub(super) fn settle(&self, outcomes: usize) {
        self.pending
            .send_modify(|count| *count = count.saturating_sub(outcomes));
    }

    /// Returns the number of outcomes that are not written yet.
    pub(super) fn pending(&self) -> usize {
        *self.pending.borrow()
    }

    /// Waits until all outcomes are written or lost.
    pub async fn settled(&self) {
        let mut pending = self.pending.subscribe();
        // The sender lives as long as this does.
        let _ = pending.wait_for(|count| *count == 0).await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Status;

    fn lags(status: &Status) -> bool {
        status.metrics().lag > Duration::ZERO
    }

    #[test]
    fn the_lag_is_that_of_the_oldest_record_that_is_not_written() {
        let status = Status::default();
        assert!(!lags(&status));
        status.queue(false);
        status.queue(true);
        assert!(lags(&status));
        let before = status.metrics().lag;
        // Taken from the queue, it waits on.
        status.dequeue(1);
        assert!(status.metrics().lag > before);
        status.dequeue(1);
        status.queue(false);
        status.caught_up();
        // The one that has come meanwhile waits.
        assert!(lags(&status));
        status.dequeue(1);
        status.caught_up();
        assert!(!lags(&status));
        // One that did not go in does not wait.
        status.queue(false);
        status.unqueue(false);
        assert!(!lags(&status));
        // What a crash has left is owed from now on.
        status.owe();
        assert!(lags(&status));
        assert_eq!(status.metrics().queued, 0);
    }
}
