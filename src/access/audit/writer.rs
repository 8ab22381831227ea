//! The one writer of the audit log: one order, one chain, and no outcome is given up. The chain goes on over
//! restarts and from file to file.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::Duration,
};

use serde::Serialize;
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use tokio::sync::oneshot;

use super::{
    Entry, Event, Head, Job,
    lines::hex,
    record::{Body, Item, VERSION, unknown_after_crash},
    sink::{Opened, Sink},
    state::State,
    takeover::Legacy,
};
use crate::{config, escape::escape, proto::ErrorReason};

/// Most records of one write.
const GROUP: usize = 1_024;
/// Outcomes that could not be written are tried again this often, and the file's name is looked at; ...
const AGAIN: Duration = Duration::from_secs(1);
/// ... so many outcomes are kept.
const MOST_OWED: usize = 65_536;

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
    /// Intents on record whose outcomes are not, by call.
    open: BTreeMap<String, Item>,
    /// The file is a new one: it begins with the open intents.
    carry: bool,
    /// The log knows that the sink is open.
    told: bool,
    state: Arc<State>,
}

impl Writer {
    /// Nothing is opened yet.
    pub fn new(config: config::Audit, state: Arc<State>) -> Self {
        Self {
            sink: Sink::new(config.sink, config.sync),
            sync: config.sync,
            head: Head::default(),
            owed: Vec::new(),
            open: BTreeMap::new(),
            carry: false,
            told: false,
            state,
        }
    }

    /// Opens the sink, tells so, and writes until nobody sends any more.
    pub fn run(&mut self, jobs: &Receiver<Job>, opened: oneshot::Sender<()>) {
        self.commit(Vec::new());
        // A server that did not wait so long is not told.
        let _ = opened.send(());
        loop {
            let mut group = match jobs.recv_timeout(AGAIN) {
                Ok(job) => vec![job],
                Err(RecvTimeoutError::Timeout) => Vec::new(),
                Err(RecvTimeoutError::Disconnected) => return,
            };
            group.extend(jobs.try_iter().take(GROUP));
            self.state.taken(group.len());
            // An intent whose caller was told that it failed must not appear afterwards.
            group.retain(|job| job.entry.event == Event::Outcome || !job.done.is_closed());
            self.commit(group);
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
                for job in group {
                    self.refuse(job, &error);
                }
            }
        }
    }

    /// Opens the sink, or the file that has its name by now.
    fn ready(&mut self) -> io::Result<()> {
        match self.sink.open() {
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
        bodies.extend(self.owed.iter().map(Body::Kept));
        bodies.extend(group.iter().map(|job| Body::Told(&job.entry)));
        if bodies.is_empty() {
            return Ok(());
        }
        let (lines, head) = self.lines(&bodies);
        let intent = group.iter().any(|job| job.entry.event == Event::Intent);
        // After a failure, a write that is not synced would prove nothing.
        let needed = intent || self.carry || !self.owed.is_empty() || self.state.failed();
        if let Err(error) = self.sink.write(&lines, self.sync && needed) {
            let (file, owed) = (self.sink.name(), self.owed.len());
            tracing::error!(file, %error, owed, "the audit log failed; deletions are refused");
            return Err(error);
        }
        self.head = head;
        self.state.reached(&self.head);
        self.carry = false;
        let told = group.iter().map(|job| &*job.entry);
        let told = told.filter(|entry| entry.event == Event::Outcome);
        let told = told.map(|entry| &*entry.request_id);
        let outcomes: Vec<_> = self.owed.iter().map(Item::request_id).chain(told).collect();
        for request_id in &outcomes {
            self.open.remove(*request_id);
        }
        self.state.settle(outcomes.len());
        self.owed.clear();
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
        let most = if job.entry.is_precious() {
            MOST_OWED
        } else {
            MOST_OWED / 2
        };
        if self.owed.len() < most {
            self.owed.push(Item::Told(job.entry));
        } else {
            self.state.settle(1);
            let request_id = &job.entry.request_id;
            tracing::error!(
                request_id,
                outcome = job.entry.outcome,
                "an outcome is lost: too many are owed"
            );
        }
    }

    /// The lines of these records, and where they leave the chain.
    fn lines(&self, bodies: &[Body<'_>]) -> (String, Head) {
        let Head {
            mut seq,
            hash: mut prev,
        } = self.head.clone();
        let mut lines = String::new();
        for body in bodies {
            seq += 1;
            let record = Record {
                v: VERSION,
                ts: &now(),
                seq,
                body: *body,
                prev: &prev,
            };
            // Texts and numbers can always be written as JSON.
            let line = serde_json::to_string(&record).unwrap_or_default();
            // Before the hash, which is one of what stands in the file.
            let line = escape(&line);
            prev = hex(&Sha256::digest(line.as_bytes()));
            lines.push_str(&line);
            lines.push('\n');
        }
        (lines, Head { seq, hash: prev })
    }
}

/// UTC, RFC 3339, in milliseconds.
fn now() -> String {
    let now = OffsetDateTime::now_utc();
    let (date, time) = (now.date(), now.time());
    let (hour, minute, second) = time.as_hms();
    format!(
        "{date}T{hour:02}:{minute:02}:{second:02}.{:03}Z",
        time.millisecond()
    )
}
