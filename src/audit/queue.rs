//! The bounded queue between calls and the writer thread.

use std::{
    sync::{Condvar, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::{
    runtime::{Handle, Id},
    sync::{Notify, oneshot},
    time::timeout,
};

use super::{chain::Head, record::Record, store::Rejection};

/// Time limit of a write. A write that takes longer counts as failed.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(1);
/// Maximum number of records in the queue. Outcomes of recorded intents are added even to a full queue; their number
/// is limited by that of the accepted intents.
const CAPACITY: usize = 16_384;

/// A queued record, with the channels that notify its caller.
pub(super) struct Job {
    pub(super) record: Record,
    pub(super) queued_at: Instant,
    result: oneshot::Sender<Result<(), Rejection>>,
    waiter: Waiter,
}

/// Wakes the caller of a job, which waits for the result.
pub(super) struct Waiter {
    runtime: Handle,
    woken: oneshot::Sender<()>,
}

/// The side of a job on which its caller waits for the result.
pub(super) struct PendingResult {
    result: oneshot::Receiver<Result<(), Rejection>>,
    woken: oneshot::Receiver<()>,
}

impl PendingResult {
    /// Waits for the result for at most `limit`. Returns `None` if there is no result by then; a later result is
    /// discarded.
    pub(super) async fn wait(mut self, limit: Duration) -> Option<Result<(), Rejection>> {
        let _late = timeout(limit, self.woken).await;
        self.result.close();
        self.result.try_recv().ok()
    }
}

impl Job {
    pub(super) fn new(record: Record) -> (Self, PendingResult) {
        let (sender, result) = oneshot::channel();
        let (wake, woken) = oneshot::channel();
        let job = Self {
            record,
            queued_at: Instant::now(),
            result: sender,
            waiter: Waiter {
                runtime: Handle::current(),
                woken: wake,
            },
        };
        (job, PendingResult { result, woken })
    }

    /// Returns whether the caller has stopped waiting.
    pub(super) fn is_abandoned(&self) -> bool {
        self.result.is_closed()
    }

    /// Sets the result. Returns the record, whether the caller was still waiting, and the waiter, which must be passed
    /// to [`wake`].
    pub(super) fn resolve(self, result: Result<(), Rejection>) -> (Record, bool, Waiter) {
        let waiting = self.result.send(result).is_ok();
        (self.record, waiting, self.waiter)
    }
}

/// Wakes the callers of each runtime with one task, because waking each of them from another thread costs a system call.
/// A single caller needs no task.
pub(super) fn wake(waiters: Vec<Waiter>) {
    let mut groups: Vec<(Handle, Vec<_>)> = Vec::new();
    for Waiter { runtime, woken } in waiters {
        let same = groups.iter_mut().find(|(own, _)| own.id() == runtime.id());
        match same {
            Some((_, group)) => group.push(woken),
            None => groups.push((runtime, vec![woken])),
        }
    }
    for (runtime, group) in groups {
        if group.len() > 1 {
            runtime.spawn(async move { drop(group) });
        }
    }
}

/// Records and flush requests that the writer processes together.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) intents: Vec<Job>,
    /// Outcomes and reconciliations.
    pub(super) outcomes: Vec<Job>,
    /// Senders that are notified when all outcomes are written and synced.
    pub(super) flushes: Vec<oneshot::Sender<()>>,
    /// The runtimes that have added records to this batch, each once.
    runtimes: Vec<Id>,
}

impl Batch {
    pub(super) const fn is_empty(&self) -> bool {
        self.records() == 0 && self.flushes.is_empty()
    }

    pub(super) fn append(&mut self, mut other: Self) {
        self.intents.append(&mut other.intents);
        self.outcomes.append(&mut other.outcomes);
        self.flushes.append(&mut other.flushes);
    }

    const fn records(&self) -> usize {
        self.intents.len() + self.outcomes.len()
    }
}

/// Where a record was added.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Added {
    /// Number of the batch.
    pub(super) batch: u64,
    /// Whether it is the first record of its runtime in the batch.
    pub(super) is_first_of_runtime: bool,
}

/// State of the writer and of the records that are not written yet.
#[derive(Clone, Default)]
pub(super) struct Status {
    /// Whether the last write succeeded.
    pub(super) ok: bool,
    /// Start of the write in progress, if there is one.
    pub(super) writing_since: Option<Instant>,
    /// Time at which the oldest record that the writer holds and has not written yet was added to the queue.
    pub(super) oldest: Option<Instant>,
    /// Number of outcomes that are not written yet, in the queue or in the writer.
    pub(super) pending: usize,
    /// Number of outcomes that were dropped and will not be recorded.
    pub(super) lost: u64,
    /// Number of detected changes of the file by other programs.
    pub(super) external_changes: u64,
    /// The last record of the file.
    pub(super) head: Head,
}

impl Status {
    /// Returns whether the last write succeeded and no write has been in progress for longer than [`WRITE_TIMEOUT`].
    pub(super) fn is_healthy(&self) -> bool {
        let since = self.writing_since;
        self.ok && since.is_none_or(|since| since.elapsed() <= WRITE_TIMEOUT)
    }
}

