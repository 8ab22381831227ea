//! Verifies lines of the audit log as one chain, and reports each line that does not fit, without quoting it. Needs a
//! few bytes of memory for each call in the log.

use std::{
    collections::HashSet,
    hash::{BuildHasher as _, RandomState},
    path::PathBuf,
};

use super::{
    chain::Head,
    file_lines::{FileLines, Finding, UnreadableLog},
    reader::{BEING_WRITTEN, Kind, Record},
};

/// The conditions for a log.
#[derive(Clone, Debug, Default)]
pub struct VerifyOptions {
    /// Whether older records may be missing, so that the chain may begin with any record.
    pub partial: bool,
    /// Records that the log must contain.
    pub contains: Vec<Head>,
}

/// Totals of a log.
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

/// Reads the files, oldest first, and calls `report` for each fault and note. Returns the totals, or the first file
/// that cannot be read.
pub fn verify<'a>(
    files: &'a [PathBuf],
    options: &VerifyOptions,
    mut report: impl FnMut(Finding<'a>),
) -> Result<Summary, UnreadableLog<'a>> {
    let mut chain = Chain::new(options.partial, options.contains.clone());
    let mut lines = FileLines::new(files);
    while let Some(line) = lines.next().transpose()? {
        if line.ended {
            for text in chain.follow(&line.hash, &line.record()) {
                report(lines.finding(false, text));
            }
        } else if lines.is_last_file() && line.is_being_written() {
            report(lines.finding(true, BEING_WRITTEN.to_owned()));
        } else {
            report(lines.finding(false, "the last line has no end".to_owned()));
        }
    }
    let (missing, summary) = chain.finish();
    for text in missing {
        report(lines.finding(false, text));
    }
    Ok(summary)
}

/// Verifies lines from any source as one chain: the state after the lines that were read so far.
pub(super) struct Chain {
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
    /// Creates a chain of which no line was read. `partial` and `contains` are those of [`VerifyOptions`].
    pub(super) fn new(partial: bool, contains: Vec<Head>) -> Self {
        Self {
            partial,
            prev: (!partial).then(String::new),
            next: (!partial).then_some(1),
            summary: Summary::default(),
            open: HashSet::new(),
            unsettled: HashSet::new(),
            seen: HashSet::new(),
            hasher: RandomState::new(),
            missing: contains,
        }
    }

    /// Adds a line with this hash to the chain, and the record or the fault that parsing the line returned. Returns a
    /// description of each of its faults.
    pub(super) fn follow(&mut self, hash: &str, record: &Result<Record, String>) -> Vec<String> {
        let mut faults = Vec::new();
        match record {
            Ok(record) => {
                self.link(record, hash, &mut faults);
                faults.extend(self.pair(record).err().map(str::to_owned));
            }
            Err(text) => faults.push(text.clone()),
        }
        self.prev = Some(hash.to_owned());
        faults
    }

    /// Returns a description of each record that is missing, and the totals.
    pub(super) fn finish(mut self) -> (Vec<String>, Summary) {
        self.summary.open = self.open.len();
        let missing = self.missing.iter();
        let missing =
            missing.map(|head| format!("there is no record {}, which must be here", head.seq));
        (missing.collect(), self.summary)
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
