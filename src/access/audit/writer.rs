//! The one writer of the audit log: one order, one chain, and no outcome is given up. The chain goes on over
//! restarts and from file to file.

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
    Entry, Event, Head,
    queue::{Job, Wish},
    record::{Body, Item, lines, unknown_after_crash},
    round::{GROUP, Group, Round},
    sink::{Opened, Sink},
    state::State,
    takeover::Legacy,
};
use crate::{config, metrics::Metrics, proto::ErrorReason};

/// Outcomes that could not be written are tried again this often, and the file's name is looked at; ...
const AGAIN: Duration = Duration::from_secs(1);
/// ... so many outcomes are kept.
const MOST_OWED: usize = 65_536;
/// The head is told this often, if it has moved: what happened after the newest one that somebody has noted can be
/// forged.
const TELL_HEAD: Duration = Duration::from_hours(1);

/// The writer. It has a thread of its own; what a sink takes at once is written by whoever has it.
pub struct Writer {
    sink: Sink,
    sync: bool,
    /// The last record.
    head: Head,
    /// Outcomes that have yet to be written.
    owed: Vec<Item>,
    /// Most of them in one write: after a failure there may be room for a few.
    batch: usize,
    /// Intents on record whose outcomes are not, by call.
    open: BTreeMap<String, Item>,
    /// The file is a new one: it begins with the open intents.
    carry: bool,
    /// Intents of the last write, if nobody has looked yet what came during it.
    served: Option<usize>,
    /// So many of them are worth a sync.
    expected: usize,
    condition: Condition,
    /// The head that was told last, and when.
    told_head: (Head, Instant),
    state: Arc<State>,
    metrics: Arc<Metrics>,
}

/// The result of the last attempt to use the sink.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Condition {
    /// There was none yet.
    Untried,
    /// The sink is open, and the last write succeeded.
    Works,
    /// The sink could not be opened, written or synced.
    Failed,
}

impl Writer {
    /// Nothing is opened yet.
    pub fn new(config: config::Audit, state: Arc<State>, metrics: Arc<Metrics>) -> Self {
        Self {
            sink: Sink::new(config.sink, config.sync),
            sync: config.sync,
            head: Head::default(),
            owed: Vec::new(),
            batch: GROUP,
            open: BTreeMap::new(),
            carry: false,
            served: None,
            expected: 0,
            condition: Condition::Untried,
            told_head: (Head::default(), Instant::now()),
            state,
            metrics,
        }
    }

    /// Opens the sink, tells so, and writes until nobody sends any more.
    pub fn run(writer: &Mutex<Self>, wishes: &Receiver<Wish>, opened: oneshot::Sender<()>) {
        crate::lock(writer).commit(Vec::new());
        // A server that did not wait so long is not told.
        let _ = opened.send(());
        loop {
            let mut round = Round::default();
            round.add_all(wishes);
            crate::lock(writer).expect_more(&round);
            if round.is_idle() {
                match wishes.recv_timeout(AGAIN) {
                    Ok(wish) => round.add(wish),
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => return,
                }
                round.add_all(wishes);
            }
            let mut writer = crate::lock(writer);
            writer.gather(&mut round, wishes);
            writer.go_through(round);
        }
    }

    /// As many calls as a sync has served, and those that came too late for it, will soon be waiting for the next one.
    fn expect_more(&mut self, round: &Round) {
        if let Some(served) = self.served.take() {
            self.expected = served + round.intents.jobs.len();
        }
    }

    fn go_through(&mut self, mut round: Round) {
        let idle = round.is_idle();
        self.write_group(&mut round.outcomes);
        let intents = round.intents.jobs.len();
        if intents > 0 {
            self.served = Some(intents);
        }
        self.write_group(&mut round.intents);
        if idle || !round.to_sync.is_empty() {
            self.record(Vec::new());
        }
        for done in round.to_sync {
            // Whoever does not wait any more does not need to know, and nobody is told what is not so.
            let _ = if self.condition == Condition::Works {
                done.send(())
            } else {
                Ok(())
            };
        }
        self.tell_head();
    }

    /// Where a sync takes its time, one is to serve many: those that are expected are waited for, for a part of the time
    /// that they would otherwise wait for the sync after it. Outcomes do not wait for that.
    fn gather(&mut self, round: &mut Round, wishes: &Receiver<Wish>) {
        let takes = self.sink.sync_takes();
        let until = Instant::now() + takes / 4;
        while (1..self.expected).contains(&round.intents.jobs.len()) && round.to_sync.is_empty() {
            self.write_group(&mut round.outcomes);
            let rest = until.saturating_duration_since(Instant::now());
            if rest.is_zero() {
                return;
            }
            let Ok(wish) = wishes.recv_timeout(rest.min(takes / 8)) else {
                return;
            };
            round.add(wish);
            round.add_all(wishes);
        }
    }

    fn write_group(&mut self, group: &mut Group) {
        let Group { jobs, told } = std::mem::take(group);
        if !jobs.is_empty() {
            self.record(jobs);
        }
        for done in told {
            // Nobody may be waiting any more.
            let _ = done.send(());
        }
    }

    /// Would these records be written without waiting for anything?
    pub fn is_quick(&self, jobs: &[Job]) -> bool {
        let bytes = || jobs.iter().map(|job| job.entry.most_bytes()).sum();
        self.condition == Condition::Works && self.owed.is_empty() && self.sink.is_quick(bytes)
    }

    /// Writes these records, and what is owed.
    pub fn record(&mut self, mut group: Vec<Job>) {
        self.state.taken(group.len());
        // An intent whose caller was told that it failed must not appear afterwards.
        group.retain(|job| job.entry.event == Event::Outcome || !job.done.is_closed());
        self.commit(group);
        while !self.owed.is_empty() && self.condition == Condition::Works {
            self.commit(Vec::new());
        }
    }

