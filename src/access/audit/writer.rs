//! The one writer of the audit log: one order, one chain, and no outcome is given up.

use std::{
    fmt::Write as _,
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

use super::{Entry, Event, Job, sink::Sink, state::State};
use crate::{config, escape::escape, proto::ErrorReason};

/// Most records of one write.
const GROUP: usize = 1_024;
/// Outcomes that could not be written are tried again this often, ...
const AGAIN: Duration = Duration::from_secs(1);
/// ... and so many are kept.
const MOST_OWED: usize = 65_536;
const VERSION: u32 = 1;

/// A record as it stands in the file.
#[derive(Serialize)]
struct Record<'a> {
    v: u32,
    ts: &'a str,
    seq: u64,
    #[serde(flatten)]
    entry: &'a Entry,
    /// SHA-256 of the line before, in hex; empty in the first record of a process.
    prev: &'a str,
}

/// The writer; it lives on a thread of its own.
pub struct Writer {
    sink: Sink,
    sync: bool,
    seq: u64,
    prev: String,
    /// Outcomes that have yet to be written.
    owed: Vec<Entry>,
    state: Arc<State>,
}

impl Writer {
    /// Nothing is opened yet.
    pub fn new(config: config::Audit, state: Arc<State>) -> Self {
        Self {
            sink: Sink::new(config.sink),
            sync: config.sync,
            seq: 0,
            prev: String::new(),
            owed: Vec::new(),
            state,
        }
    }

    /// Opens the sink, tells so, and writes until nobody sends any more.
    pub fn run(&mut self, jobs: &Receiver<Job>, opened: oneshot::Sender<()>) {
        self.open();
        // A server that did not wait so long is not told.
        let _ = opened.send(());
        loop {
            let idle = self.owed.is_empty() && !self.state.failed();
            let first = if idle {
                jobs.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                jobs.recv_timeout(AGAIN)
            };
            let mut group = match first {
                Ok(job) => vec![job],
                Err(RecvTimeoutError::Timeout) => Vec::new(),
                Err(RecvTimeoutError::Disconnected) => return,
            };
            group.extend(jobs.try_iter().take(GROUP));
            self.state.taken(group.len());
            // An intent whose caller was told that it failed must not appear afterwards.
            group.retain(|job| job.entry.event == Event::Outcome || !job.done.is_closed());
            if group.is_empty() && self.owed.is_empty() {
                self.open();
            } else {
                self.commit(group);
            }
        }
    }

    fn open(&mut self) {
        self.state.writing();
        let opened = self.sink.open();
        self.state.written(opened.is_ok());
        if let Err(error) = opened {
            let file = self.sink.name();
            tracing::error!(file, %error, "the audit log cannot be opened; deletions are refused until it can");
        }
    }

    fn commit(&mut self, group: Vec<Job>) {
        let new = group.iter().map(|job| &*job.entry);
        let entries: Vec<&Entry> = self.owed.iter().chain(new).collect();
        let outcomes = entries
            .iter()
            .filter(|entry| entry.event == Event::Outcome)
            .count();
        let (lines, seq, prev) = self.lines(&entries);
        // After a failure, a write that is not synced would prove nothing.
        let sync = self.sync && (outcomes < entries.len() || self.state.failed());
        self.state.writing();
        let written = self.sink.write(&lines, sync);
        self.state.written(written.is_ok());
        match written {
            Ok(()) => {
                (self.seq, self.prev) = (seq, prev);
                self.owed.clear();
                self.state.settle(outcomes);
                for job in group {
                    self.acknowledge(job);
                }
            }
            Err(error) => {
                let (file, owed) = (self.sink.name(), self.owed.len());
                tracing::error!(file, %error, owed, "the audit log failed; deletions are refused");
                for job in group {
                    self.refuse(job, &error);
                }
            }
        }
    }

    /// Tells that a record is written. An intent whose caller has given up meanwhile gets its outcome at once.
    fn acknowledge(&mut self, job: Job) {
        let told = job.done.send(Ok(())).is_ok();
        if !told && job.entry.event == Event::Intent {
            self.state.owe();
            self.owed.push(Entry {
                event: Event::Outcome,
                outcome: "not_sent",
                reason: ErrorReason::AuditUnavailable.as_str_name(),
                ..*job.entry
            });
        }
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
            self.owed.push(*job.entry);
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

    /// The lines of these entries, and where they leave the chain.
    fn lines(&self, entries: &[&Entry]) -> (String, u64, String) {
        let (mut seq, mut prev) = (self.seq, self.prev.clone());
        let mut lines = String::new();
        for entry in entries {
            seq += 1;
            let record = Record {
                v: VERSION,
                ts: &now(),
                seq,
                entry,
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
        (lines, seq, prev)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
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
