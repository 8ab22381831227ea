//! The writer of the audit log: the order of the records, their chain, and outcomes that could not be written yet.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use time::OffsetDateTime;
use tokio::sync::oneshot;

use super::{
    batch::{Batch, Command, Group, Job, MAX_BATCH},
    chain::{Head, Lines},
    record::{Entry, Event, Retained, unknown_after_crash},
    recovery::RecoveredState,
    sink::{Opened, Sink},
    status::Status,
};
use crate::{config, metrics::Metrics, proto::ErrorReason};

/// Interval of retries and of checks of the file's name, and the longest time that an outcome is not synced.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// Maximum number of outcomes that are retained while they cannot be written.
const MAX_OWED: usize = 65_536;
/// Interval of logging the head. Records after the last head that was logged can be forged.
const HEAD_INTERVAL: Duration = Duration::from_hours(1);

pub(super) struct Writer {
    sink: Sink,
    sync: bool,
    head: Head,
    /// Outcomes that are not written yet.
    owed: Vec<Retained>,
    /// Maximum number of them in one write: after a failure there may be space for a few.
    max_owed_batch: usize,
    /// Recorded intents without a recorded outcome, by request ID.
    open: BTreeMap<String, Retained>,
    /// Whether the file is new and has to start with the open intents.
    carry: bool,
    /// Number of intents of the last sync, until `expect_more` reads it.
    served: Option<usize>,
    /// Number of intents that are worth a sync.
    expected: usize,
    condition: Condition,
    /// The head that was logged last, and the time.
    logged_head: (Head, Instant),
    status: Arc<Status>,
    metrics: Arc<Metrics>,
}

/// The result of the last attempt to use the sink.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Condition {
    /// The sink was not used yet.
    Untried,
    /// The sink is open, and the last write succeeded.
    Works,
    /// The sink could not be opened, written or synced.
    Failed,
}

impl Writer {
    pub(super) fn new(config: config::Audit, status: Arc<Status>, metrics: Arc<Metrics>) -> Self {
        Self {
            sink: Sink::new(config.sink, config.sync),
            sync: config.sync,
            head: Head::default(),
            owed: Vec::new(),
            max_owed_batch: MAX_BATCH,
            open: BTreeMap::new(),
            carry: false,
            served: None,
            expected: 0,
            condition: Condition::Untried,
            logged_head: (Head::default(), Instant::now()),
            status,
            metrics,
        }
    }

    /// Opens the sink, notifies `opened`, and processes commands until all senders are dropped.
    pub(super) fn run(
        writer: &Mutex<Self>,
        commands: &Receiver<Command>,
        opened: oneshot::Sender<()>,
    ) {
        crate::lock(writer).commit(Vec::new());
        // The server no longer waits if this took too long.
        let _ = opened.send(());
        loop {
            let mut batch = Batch::default();
            batch.add_queued(commands);
            crate::lock(writer).expect_more(&batch);
            if batch.is_empty() {
                match commands.recv_timeout(RETRY_INTERVAL) {
                    Ok(command) => batch.add(command),
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => return,
                }
                batch.add_queued(commands);
            }
            let mut writer = crate::lock(writer);
            writer.gather(&mut batch, commands);
            writer.process_batch(batch);
        }
    }

    /// Expects the calls of the last sync, and those that arrived during it, to wait for the next one.
    fn expect_more(&mut self, batch: &Batch) {
        if let Some(served) = self.served.take() {
            self.expected = served + batch.intents.jobs.len();
        }
    }

    fn process_batch(&mut self, mut batch: Batch) {
        let idle = batch.is_empty();
        self.write_group(&mut batch.outcomes);
        let intents = batch.intents.jobs.len();
        if intents > 0 {
            self.served = Some(intents);
        }
        self.write_group(&mut batch.intents);
        if idle || !batch.to_sync.is_empty() {
            self.record(Vec::new());
        }
        for done in batch.to_sync {
            // Without a notification, the caller waits until its timeout.
            let _ = if self.condition == Condition::Works {
                done.send(())
            } else {
                Ok(())
            };
        }
        self.log_head();
    }

