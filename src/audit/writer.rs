//! The writer of the audit log. It orders and chains the records, and retains outcomes that could not be written yet.

use std::{
    collections::BTreeMap,
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use super::{
    chain::{Head, Lines},
    queue::{Batch, Job, Queue, Waiter, wake},
    record::Record,
    recovery::RecoveredState,
    sink::{Opened, Sink},
};
use crate::{config, metrics::Metrics};

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
    sink: Sink,
    head: Head,
    /// Outcomes that could not be written yet, oldest first.
    unwritten: Vec<Record>,
    /// Recorded intents that have no recorded outcome, by request ID.
    open_intents: BTreeMap<Arc<str>, Record>,
    /// Whether the next write must repeat the open intents, because the file is new.
    carries_open_intents: bool,
    condition: Condition,
    /// Number of intents that are expected before the next sync. [`Self::gather`] waits briefly for them.
    expected_intents: usize,
    /// Senders that are notified when all outcomes are synced.
    flushes: Vec<oneshot::Sender<()>>,
    /// The last logged head, and the time at which it was logged.
    logged_head: (Head, Instant),
    queue: Arc<Queue>,
    metrics: Arc<Metrics>,
}

/// The result of the last attempt to use the sink.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Condition {
    /// No attempt was made yet.
    Unknown,
    /// The sink is open, and the last write succeeded.
    Writable,
    /// The sink could not be opened, written or synced.
    Failed,
}

impl Writer {
    pub(super) fn new(config: &config::Audit, queue: Arc<Queue>, metrics: Arc<Metrics>) -> Self {
        Self {
            sink: Sink::new(config.sink.clone(), config.sync),
            head: Head::default(),
            unwritten: Vec::new(),
            open_intents: BTreeMap::new(),
            carries_open_intents: false,
            condition: Condition::Unknown,
            expected_intents: 0,
            flushes: Vec::new(),
            logged_head: (Head::default(), Instant::now()),
            queue,
            metrics,
        }
    }

    /// Opens the sink, notifies `opened`, and writes records until the queue is closed and empty.
    pub(super) fn run(mut self, opened: oneshot::Sender<()>) {
        self.commit(Vec::new());
        // The receiver is dropped if opening the sink took too long.
        let _ = opened.send(());
        while let Some(batch) = self.queue.take(self.idle_time()) {
            self.process_batch(batch);
        }
    }

    /// Returns the maximum time to wait for records. It is short enough that written outcomes are synced within
    /// [`RETRY_INTERVAL`].
    fn idle_time(&self) -> Duration {
        if self.condition == Condition::Writable {
            RETRY_INTERVAL.saturating_sub(self.sink.unsynced())
        } else {
            RETRY_INTERVAL
        }
    }

