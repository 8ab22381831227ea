//! The audit log. The intent of a deletion is recorded before the DELETE is sent, and its outcome afterwards. A
//! writer thread appends the records. Records that are queued at the same time share one write and one sync (group
//! commit). docs/audit.md describes the format.
//!
//! The only way into the log is `Audit::record`, which adds a record to the queue. The writer thread passes the records
//! of a batch to an `AuditStore`, which is a file or a database, and notifies the waiting calls.

mod cases;
mod chain;
mod columns;
mod file;
mod file_lines;
mod file_store;
mod postgres_report;
mod postgres_store;
mod postgres_verify;
mod queue;
mod reader;
mod record;
mod recovery;
mod report;
mod sink;
mod store;
mod verify;
mod wake_up;
mod writer;

use std::{
    future::{self, Future},
    io,
    sync::Arc,
    thread,
    time::Duration,
};

use tokio::{runtime::Handle, sync::oneshot, time::timeout};

pub(crate) use self::{
    cases::is_in_use,
    queue::WRITE_TIMEOUT,
    record::{CallFields, CallMembers, Charge, Entry, Event, Record},
};
pub use self::{
    cases::{CaseList, Cases, Log, Scope, unsettled, unsettled_in_file},
    chain::Head,
    file_lines::{Finding, UnreadableLog},
    postgres_report::report_database,
    postgres_verify::verify_database,
    record::Case,
    report::{Call, Filter, ReportError, ReportTotals, report},
    verify::{Summary, VerifyOptions, verify},
};
use self::{
    file_store::FileStore,
    postgres_store::PostgresStore,
    queue::{Job, Queue, Status},
    store::{AuditStore, Rejection},
    wake_up::WakeUp,
    writer::Writer,
};
use crate::{
    config::{self, AuditSink},
    error::Failure,
    metrics::{AuditState, Metrics},
    postgres::Database,
    proto::ErrorReason,
};

/// Handle of the audit log. It contains `None` if the configuration disables the audit log.
#[derive(Clone)]
pub struct Audit(Option<Arc<OpenQueue>>);

/// Closes the queue when the last handle of the audit log is dropped.
struct OpenQueue {
    queue: Arc<Queue>,
    /// The log, if it can be read.
    log: Option<Log>,
}

impl Drop for OpenQueue {
    fn drop(&mut self) {
        self.queue.close();
    }
}

/// Calls a function when dropped.
struct OnDrop<F: Fn()>(F);

impl<F: Fn()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

impl Audit {
    /// Starts the writer thread and waits up to one second until the log is open. Without a database, the log is a file
    /// or standard output. If it cannot be opened, the writer retries, and the log is unhealthy until then. Returns an
    /// error if the thread cannot be started.
    pub(crate) async fn start(
        config: &config::Audit,
        database: Option<&Arc<Database>>,
        metrics: &Arc<Metrics>,
    ) -> io::Result<Self> {
        if database.is_none() && config.sink == AuditSink::Discard {
            return Ok(Self(None));
        }
        let (audit, opened) = Self::start_writer(config, database, metrics)?;
        // A file that hangs must not prevent the server from starting or stopping.
        let _late = timeout(WRITE_TIMEOUT, opened).await;
        Ok(audit)
    }

    /// Starts the writer thread, and waits until the log was read and is open. If it cannot be opened, the log is
    /// unhealthy.
    pub(crate) async fn open(
        config: &config::Audit,
        database: Option<&Arc<Database>>,
        metrics: &Arc<Metrics>,
    ) -> io::Result<Self> {
        let (audit, opened) = Self::start_writer(config, database, metrics)?;
        // The sender is dropped if the thread panics; the log is then unhealthy.
        let _panicked = opened.await;
        Ok(audit)
    }

    /// Starts the writer thread. Returns a receiver that is notified after the first attempt to open the log.
    fn start_writer(
        config: &config::Audit,
        database: Option<&Arc<Database>>,
        metrics: &Arc<Metrics>,
    ) -> io::Result<(Self, oneshot::Receiver<()>)> {
        let queue = Arc::<Queue>::default();
        let (opened, ready) = oneshot::channel();
        let store: Box<dyn AuditStore> = match database.map(Arc::clone) {
            Some(database) => Box::new(PostgresStore::new(
                database,
                Handle::current(),
                metrics.store.clone(),
            )),
            None => Box::new(FileStore::new(config)),
        };
        let writer = Writer::new(store, Arc::clone(&queue), Arc::clone(metrics));
        let thread_queue = Arc::clone(&queue);
        thread::Builder::new()
            .name("audit".to_owned())
            .spawn(move || {
                // The log is marked as unhealthy when the thread ends, even if it panics.
                let _not_ok = OnDrop(|| thread_queue.update(|status| status.ok = false));
                writer.run(opened);
            })?;
        let log = Log::new(config, database);
        Ok((Self(Some(Arc::new(OpenQueue { queue, log }))), ready))
    }

