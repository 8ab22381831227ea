//! The way of records to the writer. Those that are told in one turn of the runtime go together: the writer is woken
//! once for all of them, and the runtime once when they are written. Where the sink takes them at once, nobody is woken.
//! Intents and outcomes go apart, for only intents wait for a sync.

use std::{
    io,
    sync::{Arc, Mutex, mpsc},
};

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::{Entry, Event, state::State, writer::Writer};
use crate::workers::PerWorker;

/// A record on its way. Whoever closes the other end of `done` does not wait any more.
pub struct Job {
    /// What is told; in a box, because it is kept for as long as its call is open.
    pub entry: Box<Entry>,
    /// What became of it.
    pub done: oneshot::Sender<io::Result<()>>,
}

/// What the writer is asked for.
pub enum Wish {
    /// Records of this kind; then that somebody looks what became of them.
    Records(Event, Vec<Job>, oneshot::Sender<()>),
    /// That what is written is on the disk.
    Sync(oneshot::Sender<()>),
}

/// The queue.
pub struct Queue {
    writer: Arc<Mutex<Writer>>,
    wishes: mpsc::Sender<Wish>,
    intents: PerWorker<Leaving>,
    outcomes: PerWorker<Leaving>,
    state: Arc<State>,
}

/// The group that is about to leave.
type Leaving = Mutex<Option<Group>>;

struct Group {
    jobs: Vec<Job>,
    finished: CancellationToken,
}

impl Queue {
    /// To this writer.
    pub fn new(writer: Arc<Mutex<Writer>>, wishes: mpsc::Sender<Wish>, state: Arc<State>) -> Self {
        Self {
            writer,
            wishes,
            intents: PerWorker::new(Mutex::default),
            outcomes: PerWorker::new(Mutex::default),
            state,
        }
    }

    /// Sends a record with the others of this turn. The token is cancelled when it is known what became of them.
    pub fn send(self: &Arc<Self>, job: Job) -> CancellationToken {
        let kind = job.entry.event;
        self.state.queue(kind == Event::Outcome);
        let mut next = crate::lock(self.leaving(kind));
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
        // It runs when those who are ready now have told what they have to tell.
        tokio::spawn(Arc::clone(self).leave(kind));
        finished
    }

    /// Asks for a sync; is it going to be heard?
    pub fn sync(&self, done: oneshot::Sender<()>) -> bool {
        self.wishes.send(Wish::Sync(done)).is_ok()
    }

    /// Records these at once, or hands them back.
    fn record(&self, jobs: Vec<Job>) -> Option<Vec<Job>> {
        match self.writer.try_lock() {
            Ok(mut writer) if writer.is_quick(&jobs) => {
                writer.record(jobs);
                None
            }
            _ => Some(jobs),
        }
    }

    fn leaving(&self, kind: Event) -> &Leaving {
        match kind {
            Event::Intent => self.intents.here(),
            Event::Outcome => self.outcomes.here(),
        }
    }

    async fn leave(self: Arc<Self>, kind: Event) {
        let Some(Group { jobs, finished }) = crate::lock(self.leaving(kind)).take() else {
            return;
        };
        // However this ends, nobody waits for ever.
        let _finished = finished.drop_guard();
        let Some(jobs) = self.record(jobs) else {
            return;
        };
        let (done, written) = oneshot::channel();
        match self.wishes.send(Wish::Records(kind, jobs, done)) {
            // A writer that has gone has closed what its callers wait for.
            Ok(()) => drop(written.await),
            Err(mpsc::SendError(Wish::Records(_, jobs, _))) => {
                for _ in jobs {
                    self.state.unqueue(kind == Event::Outcome);
                }
            }
            Err(_) => {}
        }
    }
}