    /// Waits for the expected intents if a sync is slow, for a part of the time that they would wait for the sync after
    /// it. Outcomes do not wait for that.
    fn gather(&mut self, batch: &mut Batch, commands: &Receiver<Command>) {
        let takes = self.sink.sync_takes();
        let until = Instant::now() + takes / 4;
        while (1..self.expected).contains(&batch.intents.jobs.len()) && batch.to_sync.is_empty() {
            self.write_group(&mut batch.outcomes);
            let rest = until.saturating_duration_since(Instant::now());
            if rest.is_zero() {
                return;
            }
            let Ok(command) = commands.recv_timeout(rest.min(takes / 8)) else {
                return;
            };
            batch.add(command);
            batch.add_queued(commands);
        }
    }

    fn write_group(&mut self, group: &mut Group) {
        let Group { jobs, waiters } = std::mem::take(group);
        if !jobs.is_empty() {
            self.record(jobs);
        }
        for done in waiters {
            // The receiver may be dropped.
            let _ = done.send(());
        }
    }

    /// Whether these records would be written without blocking.
    pub(super) fn is_quick(&self, jobs: &[Job]) -> bool {
        let bytes = || jobs.iter().map(|job| job.entry.max_bytes()).sum();
        self.condition == Condition::Works && self.owed.is_empty() && self.sink.is_quick(bytes)
    }

    /// Writes records, and the outcomes that are owed.
    pub(super) fn record(&mut self, mut group: Vec<Job>) {
        self.status.dequeue(group.len());
        // The caller has reported a timed-out intent as failed: it must not be recorded.
        group.retain(|job| job.entry.event == Event::Outcome || !job.done.is_closed());
        self.commit(group);
        while !self.owed.is_empty() && self.condition == Condition::Works {
            self.commit(Vec::new());
        }
    }

    fn log_head(&mut self) {
        let (told, at) = &self.logged_head;
        if at.elapsed() >= HEAD_INTERVAL && *told != self.head {
            let (file, head) = (self.sink.name(), self.head.to_string());
            tracing::info!(file, head, "the audit log goes on");
            self.logged_head = (self.head.clone(), Instant::now());
        }
    }

    fn commit(&mut self, group: Vec<Job>) {
        self.status.writing();
        let written = self.open_sink().and_then(|()| self.write(&group));
        self.status.written(written.is_ok());
        match written {
            Ok(()) => {
                let before = std::mem::replace(&mut self.condition, Condition::Works);
                if before != Condition::Works {
                    let (file, head) = (self.sink.name(), self.head.to_string());
                    tracing::info!(file, head, "the audit log is open");
                }
                for job in group {
                    self.acknowledge(job);
                }
            }
            Err(error) => {
                self.condition = Condition::Failed;
                for job in group {
                    self.refuse(job, &error);
                }
            }
        }
        if self.owed.is_empty() {
            self.status.caught_up();
        }
    }

    /// Opens the sink, or the new file of its name.
    fn open_sink(&mut self) -> io::Result<()> {
        let opened = self.sink.open();
        self.status
            .set_changes_by_others(self.sink.changes_by_others());
        match opened {
            Ok(Opened::Same) => {}
            Ok(Opened::First(recovered)) => self.resume(recovered),
            Ok(Opened::New) => {
                let (file, head) = (self.sink.name(), self.head.to_string());
                let open = self.open.len();
                tracing::info!(file, head, open, "the audit log goes on in a new file");
                self.carry = true;
            }
            Err(error) => {
                let file = self.sink.name();
                tracing::error!(file, %error, "the audit log cannot be opened; deletions are refused until it can");
                return Err(error);
            }
        }
        Ok(())
    }

    /// Continues the chain of an earlier process. Its open intents are owed an outcome.
    fn resume(&mut self, recovered: RecoveredState) {
        let (file, open) = (self.sink.name(), recovered.open.len());
        if recovered.cut > 0 {
            let bytes = recovered.cut;
            tracing::warn!(
                file,
                bytes,
                "an unfinished record at the end of the audit log was cut off"
            );
        }
        if recovered.foreign_lines > 0 {
            let lines = recovered.foreign_lines;
            tracing::warn!(file, lines, "the audit log has lines that are no records");
        }
        if let Some(before) = &recovered.predecessor {
            let before = before.display();
            tracing::info!(file, %before, "the audit log goes on from a file that was renamed");
            self.carry = true;
        }
        if open > 0 {
            tracing::warn!(
                file,
                open,
                "calls that a crash cut off are recorded as unknown"
            );
        }
        if let Some(head) = recovered.head {
            self.head = head;
            self.status.set_head(&self.head);
        }
        for (id, intent) in recovered.open {
            self.status.owe();
            self.owed
                .push(Retained::Recovered(unknown_after_crash(&intent)));
            self.open.insert(id, Retained::Recovered(intent));
        }
    }