    fn tell_head(&mut self) {
        let (told, at) = &self.told_head;
        if at.elapsed() >= TELL_HEAD && *told != self.head {
            let (file, head) = (self.sink.name(), self.head.to_string());
            tracing::info!(file, head, "the audit log goes on");
            self.told_head = (self.head.clone(), Instant::now());
        }
    }

    fn commit(&mut self, group: Vec<Job>) {
        self.state.writing();
        let written = self.ready().and_then(|()| self.write(&group));
        self.state.written(written.is_ok());
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
            self.state.caught_up();
        }
    }

    /// Opens the sink, or the file that has its name by now.
    fn ready(&mut self) -> io::Result<()> {
        let opened = self.sink.open();
        self.state.found_changed(self.sink.changes_by_others());
        match opened {
            Ok(Opened::Same) => {}
            Ok(Opened::First(legacy)) => self.take_over(legacy),
            Ok(Opened::Other) => {
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

    /// Goes on where an earlier process has stopped. The intents that it left open are owed their outcome.
    fn take_over(&mut self, legacy: Legacy) {
        let (file, open) = (self.sink.name(), legacy.open.len());
        if legacy.cut > 0 {
            let bytes = legacy.cut;
            tracing::warn!(
                file,
                bytes,
                "an unfinished record at the end of the audit log was cut off"
            );
        }
        if legacy.strange > 0 {
            let lines = legacy.strange;
            tracing::warn!(file, lines, "the audit log has lines that are no records");
        }
        if let Some(before) = &legacy.before {
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
        if let Some(hash) = legacy.prev {
            let seq = legacy.seq;
            self.head = Head { seq, hash };
            self.state.reached(&self.head);
        }
        for (id, intent) in legacy.open {
            self.state.owe();
            self.owed.push(Item::Found(unknown_after_crash(&intent)));
            self.open.insert(id, Item::Found(intent));
        }
    }

    fn write(&mut self, group: &[Job]) -> io::Result<()> {
        let mut bodies = Vec::new();
        if self.carry {
            bodies.extend(self.open.values().map(|intent| Body::Carried {
                intent,
                carried: true,
            }));
        }
        let owed = self.owed.len().min(self.batch);
        bodies.extend(self.owed[..owed].iter().map(Body::Kept));
        bodies.extend(group.iter().map(|job| Body::Told(&job.entry)));
        if bodies.is_empty() {
            return self.rest();
        }
        let (lines, head) = lines(&self.head, &bodies)?;
        let intent = group.iter().any(|job| job.entry.event == Event::Intent);
        // After a failure, a write that is not synced would prove nothing.
        let needed = intent || self.carry || !self.owed.is_empty() || self.state.failed();
        let needed = needed || self.sink.is_overdue(AGAIN);
        let begun = Instant::now();
        let written = self.sink.write(&lines, self.sync && needed);
        let took = begun.elapsed().as_secs_f64();
        self.metrics.audit.writes.observe(took);
        if let Err(error) = written {
            self.batch = (self.batch / 2).max(1);
            let (file, owed) = (self.sink.name(), self.owed.len());
            tracing::error!(file, %error, owed, "the audit log failed; deletions are refused");
            return Err(error);
        }
        self.batch = (self.batch * 2).min(GROUP);
        self.head = head;
        self.state.reached(&self.head);
        self.carry = false;
        let told = group.iter().map(|job| &*job.entry);
        let told = told.filter(|entry| entry.event == Event::Outcome);
        let told = told.map(|entry| &*entry.request_id);
        let kept = self.owed[..owed].iter().map(Item::request_id);
        let outcomes: Vec<_> = kept.chain(told).collect();
        for request_id in &outcomes {
            self.open.remove(*request_id);
        }
        self.state.settle(outcomes.len());
        self.owed.drain(..owed);
        Ok(())
    }

    /// Syncs what was written when there is nothing to write. After a failure, proves that the sink works again.
    fn rest(&mut self) -> io::Result<()> {
        let synced = self.sink.sync();
        let checked = synced.and_then(|()| match self.condition {
            Condition::Untried => self.sink.check_room(),
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

    /// Tells that a record is written. An intent whose caller has given up meanwhile gets its outcome at once.
    fn acknowledge(&mut self, job: Job) {
        let told = job.done.send(Ok(())).is_ok();
        if job.entry.event == Event::Outcome {
            return;
        }
        if !told {
            self.state.owe();
            self.owed.push(Item::Told(Box::new(Entry {
                at: OffsetDateTime::now_utc(),
                event: Event::Outcome,
                outcome: "not_sent",
                reason: ErrorReason::AuditUnavailable.as_str_name(),
                ..(*job.entry).clone()
            })));
        }
        let request_id = job.entry.request_id.clone();
        self.open.insert(request_id, Item::Told(job.entry));
    }

    /// Tells that a record is not written, and keeps an outcome for later.
    fn refuse(&mut self, job: Job, error: &io::Error) {
        // Whoever has stopped waiting has been told that the record failed.
        let _ = job
            .done
            .send(Err(io::Error::new(error.kind(), error.to_string())));
        if job.entry.event == Event::Intent {
            return;
        }
        let most = if job.entry.ends_intent {
            MOST_OWED
        } else {
            MOST_OWED / 2
        };
        if self.owed.len() < most {
            self.owed.push(Item::Told(job.entry));
        } else {
            self.state.settle(1);
            self.state.lose();
            let request_id = &job.entry.request_id;
            tracing::error!(
                request_id,
                outcome = job.entry.outcome,
                "an outcome is lost: too many are owed"
            );
        }
    }
}
