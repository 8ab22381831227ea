//! The queue between calls and the writer. Records of one turn of the runtime are sent together, so that the writer
//! thread and the runtime are each woken once. Sinks that do not block are written without waking the thread. Intents
//! and outcomes are sent separately, because only intents wait for a sync.

use std::sync::{Arc, Mutex, mpsc};

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::{
    batch::{Command, Job},
    record::Event,
    status::Status,
    writer::Writer,
};
use crate::workers::PerWorker;

pub(super) struct Queue {
    writer: Arc<Mutex<Writer>>,
    commands: mpsc::Sender<Command>,
    intents: PerWorker<PendingBatch>,
    outcomes: PerWorker<PendingBatch>,
    status: Arc<Status>,
}

/// Records that are sent at the end of the turn.
type PendingBatch = Mutex<Option<Group>>;

struct Group {
    jobs: Vec<Job>,
    finished: CancellationToken,
}

impl Queue {
    pub(super) fn new(
        writer: Arc<Mutex<Writer>>,
        commands: mpsc::Sender<Command>,
        status: Arc<Status>,
    ) -> Self {
        Self {
            writer,
            commands,
            intents: PerWorker::new(Mutex::default),
            outcomes: PerWorker::new(Mutex::default),
            status,
        }
    }

    /// Sends a record with the others of this turn. The token is cancelled when their results are known.
    pub(super) fn send(self: &Arc<Self>, job: Job) -> CancellationToken {
        let kind = job.entry.event;
        self.status.queue(kind == Event::Outcome);
        let mut next = crate::lock(self.pending(kind));
        if let Some(group) = &mut *next {
            group.jobs.push(job);
            return group.finished.clone();
        }
        let finished = CancellationToken::new();
        *next = Some(Group {
            jobs: vec![job],
            finished: finished.clone(),
        });
        drop(next);
        // Runs after the tasks that are ready now.
        tokio::spawn(Arc::clone(self).submit(kind));
        finished
    }

    /// Requests a sync. Returns whether the writer is running.
    pub(super) fn sync(&self, done: oneshot::Sender<()>) -> bool {
        self.commands.send(Command::Sync(done)).is_ok()
    }

    /// Writes the records immediately, or returns them if that could block.
    fn record(&self, jobs: Vec<Job>) -> Option<Vec<Job>> {
        match self.writer.try_lock() {
            Ok(mut writer) if writer.is_quick(&jobs) => {
                writer.record(jobs);
                None
            }
            _ => Some(jobs),
        }
    }

    fn pending(&self, kind: Event) -> &PendingBatch {
        match kind {
            Event::Intent => self.intents.here(),
            Event::Outcome => self.outcomes.here(),
        }
    }

    async fn submit(self: Arc<Self>, kind: Event) {
        let Some(Group { jobs, finished }) = crate::lock(self.pending(kind)).take() else {
            return;
        };
        // Wakes the waiters however this ends.
        let _finished = finished.drop_guard();
        let Some(jobs) = self.record(jobs) else {
            return;
        };
        let (done, written) = oneshot::channel();
        match self.commands.send(Command::Records(kind, jobs, done)) {
            // A writer that has stopped has dropped the senders.
            Ok(()) => drop(written.await),
            Err(mpsc::SendError(Command::Records(_, jobs, _))) => {
                for _ in jobs {
                    self.status.unqueue(kind == Event::Outcome);
                }
            }
            Err(_) => {}
        }
    }
}
