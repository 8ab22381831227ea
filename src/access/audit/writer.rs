//! The one writer of the audit log: whole lines or none, in one order, and no outcome is given up.

use std::{
    fmt::Write as _,
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::Duration,
};

use serde::Serialize;
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;

use super::{Entry, Event, Job};
use crate::config::{self, AuditSink};

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

/// The writer's state; it lives on a thread of its own.
pub struct Writer {
    config: config::Audit,
    file: Option<File>,
    seq: u64,
    prev: String,
    /// Outcomes that have yet to be written.
    owed: Vec<Entry>,
    /// Did the last write succeed?
    works: Arc<AtomicBool>,
}

impl Writer {
    /// Opens the sink; if that fails now it is tried again with each record.
    pub fn new(config: config::Audit, works: Arc<AtomicBool>) -> Self {
        let mut writer = Self {
            config,
            file: None,
            seq: 0,
            prev: String::new(),
            owed: Vec::new(),
            works,
        };
        let opened = writer.open();
        writer.works.store(opened.is_ok(), Ordering::Relaxed);
        if let Err(error) = opened {
            let file = writer.config.sink.to_string();
            tracing::error!(file, %error, "the audit log cannot be opened; deletions are refused until it can");
        }
        writer
    }

    /// Writes until nobody sends any more.
    pub fn run(&mut self, jobs: &Receiver<Job>) {
        loop {
            let works = self.works.load(Ordering::Relaxed);
            let first = if self.owed.is_empty() && works {
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
            if group.is_empty() && self.owed.is_empty() {
                let works = self.open().is_ok();
                self.works.store(works, Ordering::Relaxed);
                continue;
            }
            // An intent whose caller was told that it failed must not appear afterwards.
            group.retain(|job| job.entry.event == Event::Outcome || !job.done.is_closed());
            self.commit(group);
        }
    }

    fn commit(&mut self, group: Vec<Job>) {
        let new = group.iter().map(|job| &*job.entry);
        let entries: Vec<&Entry> = self.owed.iter().chain(new).collect();
        let (lines, seq, prev) = self.lines(&entries);
        let sync = self.config.sync && entries.iter().any(|entry| entry.event == Event::Intent);
        let written = self.write(lines.as_bytes(), sync);
        self.works.store(written.is_ok(), Ordering::Relaxed);
        match &written {
            Ok(()) => {
                (self.seq, self.prev) = (seq, prev);
                self.owed.clear();
            }
            Err(error) => {
                let (file, owed) = (self.config.sink.to_string(), self.owed.len());
                tracing::error!(file, %error, owed, "the audit log failed; deletions are refused");
            }
        }
        for job in group {
            let answer = match &written {
                Ok(()) => Ok(()),
                Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
            };
            if answer.is_err() && job.entry.event == Event::Outcome && self.owed.len() < MOST_OWED {
                self.owed.push(*job.entry);
            }
            // Whoever has stopped waiting has been told that the record failed.
            let _ = job.done.send(answer);
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
            prev = hex(&Sha256::digest(line.as_bytes()));
            lines.push_str(&line);
            lines.push('\n');
        }
        (lines, seq, prev)
    }

    /// All of it, or nothing: what a full disk leaves of a line is cut off again.
    fn write(&mut self, lines: &[u8], sync: bool) -> io::Result<()> {
        self.open()?;
        let Some(file) = &mut self.file else {
            let mut stdout = io::stdout().lock();
            stdout.write_all(lines)?;
            return stdout.flush();
        };
        let before = file.metadata()?.len();
        let written = file
            .write_all(lines)
            .and_then(|()| if sync { file.sync_data() } else { Ok(()) });
        if written.is_err() {
            // If even this fails, `open` ends the broken line before the next record.
            let _ = file.set_len(before);
            self.file = None;
        }
        written
    }

    fn open(&mut self) -> io::Result<()> {
        if let (AuditSink::File(path), None) = (&self.config.sink, &self.file) {
            self.file = Some(open(path)?);
        }
        Ok(())
    }
}

/// Opens for appending, and ends a line that somebody left unfinished.
fn open(path: &Path) -> io::Result<File> {
    let regular = fs::metadata(path).map_or(true, |found| found.is_file());
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .read(regular)
        .mode(0o640)
        .open(path)?;
    // Two writers would tear the chain. Where a file system has no locks, nobody can tell.
    if regular && matches!(file.try_lock(), Err(TryLockError::WouldBlock)) {
        return Err(io::Error::other("another process writes to this file"));
    }
    if regular && file.metadata()?.len() > 0 {
        let mut last = [0];
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
        if last != *b"\n" {
            file.write_all(b"\n")?;
        }
    }
    Ok(file)
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