    fn write(&mut self, group: &[Job]) -> io::Result<()> {
        let mut lines = Lines::after(&self.head);
        if self.carry {
            for intent in self.open.values() {
                lines.push(intent, None, true)?;
            }
        }
        let owed = self.owed.len().min(self.max_owed_batch);
        for outcome in &self.owed[..owed] {
            lines.push(outcome, outcome.at(), false)?;
        }
        for job in group {
            lines.push(&job.entry, Some(job.entry.at), false)?;
        }
        if lines.text.is_empty() {
            return self.idle();
        }
        let intent = group.iter().any(|job| job.entry.event == Event::Intent);
        // After a failure, a write that is not synced would prove nothing.
        let needed = intent || self.carry || !self.owed.is_empty() || self.status.failed();
        let needed = needed || self.sink.is_overdue(RETRY_INTERVAL);
        let begun = Instant::now();
        let written = self.sink.write(&lines.text, self.sync && needed);
        let took = begun.elapsed().as_secs_f64();
        self.metrics.audit.writes.observe(took);
        if let Err(error) = written {
            self.max_owed_batch = (self.max_owed_batch / 2).max(1);
            let (file, owed) = (self.sink.name(), self.owed.len());
            tracing::error!(file, %error, owed, "the audit log failed; deletions are refused");
            return Err(error);
        }
        self.max_owed_batch = (self.max_owed_batch * 2).min(MAX_BATCH);
        self.head = lines.head;
        self.status.set_head(&self.head);
        self.carry = false;
        let entries = group.iter().map(|job| &*job.entry);
        let new = entries.filter(|entry| entry.event == Event::Outcome);
        let new = new.map(|entry| &*entry.request_id);
        let retained = self.owed[..owed].iter().map(Retained::request_id);
        let outcomes: Vec<_> = retained.chain(new).collect();
        for request_id in &outcomes {
            self.open.remove(*request_id);
        }
        self.status.settle(outcomes.len());
        self.owed.drain(..owed);
        Ok(())
    }

    /// Syncs earlier writes when there is nothing to write. After a failure, checks whether the sink works again.
    fn idle(&mut self) -> io::Result<()> {
        let synced = self.sink.sync();
        let checked = synced.and_then(|()| match self.condition {
            Condition::Untried => self.sink.check_space(),
            Condition::Works => Ok(()),
            Condition::Failed => self.sink.probe(),
        });
        // The probe runs every second; only its first failure is logged.
        if let Err(error) = &checked
            && self.condition != Condition::Failed
        {
            let file = self.sink.name();
            tracing::error!(file, %error, "the audit log failed; deletions are refused");
        }
        checked
    }

    /// Resolves a job whose record is written. An intent whose caller timed out meanwhile is owed an outcome.
    fn acknowledge(&mut self, job: Job) {
        let notified = job.done.send(Ok(())).is_ok();
        if job.entry.event == Event::Outcome {
            return;
        }
        if !notified {
            self.status.owe();
            self.owed.push(Retained::Entry(Box::new(Entry {
                at: OffsetDateTime::now_utc(),
                event: Event::Outcome,
                outcome: "not_sent",
                reason: ErrorReason::AuditUnavailable.as_str_name(),
                ..(*job.entry).clone()
            })));
        }
        let request_id = job.entry.request_id.clone();
        self.open.insert(request_id, Retained::Entry(job.entry));
    }

    /// Resolves a job whose record is not written, and retains an outcome.
    fn refuse(&mut self, job: Job, error: &io::Error) {
        // A caller that timed out has already reported the failure.
        let _ = job
            .done
            .send(Err(io::Error::new(error.kind(), error.to_string())));
        if job.entry.event == Event::Intent {
            return;
        }
        let max = if job.entry.ends_intent {
            MAX_OWED
        } else {
            MAX_OWED / 2
        };
        if self.owed.len() < max {
            self.owed.push(Retained::Entry(job.entry));
        } else {
            self.status.settle(1);
            self.status.lose();
            let request_id = &job.entry.request_id;
            tracing::error!(
                request_id,
                outcome = job.entry.outcome,
                "an outcome is lost: too many are owed"
            );
        }
    }
}
