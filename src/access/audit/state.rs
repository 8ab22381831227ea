//! What the writer and those who wait for it know of each other.

use std::{
    collections::VecDeque,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::watch;

use super::{Head, PATIENCE};
use crate::metrics::AuditState;

/// Since when records wait.
#[derive(Default)]
struct Waiting {
    /// Those in the queue, the oldest first.
    queued: VecDeque<Instant>,
    /// The oldest one that has come out of the queue and is not written.
    in_work: Option<Instant>,
}

/// The state of the audit log.
#[derive(Default)]
pub struct State {
    /// Did the last write succeed?
    last: AtomicBool,
    /// Since when a write has been going on.
    busy_since: Mutex<Option<Instant>>,
    waiting: Mutex<Waiting>,
    /// Outcomes that have yet to be written.
    pending: watch::Sender<usize>,
    head: Mutex<Head>,
    changes_by_others: AtomicU64,
    lost: AtomicU64,
}

impl State {
    /// Neither failed nor hanging?
    pub fn works(&self) -> bool {
        let busy = *crate::lock(&self.busy_since);
        let hangs = busy.is_some_and(|since| since.elapsed() > PATIENCE);
        self.last.load(Ordering::SeqCst) && !hangs
    }

    /// Has the last write failed?
    pub fn failed(&self) -> bool {
        !self.last.load(Ordering::SeqCst)
    }

    /// A write begins.
    pub fn writing(&self) {
        *crate::lock(&self.busy_since) = Some(Instant::now());
    }

    /// A write has ended.
    pub fn written(&self, well: bool) {
        *crate::lock(&self.busy_since) = None;
        self.last.store(well, Ordering::SeqCst);
    }

    /// The chain has come so far.
    pub fn reached(&self, head: &Head) {
        crate::lock(&self.head).clone_from(head);
    }

    /// The last record on file.
    pub fn head(&self) -> Head {
        crate::lock(&self.head).clone()
    }

    /// The file was found changed by somebody else so often.
    pub fn found_changed(&self, times: u64) {
        self.changes_by_others.store(times, Ordering::SeqCst);
    }

    /// For monitoring.
    pub fn numbers(&self) -> AuditState {
        AuditState {
            works: self.works(),
            changes_by_others: self.changes_by_others.load(Ordering::SeqCst),
            lost: self.lost.load(Ordering::SeqCst),
            queued: self.queued(),
            pending: self.pending(),
            lag: self.lag(),
        }
    }

    /// How long the oldest record that is not written has been waiting.
    fn lag(&self) -> Duration {
        let waiting = crate::lock(&self.waiting);
        let oldest = waiting.in_work.or(waiting.queued.front().copied());
        oldest.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Everything that has come out of the queue is written, or refused.
    pub fn caught_up(&self) {
        crate::lock(&self.waiting).in_work = None;
    }

    /// An outcome, or a refusal, will be on no record.
    pub fn lose(&self) {
        self.lost.fetch_add(1, Ordering::SeqCst);
    }

    /// Records in the queue.
    pub fn queued(&self) -> usize {
        crate::lock(&self.waiting).queued.len()
    }

    /// A record goes into the queue.
    pub fn queue(&self, outcome: bool) {
        crate::lock(&self.waiting).queued.push_back(Instant::now());
        if outcome {
            self.pending.send_modify(|count| *count += 1);
        }
    }

    /// It did not go in after all.
    pub fn unqueue(&self, outcome: bool) {
        crate::lock(&self.waiting).queued.pop_back();
        if outcome {
            self.settle(1);
        }
    }

    /// So many records have come out of the queue.
    pub fn taken(&self, records: usize) {
        let mut waiting = crate::lock(&self.waiting);
        let records = records.min(waiting.queued.len());
        let oldest = waiting.queued.drain(..records).next();
        waiting.in_work = waiting.in_work.or(oldest);
    }

    /// The writer owes an outcome that nobody sent.
    pub fn owe(&self) {
        self.pending.send_modify(|count| *count += 1);
        let mut waiting = crate::lock(&self.waiting);
        waiting.in_work.get_or_insert_with(Instant::now);
    }

    /// So many outcomes are written, or lost.
    pub fn settle(&self, outcomes: usize) {
        self.pending
            .send_modify(|count| *count = count.saturating_sub(outcomes));
    }

    /// Outcomes that have yet to be written.
    pub fn pending(&self) -> usize {
        *self.pending.borrow()
    }

    /// Ends when there are none.
    pub async fn settled(&self) {
        let mut pending = self.pending.subscribe();
        // The sender lives as long as this does.
        let _ = pending.wait_for(|count| *count == 0).await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::State;

    fn lags(state: &State) -> bool {
        state.numbers().lag > Duration::ZERO
    }

    #[test]
    fn the_lag_is_that_of_the_oldest_record_that_is_not_written() {
        let state = State::default();
        assert!(!lags(&state));
        state.queue(false);
        state.queue(true);
        assert!(lags(&state));
        let before = state.numbers().lag;
        // Taken from the queue, it waits on.
        state.taken(1);
        assert!(state.numbers().lag > before);
        state.taken(1);
        state.queue(false);
        state.caught_up();
        // The one that has come meanwhile waits.
        assert!(lags(&state));
        state.taken(1);
        state.caught_up();
        assert!(!lags(&state));
        // One that did not go in does not wait.
        state.queue(false);
        state.unqueue(false);
        assert!(!lags(&state));
        // What a crash has left is owed from now on.
        state.owe();
        assert!(lags(&state));
        assert_eq!(state.numbers().queued, 0);
    }
}