    /// Returns the log, or `None` if it is not a database or a regular file.
    pub(crate) fn log(&self) -> Option<Log> {
        match self.0.as_ref()?.log.clone()? {
            Log::File(path) if !path.is_file() => None,
            log => Some(log),
        }
    }

    fn status(&self) -> Status {
        match &self.0 {
            Some(open) => open.queue.status(),
            None => Status {
                ok: true,
                ..Status::default()
            },
        }
    }

    /// Returns whether records can be written. While they cannot, deletions are refused.
    pub(crate) fn is_healthy(&self) -> bool {
        self.status().is_healthy()
    }

    /// Waits until all outcomes that were recorded so far are written and synced. If a sync hangs, stops waiting
    /// after [`WRITE_TIMEOUT`] without an outcome left to write. There is no time limit while outcomes are not
    /// written yet.
    pub(crate) async fn flush(&self) {
        let Some(open) = &self.0 else {
            return;
        };
        let mut flushed = open.queue.flush();
        loop {
            // The last sync has the full time limit, which begins after the last outcome is written.
            let pending = self.pending();
            if timeout(WRITE_TIMEOUT, &mut flushed).await.is_ok() || pending == 0 {
                return;
            }
        }
    }

    pub(crate) fn metrics(&self) -> AuditState {
        let status = self.status();
        let queue = self.0.as_ref();
        let (queued, oldest) = queue.map(|open| open.queue.waiting()).unwrap_or_default();
        let oldest = status.oldest.or(oldest);
        AuditState {
            writable: status.is_healthy(),
            external_changes: status.external_changes,
            lost: status.lost,
            queued,
            pending: status.pending,
            lag: oldest.map_or(Duration::ZERO, |since| since.elapsed()),
        }
    }

    /// Waits until the writer has recorded calls of dead replicas as unknown.
    pub(crate) async fn crashed(&self) {
        match &self.0 {
            Some(open) => open.queue.crashed.notified().await,
            None => future::pending().await,
        }
    }

    /// Returns the sequence number and hash of the last record of the file.
    pub(crate) fn head(&self) -> Head {
        self.status().head
    }

    /// Returns the number of outcomes that are not written yet.
    pub(crate) fn pending(&self) -> usize {
        self.status().pending
    }

    /// Queues a record, and returns a future that waits until it is written. The future returns `Ok` when an intent is
    /// synced (if the configuration requires a sync) or an outcome is written. Fails if the queue is full, if the write
    /// fails, if the quota of the caller is used up, or if it takes longer than `limit` or [`WRITE_TIMEOUT`], which begin
    /// when the writer is woken, at most a few milliseconds after the call of this function. After a
    /// failed write, an outcome is retained until the file works again; an intent is not, because its call is refused.
    /// Returns `Ok` for an outcome of a call that a full queue has lost, which is logged at once.
    pub(crate) fn record(
        &self,
        record: Record,
        limit: Duration,
    ) -> impl Future<Output = Result<(), Failure>> + Send + use<> {
        let queue = self.0.as_ref().map(|open| Arc::clone(&open.queue));
        let is_outcome = record.is_outcome();
        let (job, pending) = Job::new(record);
        let pushed = queue.as_ref().map(|queue| queue.push(job));
        let first = pushed.as_ref().and_then(Option::as_ref);
        let first = first.filter(|added| added.is_first_of_runtime);
        // The writer is woken even if the future is dropped.
        let wake_up = queue
            .zip(first)
            .map(|(queue, added)| WakeUp::new(queue, added.batch));
        async move {
            match pushed {
                None => return Ok(()),
                Some(None) if is_outcome => return Ok(()),
                Some(None) => return Err(unavailable("the writer does not keep up")),
                Some(Some(_)) => {}
            }
            if let Some(wake_up) = wake_up {
                wake_up.after_more_records().await;
            }
            let result = pending.wait(limit.min(WRITE_TIMEOUT)).await;
            match result {
                Some(Ok(())) => Ok(()),
                Some(Err(Rejection::Unavailable(error))) => Err(unavailable(&error)),
                Some(Err(Rejection::OverQuota(wait))) => Err(Failure::over_quota(wait)),
                None => Err(unavailable("the log takes too long")),
            }
        }
    }
}

fn unavailable(context: &str) -> Failure {
    Failure::new(ErrorReason::AuditUnavailable, format!("audit: {context}"))
}
