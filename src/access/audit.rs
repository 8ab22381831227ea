//! The audit log: the intent is recorded before anything is sent, the outcome after it. One writer appends;
//! records that wait at the same time share one write and one sync (group commit).

use std::{
    fmt::Write as _,
    fs::{File, OpenOptions},
    io::{self, Write as _},
    sync::mpsc,
    thread,
    time::Duration,
};

use serde::Serialize;
use sha2::{Digest as _, Sha256};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::{sync::oneshot, time::timeout};

use crate::{
    config::{self, AuditSink},
    error::Failure,
    proto::ErrorReason,
};

/// A sink that takes longer than this counts as failed.
const PATIENCE: Duration = Duration::from_secs(1);
/// Most records of one write.
const GROUP: usize = 1_024;
const VERSION: u32 = 1;

/// What happened, for the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Event {
    /// A deletion is about to be requested.
    Intent,
    /// How it ended.
    Outcome,
}

/// One record, as the caller of [`Audit::record`] gives it.
#[derive(Clone, Debug, Serialize)]
pub struct Entry {
    /// Intent or outcome.
    pub event: Event,
    /// The call.
    pub request_id: String,
    /// The verified identity.
    pub caller: String,
    /// Address of the connection.
    pub peer: String,
    /// The rpc's name.
    pub rpc: &'static str,
    /// Alias of the target.
    pub target: String,
    /// Name of the user, or its ID while the name is not known.
    pub user: String,
    /// The request's identifiers, resolved ones included.
    #[serde(serialize_with = "as_map")]
    pub identifiers: Vec<(&'static str, String)>,
    /// `deleted`, `not_sent`, ...; empty in an intent.
    pub outcome: &'static str,
    /// The reason of a failure, else empty.
    pub reason: &'static str,
    /// DELETEs begun.
    pub attempts: u32,
    /// Did the caller go away before the answer?
    pub caller_gone: bool,
}

fn as_map<S: serde::Serializer>(
    pairs: &[(&'static str, String)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(pairs.iter().map(|(key, value)| (key, value)))
}

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

struct Job {
    entry: Entry,
    done: oneshot::Sender<io::Result<()>>,
}

/// The audit log.
#[derive(Clone)]
pub struct Audit(Option<mpsc::Sender<Job>>);

impl Audit {
    /// Starts the writer. A sink that cannot be opened now is tried again with each record.
    pub fn start(config: &config::Audit) -> io::Result<Self> {
        if config.sink == AuditSink::Nowhere {
            return Ok(Self(None));
        }
        let (sender, jobs) = mpsc::channel();
        let mut writer = Writer {
            config: config.clone(),
            file: None,
            seq: 0,
            prev: String::new(),
        };
        if let Err(error) = writer.file() {
            tracing::error!(%error, "the audit log cannot be opened; deletions are refused until it can");
        }
        thread::Builder::new()
            .name("audit".to_owned())
            .spawn(move || writer.run(&jobs))?;
        Ok(Self(Some(sender)))
    }

    /// Writes a record; when this returns `Ok` it is as safe as the configuration asks.
    pub async fn record(&self, entry: Entry) -> Result<(), Failure> {
        let Some(sender) = &self.0 else {
            return Ok(());
        };
        let (done, written) = oneshot::channel();
        if sender.send(Job { entry, done }).is_err() {
            return Err(unavailable("the writer has stopped"));
        }
        match timeout(PATIENCE, written).await {
            Ok(Ok(Ok(()))) => Ok(()),
            Ok(Ok(Err(error))) => Err(unavailable(&error.to_string())),
            Ok(Err(_)) => Err(unavailable("the writer has stopped")),
            Err(_) => Err(unavailable("the sink takes too long")),
        }
    }
}

fn unavailable(context: &str) -> Failure {
    Failure::new(ErrorReason::AuditUnavailable, format!("audit: {context}"))
}

struct Writer {
    config: config::Audit,
    file: Option<File>,
    seq: u64,
    prev: String,
}

impl Writer {
    fn run(&mut self, jobs: &mpsc::Receiver<Job>) {
        while let Ok(first) = jobs.recv() {
            let mut group = vec![first];
            group.extend(jobs.try_iter().take(GROUP - 1));
            let result = self.write(&group);
            if let Err(error) = &result {
                tracing::error!(%error, "the audit log failed");
                self.file = None;
            }
            for job in group {
                let result = match &result {
                    Ok(()) => Ok(()),
                    Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
                };
                // A caller that has stopped waiting has been told that the record failed.
                let _ = job.done.send(result);
            }
        }
    }

    fn write(&mut self, group: &[Job]) -> io::Result<()> {
        let (mut seq, mut prev) = (self.seq, self.prev.clone());
        let mut lines = String::new();
        for job in group {
            seq += 1;
            let record = Record {
                v: VERSION,
                ts: &now(),
                seq,
                entry: &job.entry,
                prev: &prev,
            };
            let line = serde_json::to_string(&record)?;
            prev = hex(&Sha256::digest(line.as_bytes()));
            lines.push_str(&line);
            lines.push('\n');
        }
        let sync = self.config.sync && group.iter().any(|job| job.entry.event == Event::Intent);
        if let Some(file) = self.file()? {
            file.write_all(lines.as_bytes())?;
            if sync {
                file.sync_data()?;
            }
        } else {
            let mut stdout = io::stdout().lock();
            stdout.write_all(lines.as_bytes())?;
            stdout.flush()?;
        }
        (self.seq, self.prev) = (seq, prev);
        Ok(())
    }

    /// The open file; `None` when records go to standard output.
    fn file(&mut self) -> io::Result<Option<&mut File>> {
        let AuditSink::File(path) = &self.config.sink else {
            return Ok(None);
        };
        if self.file.is_none() {
            let file = OpenOptions::new().create(true).append(true).open(path)?;
            self.file = Some(file);
        }
        Ok(self.file.as_mut())
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
    let now = now.replace_millisecond(now.millisecond()).unwrap_or(now);
    now.format(&Rfc3339).unwrap_or_default()
}
