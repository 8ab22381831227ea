//! The audit log. The intent of a deletion is recorded before the DELETE is sent, its outcome afterwards. A writer thread
//! appends the records; those that wait at the same time share one write and one sync (group commit). docs/audit.md
//! describes the format.
//!
//! A record passes `Audit::record`, the queue, and the writer thread, which chains the records of a batch, appends them
//! with a write for outcomes and one for intents, syncs once, and resolves the waiting calls. There is no other way into
//! the file.

mod chain;
mod file;
mod line_reader;
mod parse;
mod queue;
mod record;
mod recovery;
mod sink;
mod status;
mod verify;
mod writer;

use std::{io, sync::Arc, thread, time::Duration};

use tokio::{sync::oneshot, task::yield_now, time::timeout};

pub use self::{
    chain::Head,
    verify::{Finding, Question, Summary, Unreadable, verify},
};
use self::{
    queue::{Job, Queue},
    status::Status,
    writer::Writer,
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

/// Handle of the audit log.
#[derive(Clone)]
pub struct Audit {
    /// `None` if nothing is recorded.
    queue: Option<Arc<OpenQueue>>,
    status: Arc<Status>,
}

/// The queue as long as there are handles.
struct OpenQueue(Arc<Queue>);

impl Drop for OpenQueue {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Wakes the writer when dropped, even if the future of its call is dropped.
struct WakeOnDrop<'a>(&'a Queue);

impl Drop for WakeOnDrop<'_> {
    fn drop(&mut self) {
        self.0.wake();
    }
}

/// Reports that records cannot be written when dropped, that is, when the writer thread ends, even by a panic.
struct NotOkOnDrop(Arc<Status>);

impl Drop for NotOkOnDrop {
    fn drop(&mut self) {
        self.0.update(|status| status.ok = false);
    }
}

impl Audit {
    /// Starts the writer thread and waits up to one second until the file is open. A file that cannot be opened is
    /// tried again.
    pub async fn start(config: &config::Audit, metrics: &Arc<Metrics>) -> io::Result<Self> {
        let status = Arc::new(Status::default());
        if config.sink == AuditSink::Nowhere {
            status.update(|status| status.ok = true);
            let queue = None;
            return Ok(Self { queue, status });
        }
        let queue = Arc::new(Queue::default());
        let (opened, ready) = oneshot::channel();
        let writer = Writer::new(config.clone(), Arc::clone(&status), Arc::clone(metrics));
        let (batches, stopped) = (Arc::clone(&queue), Arc::clone(&status));
        thread::Builder::new()
            .name("audit".to_owned())
            .spawn(move || {
                let _stopped = NotOkOnDrop(stopped);
                writer.run(&batches, opened);
            })?;
        // A file that hangs must not prevent the server from starting or stopping.
        let _late = timeout(WRITE_TIMEOUT, ready).await;
        Ok(Self {
            queue: Some(Arc::new(OpenQueue(queue))),
            status,
        })
    }

    /// Whether records can be written. While they cannot, deletions are refused.
    #[must_use]
    pub fn works(&self) -> bool {
        self.status.get().works()
    }

    /// Waits until all outcomes that were recorded so far are synced, or none is left and the sync hangs.
    pub async fn flush(&self) {
        let Some(queue) = &self.queue else {
            return;
        };
        let mut flushed = queue.0.flush();
        loop {
            // A sync has its own time after the last outcome is written.
            let pending = self.pending();
            if timeout(WRITE_TIMEOUT, &mut flushed).await.is_ok() || pending == 0 {
                return;
            }
        }
    }

    pub(crate) fn metrics(&self) -> AuditState {
        let status = self.status.get();
        let queue = self.queue.as_ref();
        let (queued, oldest) = queue.map(|queue| queue.0.waiting()).unwrap_or_default();
        let oldest = status.oldest.or(oldest);
        AuditState {
            works: status.works(),
            changes_by_others: status.changes_by_others,
            lost: status.lost,
            queued,
            pending: status.pending,
            lag: oldest.map_or(Duration::ZERO, |since| since.elapsed()),
        }
    }

    /// Returns the last record of the file.
    #[must_use]
    pub fn head(&self) -> Head {
        self.status.get().head
    }

    /// Returns the number of outcomes that are not written yet.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.status.get().pending
    }

    /// Writes a record. Returns `Ok` when an intent is synced (if configured) or an outcome is written. An outcome that
    /// cannot be written is retained until the file works again; an intent is not, because its call is refused.
    pub(crate) async fn record(&self, entry: Entry, limit: Duration) -> Result<(), Failure> {
        let Some(OpenQueue(queue)) = self.queue.as_deref() else {
            return Ok(());
        };
        let (job, mut result, woken) = Job::new(entry);
        let outcome = usize::from(job.entry.event == Event::Outcome);
        self.status.update(|status| status.pending += outcome);
        let Some(first) = queue.push(job) else {
            self.status.update(|status| {
                status.pending -= outcome;
                status.lost += outcome as u64;
            });
            let context = "the writer does not keep up; this is on no record";
            return Err(unavailable(context));
        };
        if first {
            // Wake the writer once for all records of this turn of this runtime.
            let wake = WakeOnDrop(queue);
            yield_now().await;
            drop(wake);
        }
        let _late = timeout(limit.min(WRITE_TIMEOUT), woken).await;
        // A result that arrives before this counts, a later one does not.
        result.close();
        match result.try_recv() {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(unavailable(&error.to_string())),
            Err(_) => Err(unavailable("the sink takes too long")),
        }
    }
}

fn unavailable(context: &str) -> Failure {
    Failure::new(ErrorReason::AuditUnavailable, format!("audit: {context}"))
}
