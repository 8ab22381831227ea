//! Verifies files of the audit log as one chain, and reports each line that does not fit, without quoting it. Needs a
//! few bytes of memory for each call in the log.

use std::{
    collections::HashSet,
    fs::File,
    hash::{BuildHasher as _, RandomState},
    io,
    path::{Path, PathBuf},
};

use super::{
    chain::Head,
    reader::{Kind, Line, LineReader, Record},
};

/// The files to verify and the conditions for them.
#[derive(Clone, Debug, Default)]
pub struct VerifyOptions {
    /// The files, oldest first.
    pub files: Vec<PathBuf>,
    /// Whether older files may be missing, so that the chain may begin with any record.
    pub partial: bool,
    /// Records that the files must contain.
    pub contains: Vec<Head>,
}

/// A fault of the files, or a note that is not a fault.
#[derive(Debug)]
pub struct Finding<'a> {
    /// Path as in [`VerifyOptions::files`].
    pub file: &'a Path,
    /// Number of the line, from 1.
    pub line: u64,
    /// Whether this is a note, not a fault.
    pub note: bool,
    /// Description, which does not quote the line.
    pub text: String,
}

/// Totals over all files.
#[derive(Debug, Default)]
pub struct Summary {
    /// Number of records.
    pub records: u64,
    /// Sequence number of the first record.
    pub first: u64,
    /// The last record.
    pub head: Head,
    /// Number of intents without an outcome.
    pub open: usize,
}

/// A file that cannot be read.
#[derive(Debug)]
pub struct UnreadableFile<'a> {
    /// Path as in [`VerifyOptions::files`].
    pub file: &'a Path,
    /// Cause.
    pub error: io::Error,
}

/// Reads the files, and calls `report` for each fault and note. Returns the totals, or the first file that cannot be
/// read.
pub fn verify<'a>(
    options: &'a VerifyOptions,
    mut report: impl FnMut(Finding<'a>),
) -> Result<Summary, UnreadableFile<'a>> {
    let mut chain = Chain::new(options);
    let (mut file, mut line) = (Path::new(""), 0);
    for (at, path) in options.files.iter().enumerate() {
        (file, line) = (path, 0);
        let last_file = at + 1 == options.files.len();
        let unreadable = |error| UnreadableFile { file, error };
        let mut lines = LineReader::new(File::open(path).map_err(unreadable)?);
        while let Some(next) = lines.next().map_err(unreadable)? {
            line += 1;
            let (note, texts) = if next.ended {
                (false, chain.follow(&next))
            } else {
                let note = last_file && is_being_written(&next);
                let cause = if note {
                    ": a server may be writing it, or a crash cut it off"
                } else {
                    ""
                };
                (note, vec![format!("the last line has no end{cause}")])
            };
            for text in texts {
                report(Finding {
                    file,
                    line,
                    note,
                    text,
                });
            }
        }
    }
    for Head { seq, .. } in chain.missing {
        report(Finding {
            file,
            line,
            note: false,
            text: format!("there is no record {seq}, which must be here"),
        });
    }
    chain.summary.open = chain.open.len();
    Ok(chain.summary)
}

/// Returns whether a line without a newline is the beginning of a record, or a record that lacks only its newline.
fn is_being_written(line: &Line) -> bool {
    let Some(text) = line.complete_text().filter(|_| line.starts_as_record()) else {
        return false;
    };
    match serde_json::from_slice::<serde::de::IgnoredAny>(text) {
        Ok(_) => text.ends_with(b"}"),
        Err(error) => error.is_eof(),
    }
}

/// State of the verification after the lines that were read so far.
struct Chain {
    partial: bool,
    /// Expected `prev` of the next record; `None` if any value is accepted.
    prev: Option<String>,
    /// Expected `seq` of the next record; `None` if any value is accepted.
    next: Option<u64>,
    summary: Summary,
    /// Hashes of the request IDs that have an intent and no outcome.
    open: HashSet<u64>,
    /// Hashes of the request IDs whose outcome is unknown, and that no reconciliation settled.
    unsettled: HashSet<u64>,
    /// Hashes of all request IDs.
    seen: HashSet<u64>,
    hasher: RandomState,
    missing: Vec<Head>,
}

impl Chain {
    fn new(options: &VerifyOptions) -> Self {
        let partial = options.partial;
        Self {
            partial,
            prev: (!partial).then(String::new),
            next: (!partial).then_some(1),
            summary: Summary::default(),
            open: HashSet::new(),
            unsettled: HashSet::new(),
            seen: HashSet::new(),
            hasher: RandomState::new(),
            missing: options.contains.clone(),
        }
    }

    /// Adds a line to the chain. Returns a description of each of its faults.
    fn follow(&mut self, line: &Line) -> Vec<String> {
        let mut faults = Vec::new();
        match line.record() {
            Ok(record) => {
                self.link(&record, &line.hash, &mut faults);
                faults.extend(self.pair(&record).err().map(str::to_owned));
            }
            Err(text) => faults.push(text),
        }
        self.prev = Some(line.hash.clone());
        faults
    }

    /// Checks `seq` and `prev` of a record, and adds the faults to `faults`.
    fn link(&mut self, record: &Record, hash: &str, faults: &mut Vec<String>) {
        let seq = record.seq;
        if let Some(next) = self.next
            && next != seq
        {
            let news = if seq == 1 { "; a new chain begins" } else { "" };
            faults.push(format!("`seq` is {seq}, where {next} is due{news}"));
        }
        let prev = self.prev.as_deref();
        if prev.is_some_and(|prev| prev != record.previous_hash()) {
            faults.push("`prev` is not the hash of the line before".to_owned());
        }
        self.missing.retain(|wanted| {
            if wanted.seq == seq && wanted.hash != hash {
                faults.push(format!("record {seq} is not the one that must be here"));
            }
            wanted.seq != seq
        });
        if self.summary.records == 0 {
            self.summary.first = seq;
        }
        self.summary.records += 1;
        self.summary.head = Head {
            seq,
            hash: hash.to_owned(),
        };
        self.next = Some(seq.saturating_add(1));
    }

    /// Checks that each call has one intent and one outcome, and that only unknown outcomes are reconciled. Returns the
    /// fault of this record.
    fn pair(&mut self, record: &Record) -> Result<(), &'static str> {
        let id = self.hasher.hash_one(record.request_id());
        let known = !self.seen.insert(id);
        match record.kind {
            Kind::Intent { carried: false } => {
                self.open.insert(id);
                if known {
                    return Err("a second intent of this call, or one after its outcome");
                }
            }
            Kind::Intent { carried: true } => {
                let open = !self.open.insert(id);
                if !open && (known || !self.partial) {
                    return Err("carried over, but it is not open in the file before");
                }
            }
            Kind::Outcome {
                needs_intent,
                unknown,
            } => {
                if unknown {
                    self.unsettled.insert(id);
                }
                if self.open.remove(&id) {
                    return Ok(());
                }
                if known {
                    return Err("a second outcome of this call");
                }
                if needs_intent && !self.partial {
                    return Err("an outcome without an intent before it");
                }
            }
            Kind::Reconciled { settled } => {
                // The unknown outcome is in an older file.
                if !known && self.partial {
                    self.unsettled.insert(id);
                }
                if !self.unsettled.contains(&id) {
                    return Err("reconciled, but its outcome is not unknown, or settled before");
                }
                if settled {
                    self.unsettled.remove(&id);
                }
            }
        }
        Ok(())
    }
}
