//! The one writer of the audit log: one order, one chain, and no outcome is given up. The chain goes on over
//! restarts and from file to file.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use serde::Serialize;
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use tokio::sync::oneshot;

use super::{
    Entry, Event, Head, Job, Wish,
    lines::hex,
    record::{Body, Item, VERSION, unknown_after_crash},
    sink::{Opened, Sink},
    state::State,
    takeover::Legacy,
};
use crate::{config, escape::escape, metrics::Metrics, proto::ErrorReason};

/// Most records of one write.
const GROUP: usize = 1_024;
/// Outcomes that could not be written are tried again this often, and the file's name is looked at; ...
const AGAIN: Duration = Duration::from_secs(1);
/// ... so many outcomes are kept.
const MOST_OWED: usize = 65_536;
/// The head is told this often, if it has moved: what happened after the newest one that somebody has noted can be
/// forged.
const TELL_HEAD: Duration = Duration::from_hours(1);

/// A record as it stands in the file.
#[derive(Serialize)]
struct Record<'a> {
    v: u64,
    ts: &'a str,
    seq: u64,
    #[serde(flatten)]
    body: Body<'a>,
    /// SHA-256 of the line before, in hex; empty in the first record of all.
    prev: &'a str,
}

/// The writer; it lives on a thread of its own.
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
    /// The log knows that the sink is open.
    told: bool,
    /// The head that was told last, and when.
    told_head: (Head, Instant),
    state: Arc<State>,
    metrics: Arc<Metrics>,
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
            told: false,
            told_head: (Head::default(), Instant::now()),
            state,
            metrics,
        }
    }

    /// Opens the sink, tells so, and writes until nobody sends any more.
    pub fn run(&mut self, wishes: &Receiver<Wish>, opened: oneshot::Sender<()>) {
        self.commit(Vec::new());
        // A server that did not wait so long is not told.
        let _ = opened.send(());
        loop {
            let first = match wishes.recv_timeout(AGAIN) {
                Ok(wish) => Some(wish),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let (mut group, mut to_sync) = (Vec::new(), Vec::new());
            for wish in first.into_iter().chain(wishes.try_iter().take(GROUP)) {
                match wish {
                    Wish::Record(job) => group.push(job),
                    Wish::Sync(done) => to_sync.push(done),
                }
            }
            self.state.taken(group.len());
            // An intent whose caller was told that it failed must not appear afterwards.
            group.retain(|job| job.entry.event == Event::Outcome || !job.done.is_closed());
            let idle = group.is_empty();
            self.commit(group);
            while !self.owed.is_empty() && self.told {
                self.commit(Vec::new());
            }
            if !idle && !to_sync.is_empty() {
                self.commit(Vec::new());
            }
            for done in to_sync {
                // Whoever does not wait any more does not need to know, and nobody is told what is not so.
                let _ = if self.told { done.send(()) } else { Ok(()) };
            }
            self.tell_head();
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
                if !std::mem::replace(&mut self.told, true) {
                    let (file, head) = (self.sink.name(), self.head.to_string());
                    tracing::info!(file, head, "the audit log is open");
                }
                for job in group {
                    self.acknowledge(job);
                }
            }
            Err(error) => {
                self.told = false;
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
        let (lines, head) = self.lines(&bodies)?;
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

    /// There is nothing to write: what was written gets onto the disk, and a sink that has failed is tried.
    fn rest(&mut self) -> io::Result<()> {
        let synced = self.sink.sync();
        if let Err(error) = &synced {
            let file = self.sink.name();
            tracing::error!(file, %error, "the audit log failed; deletions are refused");
        }
        synced?;
        if self.state.failed() {
            return self.sink.probe();
        }
        Ok(())
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

    /// The lines of these records, and where they leave the chain.
    fn lines(&self, bodies: &[Body<'_>]) -> io::Result<(String, Head)> {
        let Head {
            mut seq,
            hash: mut prev,
        } = self.head.clone();
        let mut lines = String::new();
        let now = OffsetDateTime::now_utc();
        for body in bodies {
            seq += 1;
            let record = Record {
                v: VERSION,
                ts: &text(body.at().unwrap_or(now)),
                seq,
                body: *body,
                prev: &prev,
            };
            let line = serde_json::to_string(&record)?;
            // Before the hash, which is one of what stands in the file.
            let line = escape(&line);
            prev = hex(&Sha256::digest(line.as_bytes()));
            lines.push_str(&line);
            lines.push('\n');
        }
        Ok((lines, Head { seq, hash: prev }))
    }
}

/// UTC, RFC 3339, in milliseconds.
fn text(at: OffsetDateTime) -> String {
    let (date, time) = (at.date(), at.time());
    let (hour, minute, second) = time.as_hms();
    format!(
        "{date}T{hour:02}:{minute:02}:{second:02}.{:03}Z",
        time.millisecond()
    )
}
