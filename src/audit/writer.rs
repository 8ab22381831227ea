//! The writer of the audit log. It orders and chains the records, and retains outcomes that could not be written yet.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use super::{
    chain::Head,
    queue::{Batch, Job, Queue, Waiter, wake},
    record::Record,
    store::{AuditStore, Condition, OverQuota, Rejection},
};
use crate::metrics::Metrics;

/// Interval of retries, and of checks for a renamed file. Also the maximum time until an outcome is synced.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// Maximum number of outcomes that are retained while they cannot be written. Outcomes of recorded intents are retained
/// even above this limit.
const MAX_UNWRITTEN: usize = 32_768;
/// Maximum number of retained outcomes in one write.
const MAX_UNWRITTEN_BATCH: usize = 1024;
/// Maximum number of retained outcomes in the first write after a failure. It is lower than [`MAX_UNWRITTEN_BATCH`],
/// because the disk may have little space.
const UNWRITTEN_BATCH_AFTER_FAILURE: usize = 64;
/// Interval at which the head of the chain is logged. Records after the last logged head can be forged by a process
/// that can write the file, so the interval limits the unprotected period.
const HEAD_INTERVAL: Duration = Duration::from_hours(1);

pub(super) struct Writer {
    store: Box<dyn AuditStore>,
    /// Outcomes that could not be written yet, oldest first.
    unwritten: Vec<Record>,
    condition: Condition,
    /// The error that was logged last; empty while the store works.
    logged_error: String,
    /// Number of intents that are expected before the next sync. [`Self::gather`] waits briefly for them.
    expected_intents: usize,
    /// Senders that are notified when all outcomes are synced.
    flushes: Vec<oneshot::Sender<()>>,
    /// The last logged head, and the time at which it was logged.
    logged_head: (Head, Instant),
    queue: Arc<Queue>,
    metrics: Arc<Metrics>,
}