#[derive(Default)]
struct State {
    next: Batch,
    /// Number of the next batch.
    number: u64,
    closed: bool,
    status: Status,
}

#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    /// Notified when the writer has recorded calls of dead replicas as unknown.
    pub(super) crashed: Notify,
}

impl Queue {
    /// Adds a record. Returns `None` if the queue is full; a lost outcome of a call is counted and logged. If
    /// the record is the first one of its runtime in the batch, the caller must call [`Queue::wake`].
    pub(super) fn push(&self, job: Job) -> Option<Added> {
        let mut state = crate::lock(&self.state);
        let State {
            next,
            number,
            status,
            ..
        } = &mut *state;
        if next.records() >= CAPACITY && !job.record.ends_intent {
            if job.record.is_outcome() {
                status.lost += 1;
                job.record.log_loss();
            }
            return None;
        }
        let is_outcome = !job.record.is_intent();
        status.pending += usize::from(is_outcome);
        let runtime = job.waiter.runtime.id();
        let is_first_of_runtime = !next.runtimes.contains(&runtime);
        if is_first_of_runtime {
            next.runtimes.push(runtime);
        }
        if is_outcome {
            next.outcomes.push(job);
        } else {
            next.intents.push(job);
        }
        Some(Added {
            batch: *number,
            is_first_of_runtime,
        })
    }

    pub(super) fn status(&self) -> Status {
        crate::lock(&self.state).status.clone()
    }

    pub(super) fn update(&self, change: impl FnOnce(&mut Status)) {
        change(&mut crate::lock(&self.state).status);
    }

    /// Wakes the writer, unless it has taken the batch with this number.
    pub(super) fn wake(&self, batch: u64) {
        if self.records_of(batch) > 0 {
            self.changed.notify_one();
        }
    }

    /// Requests a flush. Returns a receiver that is notified when all outcomes are written and synced.
    pub(super) fn flush(&self) -> oneshot::Receiver<()> {
        let (done, flushed) = oneshot::channel();
        crate::lock(&self.state).next.flushes.push(done);
        self.changed.notify_one();
        flushed
    }

    /// Closes the queue. The writer stops after it has processed the remaining records.
    pub(super) fn close(&self) {
        crate::lock(&self.state).closed = true;
        self.changed.notify_one();
    }

    /// Waits for records or flush requests and returns them. Returns an empty batch if there are none within `limit`,
    /// and `None` when the queue is closed and empty.
    pub(super) fn take(&self, limit: Duration) -> Option<Batch> {
        let idle = |state: &mut State| state.next.is_empty() && !state.closed;
        let waited = self
            .changed
            .wait_timeout_while(crate::lock(&self.state), limit, idle);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let batch = std::mem::take(&mut state.next);
        state.number += 1;
        (!state.closed || !batch.is_empty()).then_some(batch)
    }

    /// Returns the number of intents in the queue.
    pub(super) fn intents(&self) -> usize {
        crate::lock(&self.state).next.intents.len()
    }

    /// Returns the number of records in the batch with this number, or 0 if the writer has taken it.
    pub(super) fn records_of(&self, batch: u64) -> usize {
        let state = crate::lock(&self.state);
        if state.number == batch {
            state.next.records()
        } else {
            0
        }
    }

    /// Returns the number of records in the queue, and the time at which the oldest of them was added.
    pub(super) fn waiting(&self) -> (usize, Option<Instant>) {
        let next = &crate::lock(&self.state).next;
        let first = [next.intents.first(), next.outcomes.first()];
        let oldest = first.into_iter().flatten().map(|job| job.queued_at).min();
        (next.records(), oldest)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{CAPACITY, Job, Queue, Record};
    use crate::audit::record::{CallMembers, Entry, Event};

    fn outcome(ends_intent: bool) -> Job {
        job(Event::Outcome, ends_intent)
    }

    fn job(event: Event, ends_intent: bool) -> Job {
        let (job, _pending) = Job::new(Record::new(
            &CallMembers::default(),
            &Entry {
                event,
                ends_intent,
                ..Entry::default()
            },
        ));
        job
    }

    #[tokio::test]
    async fn full_queue_accepts_only_outcomes_of_deletions() {
        let queue = Queue::default();
        let first = outcome(false);
        let oldest = first.queued_at;
        assert!(
            queue
                .push(first)
                .is_some_and(|added| added.is_first_of_runtime)
        );
        for _ in 1..CAPACITY {
            assert!(
                queue
                    .push(outcome(false))
                    .is_some_and(|added| !added.is_first_of_runtime)
            );
        }
        assert_eq!(queue.push(outcome(false)), None);
        // A finding can be made again, so it is not counted as lost.
        assert_eq!(queue.push(job(Event::Reconciled, false)), None);
        assert!(queue.push(outcome(true)).is_some());
        assert_eq!(queue.waiting(), (CAPACITY + 1, Some(oldest)));
        let status = queue.status();
        assert_eq!((status.pending, status.lost), (CAPACITY + 1, 1));
        queue.close();
        let batch = queue.take(Duration::ZERO).unwrap_or_default();
        assert_eq!(batch.outcomes.len(), CAPACITY + 1);
        assert!(queue.take(Duration::ZERO).is_none());
    }
}
