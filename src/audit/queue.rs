//! The bounded queue between calls and the writer thread.

use std::{
    io,
    sync::{Condvar, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::{
    runtime::{Handle, Id},
    sync::oneshot,
};

use super::record::{Entry, Event};

/// Maximum number of records in the queue.
const CAPACITY: usize = 16_384;

/// A record on its way to the file.
pub(super) struct Job {
    /// Boxed, because the writer retains it until its call ends.
    pub(super) entry: Box<Entry>,
    pub(super) queued_at: Instant,
    result: oneshot::Sender<io::Result<()>>,
    waiter: Waiter,
}

/// The future that waits for the result of a job.
pub(super) struct Waiter {
    runtime: Handle,
    done: oneshot::Sender<()>,
}

impl Job {
    /// Creates a job. Returns with it the receiver of its result, which the caller closes when it stops waiting, and the
    /// receiver that wakes the caller.
    pub(super) fn new(
        entry: Entry,
    ) -> (
        Self,
        oneshot::Receiver<io::Result<()>>,
        oneshot::Receiver<()>,
    ) {
        let (result, received) = oneshot::channel();
        let (done, woken) = oneshot::channel();
        let job = Self {
            entry: Box::new(entry),
            queued_at: Instant::now(),
            result,
            waiter: Waiter {
                runtime: Handle::current(),
                done,
            },
        };
        (job, received, woken)
    }

    /// Whether the caller has stopped waiting.
    pub(super) fn is_abandoned(&self) -> bool {
        self.result.is_closed()
    }

    /// Sets the result. Returns whether the caller is waiting for it, and what wakes the caller.
    pub(super) fn resolve(self, result: io::Result<()>) -> (Box<Entry>, bool, Waiter) {
        let waiting = self.result.send(result).is_ok();
        (self.entry, waiting, self.waiter)
    }
}

/// Wakes callers with one task for each of their runtimes: waking each caller from another thread costs a system call.
pub(super) fn wake(waiters: Vec<Waiter>) {
    let mut groups: Vec<(Handle, Vec<_>)> = Vec::new();
    for Waiter { runtime, done } in waiters {
        let same = groups.iter_mut().find(|(own, _)| own.id() == runtime.id());
        match same {
            Some((_, group)) => group.push(done),
            None => groups.push((runtime, vec![done])),
        }
    }
    for (runtime, group) in groups {
        runtime.spawn(async move { drop(group) });
    }
}

/// What the writer processes at once.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) intents: Vec<Job>,
    pub(super) outcomes: Vec<Job>,
    /// Notified when all outcomes are written and synced.
    pub(super) flushes: Vec<oneshot::Sender<()>>,
    /// The runtimes that have added records.
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

#[derive(Default)]
struct State {
    next: Batch,
    closed: bool,
}

#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
}

impl Queue {
    /// Adds a record. Returns `None` if the queue is full, else whether it is the first one of its runtime; then
    /// [`Queue::wake`] has to follow. Refused calls get half of the capacity, so that they do not displace outcomes of
    /// deletions.
    pub(super) fn push(&self, job: Job) -> Option<bool> {
        let capacity = if job.entry.ends_intent {
            CAPACITY
        } else {
            CAPACITY / 2
        };
        let next = &mut crate::lock(&self.state).next;
        let queued = next.records();
        if queued >= capacity {
            return None;
        }
        let runtime = job.waiter.runtime.id();
        let first = !next.runtimes.contains(&runtime);
        if first {
            next.runtimes.push(runtime);
        }
        match job.entry.event {
            Event::Intent => next.intents.push(job),
            Event::Outcome => next.outcomes.push(job),
        }
        Some(first)
    }

    /// Wakes the writer.
    pub(super) fn wake(&self) {
        self.changed.notify_one();
    }

    /// Requests a flush. Returns the receiver of its notification.
    pub(super) fn flush(&self) -> oneshot::Receiver<()> {
        let (done, flushed) = oneshot::channel();
        crate::lock(&self.state).next.flushes.push(done);
        self.wake();
        flushed
    }

    /// Ends the writer after the next batch.
    pub(super) fn close(&self) {
        crate::lock(&self.state).closed = true;
        self.wake();
    }

    /// Waits for records or flushes. Returns an empty batch after `limit`, and `None` when the queue is closed and empty.
    pub(super) fn take(&self, limit: Duration) -> Option<Batch> {
        let idle = |state: &mut State| state.next.is_empty() && !state.closed;
        let waited = self
            .changed
            .wait_timeout_while(crate::lock(&self.state), limit, idle);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let batch = std::mem::take(&mut state.next);
        (!state.closed || !batch.is_empty()).then_some(batch)
    }

    /// Returns the number of intents in the queue.
    pub(super) fn intents(&self) -> usize {
        crate::lock(&self.state).next.intents.len()
    }

    /// Returns the number of records in the queue, and the time when the oldest was added.
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

    use time::OffsetDateTime;

    use super::{CAPACITY, Job, Queue};
    use crate::audit::record::{Entry, Event};

    fn outcome(ends_intent: bool) -> Job {
        let entry = Entry::new(OffsetDateTime::UNIX_EPOCH, Event::Outcome, "denied", "");
        let (job, ..) = Job::new(Entry {
            ends_intent,
            ..entry
        });
        job
    }

    #[tokio::test]
    async fn outcomes_of_deletions_have_room_when_refused_calls_have_none() {
        let queue = Queue::default();
        let first = outcome(false);
        let oldest = first.queued_at;
        assert_eq!(queue.push(first), Some(true));
        for _ in 1..CAPACITY / 2 {
            assert_eq!(queue.push(outcome(false)), Some(false));
        }
        assert_eq!(queue.push(outcome(false)), None);
        assert_eq!(queue.push(outcome(true)), Some(false));
        assert_eq!(queue.waiting(), (CAPACITY / 2 + 1, Some(oldest)));
        queue.close();
        let batch = queue.take(Duration::ZERO).unwrap_or_default();
        assert_eq!(batch.outcomes.len(), CAPACITY / 2 + 1);
        assert_eq!(queue.waiting(), (0, None));
        assert!(queue.take(Duration::ZERO).is_none());
    }
}