impl Writer {
    pub(super) fn new(
        store: Box<dyn AuditStore>,
        queue: Arc<Queue>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            store,
            unwritten: Vec::new(),
            condition: Condition::Unknown,
            logged_error: String::new(),
            expected_intents: 0,
            flushes: Vec::new(),
            logged_head: (Head::default(), Instant::now()),
            queue,
            metrics,
        }
    }

    /// Opens the store, notifies `opened`, and writes records until the queue is closed and empty.
    pub(super) fn run(mut self, opened: oneshot::Sender<()>) {
        self.commit(Vec::new());
        // The receiver is dropped if opening the store took too long.
        let _ = opened.send(());
        while let Some(batch) = self.queue.take(self.idle_time()) {
            self.process_batch(batch);
        }
    }

    /// Returns the maximum time to wait for records. It is short enough that written outcomes are synced within
    /// [`RETRY_INTERVAL`].
    fn idle_time(&self) -> Duration {
        if self.condition == Condition::Writable {
            RETRY_INTERVAL.saturating_sub(self.store.unsynced())
        } else {
            RETRY_INTERVAL
        }
    }

    /// Writes the records of a batch, outcomes first. If the batch is empty or contains flush requests, also syncs
    /// earlier writes.
    fn process_batch(&mut self, mut batch: Batch) {
        let idle = batch.is_empty();
        self.gather(&mut batch);
        let intents = batch.intents.len();
        if self.store.appends_whole_batches() {
            batch.outcomes.append(&mut batch.intents);
        }
        self.write_all(batch.outcomes);
        if intents > 0 {
            self.write_all(batch.intents);
            self.expected_intents = intents + self.queue.intents();
        }
        self.flushes.append(&mut batch.flushes);
        if idle || !self.flushes.is_empty() {
            self.commit(Vec::new());
            self.write_all(Vec::new());
        }
        if self.unwritten.is_empty() && self.condition == Condition::Writable {
            for done in self.flushes.drain(..) {
                // The caller may have stopped waiting.
                let _ = done.send(());
            }
        }
        self.log_head();
    }

    /// Waits briefly for more intents, so that they share one sync. As many intents are expected as were in the last
    /// sync and arrived during it, because concurrent callers usually send their next calls together. Without the
    /// wait, calls split into two groups that alternate, and each call waits for two syncs. The wait takes at most a
    /// quarter of the duration of the last sync.
    fn gather(&mut self, batch: &mut Batch) {
        let sync = self.store.commit_duration();
        if sync.is_zero() {
            return;
        }
        let deadline = Instant::now() + sync / 4;
        while (1..self.expected_intents).contains(&batch.intents.len()) && batch.flushes.is_empty()
        {
            if !self.store.appends_whole_batches() {
                self.write_all(std::mem::take(&mut batch.outcomes));
            }
            let rest = deadline.saturating_duration_since(Instant::now());
            if rest.is_zero() {
                return;
            }
            let more = self.queue.take(rest.min(sync / 8)).unwrap_or_default();
            if more.is_empty() {
                return;
            }
            batch.append(more);
        }
    }

    /// Writes these records, if there are any, and then the retained outcomes.
    fn write_all(&mut self, mut jobs: Vec<Job>) {
        // An abandoned intent must not be recorded, because its call has already failed.
        jobs.retain(|job| !job.record.is_intent() || !job.is_abandoned());
        while !jobs.is_empty() {
            let rest = jobs.split_off(jobs.len().min(self.store.max_records()));
            self.commit(jobs);
            jobs = rest;
        }
        while !self.unwritten.is_empty() && self.condition == Condition::Writable {
            self.commit(Vec::new());
        }
    }

    fn log_head(&mut self) {
        let (logged, at) = &self.logged_head;
        if at.elapsed() >= HEAD_INTERVAL && logged != self.store.head() {
            let (file, head) = (self.store.name(), self.store.head().to_string());
            tracing::info!(file, head, "audit log checkpoint");
            self.logged_head = (self.store.head().clone(), Instant::now());
        }
    }

    /// Opens the store, writes these records and some of the retained outcomes, and resolves the jobs. Without anything
    /// to write, syncs earlier writes or checks the store.
    fn commit(&mut self, jobs: Vec<Job>) {
        let outcomes = jobs.iter().filter(|job| !job.record.is_intent());
        let pending = self.unwritten.len() + outcomes.count();
        let oldest = jobs.first().map(|job| job.queued_at);
        self.queue.update(|status| {
            status.writing_since = Some(Instant::now());
            status.oldest = status.oldest.or(oldest);
        });
        let written = self.open_store().and_then(|()| self.write(&jobs));
        let condition = match &written {
            Ok(_) => Condition::Writable,
            Err(_) => Condition::Failed,
        };
        let before = std::mem::replace(&mut self.condition, condition);
        if condition == Condition::Writable && before != Condition::Writable {
            let (file, head) = (self.store.name(), self.store.head().to_string());
            tracing::info!(file, head, "audit log opened");
            self.logged_error.clear();
        }
        let mut over_quota = written.as_ref().ok().into_iter().flatten().peekable();
        let waiters = jobs.into_iter().enumerate().map(|(index, job)| {
            let left_out = over_quota.next_if(|left_out| left_out.index == index);
            match (&written, left_out) {
                (Ok(_), None) => self.handle_written(job),
                (Ok(_), Some(left_out)) => job.resolve(Err(Rejection::OverQuota(left_out.wait))).2,
                (Err(error), _) => self.handle_failed_write(job, error),
            }
        });
        let waiters = waiters.collect();
        let events = self.store.take_events();
        if events.crashes_recorded {
            self.queue.crashed.notify_one();
        }
        // The status is updated before the callers are woken, so that they see the new status.
        self.queue.update(|status| {
            status.lost += events.lost;
            status.writing_since = None;
            status.ok = written.is_ok();
            status.head.clone_from(self.store.head());
            status.external_changes = self.store.external_changes();
            status.pending = status.pending + self.unwritten.len() - pending;
            status.oldest = if self.unwritten.is_empty() {
                None
            } else {
                status.oldest.or_else(|| Some(Instant::now()))
            };
        });
        wake(waiters);
    }

    /// Opens the store unless it is open. Adds the outcome `unknown_after_crash` to the open intents of ended processes.
    fn open_store(&mut self) -> io::Result<()> {
        match self.store.open() {
            Ok(interrupted) => {
                let outcomes = interrupted.into_iter().map(Record::unknown_after_crash);
                self.unwritten.extend(outcomes);
                Ok(())
            }
            Err(error) => {
                self.log_error(&error, "audit log not opened; deletions are refused");
                Err(error)
            }
        }
    }

    /// Logs an error, unless the previous attempt has failed with the same one.
    fn log_error(&mut self, error: &io::Error, message: &'static str) {
        let text = error.to_string();
        if self.logged_error != text {
            let (file, pending) = (self.store.name(), self.unwritten.len());
            tracing::error!(file, error = text, pending, "{message}");
            self.logged_error = text;
        }
    }

    /// Writes retained outcomes and these records. Returns the positions of jobs that were left out.
    fn write(&mut self, jobs: &[Job]) -> io::Result<Vec<OverQuota>> {
        let max_retained = match self.condition {
            Condition::Writable => MAX_UNWRITTEN_BATCH,
            _ => UNWRITTEN_BATCH_AFTER_FAILURE,
        };
        let retained = self.unwritten.len().min(max_retained);
        if jobs.is_empty() && retained == 0 {
            return self.check_store();
        }
        let old = self.unwritten[..retained].iter();
        let new = jobs.iter().map(|job| &job.record);
        let records: Vec<_> = old.chain(new).collect();
        // After a failure, only a synced write shows that the store can be written again.
        let durable = !self.unwritten.is_empty()
            || self.condition != Condition::Writable
            || self.store.unsynced() >= RETRY_INTERVAL
            || jobs.iter().any(|job| job.record.is_intent());
        let start = Instant::now();
        let appended = self.store.append(&records, retained, durable);
        let took = start.elapsed().as_secs_f64();
        self.metrics.audit.writes.observe(took);
        let mut over_quota = appended.inspect_err(|error| {
            self.log_error(error, "audit log write failed; deletions are refused");
        })?;
        for outcome in self.unwritten.drain(..retained) {
            self.store.keep(outcome);
        }
        for left_out in &mut over_quota {
            left_out.index -= retained;
        }
        Ok(over_quota)
    }

    fn check_store(&mut self) -> io::Result<Vec<OverQuota>> {
        let checked = self.store.check(self.condition);
        let checked = checked.inspect_err(|error| {
            self.log_error(error, "audit log write failed; deletions are refused");
        });
        checked.map(|()| Vec::new())
    }

    /// Resolves a job whose record is written. If the caller of an intent has timed out in the meantime, the writer
    /// itself adds the outcome `not_sent`.
    fn handle_written(&mut self, job: Job) -> Waiter {
        let (record, waiting, waiter) = job.resolve(Ok(()));
        if record.is_intent() && !waiting {
            self.unwritten.push(record.not_sent());
        }
        self.store.keep(record);
        waiter
    }

    /// Resolves a job whose write failed. Retains the record of an outcome or a finding, and the outcome `not_sent` of
    /// an intent that may have been written. Above the limit, an outcome is lost and counted, and a finding is
    /// discarded.
    fn handle_failed_write(&mut self, job: Job, error: &io::Error) -> Waiter {
        let (record, _, waiter) = job.resolve(Err(Rejection::Unavailable(error.to_string())));
        if record.is_intent() {
            if self.store.may_have_appended() {
                self.unwritten.push(record.not_sent());
            }
            return waiter;
        }
        if record.ends_intent || self.unwritten.len() < MAX_UNWRITTEN {
            self.unwritten.push(record);
            return waiter;
        }
        if record.is_outcome() {
            self.queue.update(|status| status.lost += 1);
            record.log_loss();
        }
        waiter
    }
}