    /// Writes the records of a batch. Outcomes are written first, because they need not wait for the sync of the
    /// intents. If the batch is empty or contains flush requests, also syncs earlier writes.
    fn process_batch(&mut self, mut batch: Batch) {
        let idle = batch.is_empty();
        self.gather(&mut batch);
        self.write_all(batch.outcomes);
        let intents = batch.intents.len();
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
        let sync = self.sink.sync_duration();
        if sync.is_zero() {
            return;
        }
        let deadline = Instant::now() + sync / 4;
        while (1..self.expected_intents).contains(&batch.intents.len()) && batch.flushes.is_empty()
        {
            self.write_all(std::mem::take(&mut batch.outcomes));
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
        if !jobs.is_empty() {
            self.commit(jobs);
        }
        while !self.unwritten.is_empty() && self.condition == Condition::Writable {
            self.commit(Vec::new());
        }
    }

    fn log_head(&mut self) {
        let (logged, at) = &self.logged_head;
        if at.elapsed() >= HEAD_INTERVAL && *logged != self.head {
            let (file, head) = (self.sink.name(), self.head.to_string());
            tracing::info!(file, head, "audit log checkpoint");
            self.logged_head = (self.head.clone(), Instant::now());
        }
    }

    /// Opens the sink, writes these records and some of the retained outcomes, and resolves the jobs. Without
    /// anything to write, syncs or probes the sink.
    fn commit(&mut self, jobs: Vec<Job>) {
        let outcomes = jobs.iter().filter(|job| !job.record.is_intent());
        let pending = self.unwritten.len() + outcomes.count();
        let oldest = jobs.first().map(|job| job.queued_at);
        self.queue.update(|status| {
            status.writing_since = Some(Instant::now());
            status.oldest = status.oldest.or(oldest);
        });
        let written = self.open_sink().and_then(|()| self.write(&jobs));
        let condition = match &written {
            Ok(()) => Condition::Writable,
            Err(_) => Condition::Failed,
        };
        let before = std::mem::replace(&mut self.condition, condition);
        if condition == Condition::Writable && before != Condition::Writable {
            let (file, head) = (self.sink.name(), self.head.to_string());
            tracing::info!(file, head, "audit log opened");
        }
        let waiters = jobs.into_iter().map(|job| match &written {
            Ok(()) => self.handle_written(job),
            Err(error) => self.handle_failed_write(job, error),
        });
        let waiters = waiters.collect();
        // The status is updated before the callers are woken, so that they see the new status.
        self.queue.update(|status| {
            status.writing_since = None;
            status.ok = written.is_ok();
            status.head.clone_from(&self.head);
            status.external_changes = self.sink.external_changes;
            status.pending = status.pending + self.unwritten.len() - pending;
            status.oldest = if self.unwritten.is_empty() {
                None
            } else {
                status.oldest.or_else(|| Some(Instant::now()))
            };
        });
        wake(waiters);
    }

    /// Opens the sink unless it is open. Opens a new file with the configured name if the file was renamed.
    fn open_sink(&mut self) -> io::Result<()> {
        match self.sink.open() {
            Ok(Opened::Same) => {}
            Ok(Opened::First(recovered)) => self.resume(recovered),
            Ok(Opened::New) => {
                let (file, head) = (self.sink.name(), self.head.to_string());
                let open = self.open_intents.len();
                tracing::info!(file, head, open, "audit log reopened");
                self.carries_open_intents = true;
            }
            Err(error) => {
                let file = self.sink.name();
                tracing::error!(file, %error, "audit log not opened; deletions are refused");
                return Err(error);
            }
        }
        Ok(())
    }

    /// Continues the chain of an earlier process, and adds the outcome `unknown_after_crash` to its open intents.
    fn resume(&mut self, recovered: RecoveredState) {
        recovered.log(&self.sink.name());
        self.carries_open_intents = recovered.predecessor.is_some();
        self.head = recovered.head.unwrap_or_default();
        for (id, intent) in recovered.open {
            let outcome = Record::unknown_after_crash(intent.clone());
            self.unwritten.push(outcome);
            self.open_intents
                .insert(id.into(), Record::recovered_intent(intent));
        }
    }

    fn write(&mut self, jobs: &[Job]) -> io::Result<()> {
        let mut lines = Lines::after(&self.head, jobs.len());
        if self.carries_open_intents {
            for intent in self.open_intents.values() {
                lines.push(intent, true);
            }
        }
        let max_retained = match self.condition {
            Condition::Writable => MAX_UNWRITTEN_BATCH,
            _ => UNWRITTEN_BATCH_AFTER_FAILURE,
        };
        let retained = self.unwritten.len().min(max_retained);
        for outcome in &self.unwritten[..retained] {
            lines.push(outcome, false);
        }
        for job in jobs {
            lines.push(&job.record, false);
        }
        if lines.text.is_empty() {
            return self.sync_or_probe();
        }
        // After a failure, only a synced write shows that the file can be written again.
        let sync = self.carries_open_intents
            || !self.unwritten.is_empty()
            || self.condition != Condition::Writable
            || self.sink.unsynced() >= RETRY_INTERVAL
            || jobs.iter().any(|job| job.record.is_intent());
        let start = Instant::now();
        let written = self.sink.write(&lines.text, sync);
        let took = start.elapsed().as_secs_f64();
        self.metrics.audit.writes.observe(took);
        if let Err(error) = written {
            let (file, pending) = (self.sink.name(), self.unwritten.len());
            tracing::error!(file, %error, pending, "audit log write failed; deletions are refused");
            return Err(error);
        }
        self.head = lines.head;
        self.carries_open_intents = false;
        for outcome in self.unwritten.drain(..retained) {
            self.open_intents.remove(&outcome.request_id);
        }
        Ok(())
    }

    /// Syncs earlier writes. Called when there is nothing to write. After a failure, also checks whether the sink
    /// works again, and returns an error if it does not.
    fn sync_or_probe(&mut self) -> io::Result<()> {
        let synced = self.sink.sync();
        let checked = synced.and_then(|()| match self.condition {
            Condition::Unknown => self.sink.check_space(),
            Condition::Writable => Ok(()),
            Condition::Failed => self.sink.probe(),
        });
        // The probe runs every second; only its first failure is logged.
        if let Err(error) = &checked
            && self.condition != Condition::Failed
        {
            let file = self.sink.name();
            tracing::error!(file, %error, "audit log write failed; deletions are refused");
        }
        checked
    }

    /// Resolves a job whose record is written. If the caller of an intent has timed out in the meantime, the writer
    /// itself adds the outcome `not_sent`.
    fn handle_written(&mut self, job: Job) -> Waiter {
        let (record, waiting, waiter) = job.resolve(Ok(()));
        if !record.is_intent() {
            self.open_intents.remove(&record.request_id);
            return waiter;
        }
        if !waiting {
            self.unwritten.push(record.not_sent());
        }
        self.open_intents
            .insert(Arc::clone(&record.request_id), record);
        waiter
    }

    /// Resolves a job whose write failed. Retains the record of an outcome or a finding. Above the limit, an outcome is
    /// lost and counted, and a finding is discarded.
    fn handle_failed_write(&mut self, job: Job, error: &io::Error) -> Waiter {
        let (record, _, waiter) = job.resolve(Err(error.to_string()));
        if record.is_intent() {
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
        audit::record::{CallMembers, Entry, Event},
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
        let mut writer = Writer::new(&config, Arc::clone(&queue), Arc::default());
        writer.commit(Vec::new());
        let write_outcome = |writer: &mut Writer| {
            let (job, _pending) = Job::new(outcome());
            assert_eq!(queue.push(job), Some(true));
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
        let unsynced = writer.sink.unsynced();
        assert!(!unsynced.is_zero());
        assert!(writer.idle_time() + unsynced <= RETRY_INTERVAL);
        // The next batch is empty if no record arrives within the idle time.
        writer.process_batch(Batch::default());
        assert!(writer.sink.unsynced().is_zero());
        assert!(fs::remove_file(path).is_ok());
    }
}
