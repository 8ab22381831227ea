//! The audit log. The intent of a deletion is recorded before the DELETE is sent, its outcome afterwards. A writer thread
//! appends the records; those that wait at the same time share one write and one sync (group commit). docs/audit.md
//! describes the format.
//!
//! `record`, `chain` and `status` import nothing of this module, `line_reader`, `parse` and `recovery` read files, `file`
//! and `sink` write them, `writer` combines these, and `queue` connects it with the calls.

mod batch;
mod chain;
mod file;
mod line_reader;
mod parse;
mod queue;
mod record;
mod recovery;
mod sink;
mod status;
mod stdout;
mod verify;
mod writer;

use std::{
    io,
    sync::{Arc, Mutex, mpsc},
    thread,
    time::Duration,
};

use tokio::{sync::oneshot, time::timeout};

use self::{batch::Job, queue::Queue, status::Status, writer::Writer};
pub use self::{
    chain::Head,
    verify::{Finding, Question, Summary, Unreadable, verify},
};
pub(crate) use self::{
    record::{Entry, Event, timestamp},
    status::WRITE_TIMEOUT,
};
use crate::{
    config::{self, AuditSink},
    error::Failure,
    metrics::{AuditState, Metrics},
    proto::ErrorReason,
};

/// Maximum number of records in the queue.
const QUEUE: usize = 16_384;

/// Handle of the audit log.
#[derive(Clone)]
pub struct Audit {
    /// `None` if nothing is recorded.
    queue: Option<Arc<Queue>>,
    status: Arc<Status>,
}

impl Audit {
    /// Starts the writer thread and waits up to [`WRITE_TIMEOUT`] until the file is open. A file that cannot be opened is
    /// tried again.
    pub async fn start(config: &config::Audit, metrics: &Arc<Metrics>) -> io::Result<Self> {
        let status = Arc::new(Status::default());
        if config.sink == AuditSink::Nowhere {
            status.written(true);
            return Ok(Self {
                queue: None,
                status,
            });
        }
        let (sender, commands) = mpsc::channel();
        let (opened, ready) = oneshot::channel();
        let writer = Writer::new(config.clone(), Arc::clone(&status), Arc::clone(metrics));
        let writer = Arc::new(Mutex::new(writer));
        let own = Arc::clone(&writer);
        thread::Builder::new()
            .name("audit".to_owned())
            .spawn(move || Writer::run(&own, &commands, opened))?;
        // A file that hangs must not prevent the server from starting or stopping.
        let _late = timeout(WRITE_TIMEOUT, ready).await;
        Ok(Self {
            queue: Some(Arc::new(Queue::new(writer, sender, Arc::clone(&status)))),
            status,
        })
    }

    /// Whether records can be written. While they cannot, deletions are refused.
    #[must_use]
    pub fn works(&self) -> bool {
        self.status.works()
    }

    /// Waits until all outcomes that were recorded so far are synced.
    pub async fn flush(&self) {
        self.status.settled().await;
        let (done, synced) = oneshot::channel();
        if let Some(queue) = &self.queue
            && queue.sync(done)
        {
            let _late = timeout(WRITE_TIMEOUT, synced).await;
        }
    }

    #[must_use]
    pub(crate) fn metrics(&self) -> AuditState {
        self.status.metrics()
    }

    /// Returns the last record of the file.
    #[must_use]
    pub fn head(&self) -> Head {
        self.status.head()
    }

    /// Returns the number of outcomes that are not written yet.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.status.pending()
    }

    /// Writes a record. Returns `Ok` when an intent is synced (if configured) or an outcome is written. An outcome that
    /// cannot be written is retained until the file works again; an intent is not, because its call is refused.
    pub(crate) async fn record(&self, entry: Entry, limit: Duration) -> Result<(), Failure> {
        let Some(queue) = &self.queue else {
            return Ok(());
        };
        let outcome = entry.event == Event::Outcome;
        let lost = || {
            if outcome {
                self.status.lose();
            }
            unavailable("the writer does not keep up, or has stopped; this is on no record")
        };
        // Refused calls must not displace outcomes of deletions.
        let max = if entry.ends_intent { QUEUE } else { QUEUE / 2 };
        if self.status.queued() >= max {
            return Err(lost());
        }
        let (done, mut written) = oneshot::channel();
        let entry = Box::new(entry);
        let finished = queue.send(Job { entry, done });
        let waited = timeout(limit.min(WRITE_TIMEOUT), finished.cancelled()).await;
        // A result that arrives before this counts, a later one does not.
        written.close();
        match (written.try_recv(), waited) {
            (Ok(Ok(())), _) => Ok(()),
            (Ok(Err(error)), _) => Err(unavailable(&error.to_string())),
            (Err(_), Ok(())) => Err(lost()),
            (Err(_), Err(_)) => Err(unavailable("the sink takes too long")),
        }
    }
}

fn unavailable(context: &str) -> Failure {
    Failure::new(ErrorReason::AuditUnavailable, format!("audit: {context}"))
}