#[cfg(test)]
mod tests {
    use std::{env, fs, process, sync::Arc, time::Duration};

    use super::{Batch, Job, MAX_UNWRITTEN_BATCH, Queue, RETRY_INTERVAL, Record, Writer};
    use crate::{
        audit::{
            file_store::FileStore,
            record::{CallMembers, Entry, Event},
        },
        config::{Audit, AuditSink},
    };

    fn outcome() -> Record {
        let entry = Entry {
            event: Event::Outcome,
            ..Entry::default()
        };
        Record::new(&CallMembers::default(), &entry)
    }

    #[tokio::test]
    async fn outcomes_are_written_with_next_batch_and_synced_within_one_second() {
        let path = env::temp_dir().join(format!("useradmin-writer-{}", process::id()));
        let config = Audit {
            sink: AuditSink::File(path.clone()),
            sync: true,
        };
        let queue = Arc::<Queue>::default();
        let mut writer = Writer::new(
            Box::new(FileStore::new(&config)),
            Arc::clone(&queue),
            Arc::default(),
        );
        writer.commit(Vec::new());
        let write_outcome = |writer: &mut Writer| {
            let (job, _pending) = Job::new(outcome());
            assert!(queue.push(job).is_some());
            writer.process_batch(queue.take(Duration::ZERO).unwrap_or_default());
        };
        // One outcome more than a single write contains.
        let unwritten = MAX_UNWRITTEN_BATCH + 1;
        writer.unwritten.resize_with(unwritten, outcome);
        queue.update(|status| status.pending = unwritten);
        write_outcome(&mut writer);
        let status = queue.status();
        assert_eq!((status.pending, status.oldest), (0, None));
        assert_eq!(status.head.seq, unwritten as u64 + 1);

        write_outcome(&mut writer);
        let unsynced = writer.store.unsynced();
        assert!(!unsynced.is_zero());
        assert!(writer.idle_time() + unsynced <= RETRY_INTERVAL);
        // The next batch is empty if no record arrives within the idle time.
        writer.process_batch(Batch::default());
        assert!(writer.store.unsynced().is_zero());
        assert!(fs::remove_file(path).is_ok());
    }
}
