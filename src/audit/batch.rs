//! What the writer receives, and the batches that it processes.

use std::{io, sync::mpsc::Receiver};

use tokio::sync::oneshot;

use super::record::{Entry, Event};

/// Maximum number of records of one write.
pub(super) const MAX_BATCH: usize = 1_024;

/// A record on its way to the file. The receiver of `done` is closed when its caller stops waiting.
pub(super) struct Job {
    /// Boxed, because it is retained until its call ends.
    pub(super) entry: Box<Entry>,
    pub(super) done: oneshot::Sender<io::Result<()>>,
}

pub(super) enum Command {
    /// Write records of one kind, then notify the sender.
    Records(Event, Vec<Job>, oneshot::Sender<()>),
    /// Sync what was written, then notify the sender.
    Sync(oneshot::Sender<()>),
}

#[derive(Default)]
pub(super) struct Batch {
    /// They wait for a sync, if the configuration requires it.
    pub(super) intents: Group,
    /// They do not wait for a sync.
    pub(super) outcomes: Group,
    /// Notified when everything is synced.
    pub(super) to_sync: Vec<oneshot::Sender<()>>,
}

/// Records of one kind.
#[derive(Default)]
pub(super) struct Group {
    pub(super) jobs: Vec<Job>,
    /// Notified when the results of the jobs are known.
    pub(super) waiters: Vec<oneshot::Sender<()>>,
}

impl Batch {
    pub(super) fn add(&mut self, command: Command) {
        let (group, jobs, done) = match command {
            Command::Records(Event::Intent, jobs, done) => (&mut self.intents, jobs, done),
            Command::Records(Event::Outcome, jobs, done) => (&mut self.outcomes, jobs, done),
            Command::Sync(done) => return self.to_sync.push(done),
        };
        group.jobs.extend(jobs);
        group.waiters.push(done);
    }

    /// Adds the commands that are in the queue.
    pub(super) fn add_queued(&mut self, commands: &Receiver<Command>) {
        while self.records() < MAX_BATCH
            && let Ok(command) = commands.try_recv()
        {
            self.add(command);
        }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.records() == 0 && self.to_sync.is_empty()
    }

    const fn records(&self) -> usize {
        self.intents.jobs.len() + self.outcomes.jobs.len()
    }
}
