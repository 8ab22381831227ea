//! What the writer does in one go.

use std::sync::mpsc::Receiver;

use tokio::sync::oneshot;

use super::{
    Event,
    queue::{Job, Wish},
};

/// Most records of one write.
pub const GROUP: usize = 1_024;

/// What is done in one go.
#[derive(Default)]
pub struct Round {
    /// They wait for a sync, if there is one.
    pub intents: Group,
    /// They do not.
    pub outcomes: Group,
    /// Who is told when everything is on the disk.
    pub to_sync: Vec<oneshot::Sender<()>>,
}

/// Records of one kind.
#[derive(Default)]
pub struct Group {
    /// The records.
    pub jobs: Vec<Job>,
    /// Who is told that somebody may look what became of them.
    pub told: Vec<oneshot::Sender<()>>,
}

impl Round {
    /// One more.
    pub fn add(&mut self, wish: Wish) {
        let (group, jobs, done) = match wish {
            Wish::Records(Event::Intent, jobs, done) => (&mut self.intents, jobs, done),
            Wish::Records(Event::Outcome, jobs, done) => (&mut self.outcomes, jobs, done),
            Wish::Sync(done) => return self.to_sync.push(done),
        };
        group.jobs.extend(jobs);
        group.told.push(done);
    }

    /// What there is already.
    pub fn add_all(&mut self, wishes: &Receiver<Wish>) {
        while self.records() < GROUP
            && let Ok(wish) = wishes.try_recv()
        {
            self.add(wish);
        }
    }

    /// Is there nothing to do?
    pub const fn is_idle(&self) -> bool {
        self.records() == 0 && self.to_sync.is_empty()
    }

    const fn records(&self) -> usize {
        self.intents.jobs.len() + self.outcomes.jobs.len()
    }
}
