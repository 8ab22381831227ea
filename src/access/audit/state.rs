//! What the writer and those who wait for it know of each other.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Instant,
};

use tokio::sync::watch;

use super::{Head, PATIENCE};

/// The state of the audit log.
#[derive(Default)]
pub struct State {
    /// Did the last write succeed?
    last: AtomicBool,
    /// Since when a write has been going on.
    busy_since: Mutex<Option<Instant>>,
    queued: AtomicUsize,
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

    /// How often the file was found changed by somebody else.
    pub fn changes_by_others(&self) -> u64 {
        self.changes_by_others.load(Ordering::SeqCst)
    }

    /// An outcome, or a refusal, will be on no record.
    pub fn lose(&self) {
        self.lost.fetch_add(1, Ordering::SeqCst);
    }

    /// Outcomes and refusals that are on no record.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::SeqCst)
    }

    /// Records in the queue.
    pub fn queued(&self) -> usize {
        self.queued.load(Ordering::SeqCst)
    }

    /// A record goes into the queue.
    pub fn queue(&self, outcome: bool) {
        self.queued.fetch_add(1, Ordering::SeqCst);
        if outcome {
            self.pending.send_modify(|count| *count += 1);
        }
    }

    /// It did not go in after all.
    pub fn unqueue(&self, outcome: bool) {
        self.taken(1);
        if outcome {
            self.settle(1);
        }
    }

    /// So many records have come out of the queue.
    pub fn taken(&self, records: usize) {
        self.queued.fetch_sub(records, Ordering::SeqCst);
    }

    /// The writer owes an outcome that nobody sent.
    pub fn owe(&self) {
        self.pending.send_modify(|count| *count += 1);
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
