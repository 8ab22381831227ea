//! Is the audit log whole? Reads files in order as one chain, and tells every place that does not fit. Nothing of a
//! record's content is repeated. Memory: a few bytes for each call.

use std::{
    collections::HashSet,
    fs::File,
    hash::{BuildHasher as _, RandomState},
    io,
    path::{Path, PathBuf},
};

use super::{
    Head,
    lines::{Line, Lines},
    record::{self, BEGINNING, Found, Kind},
};

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub struct Question {
    /// In their order.
    pub files: Vec<PathBuf>,
    /// May older files be missing?
    pub partial: bool,
    /// Records that must be there, with these hashes.
    pub contains: Vec<Head>,
}

/// Something to tell.
#[derive(Debug)]
pub struct Finding<'a> {
    /// The file, ...
    pub file: &'a Path,
    /// ... and the line, counted from 1.
    pub line: u64,
    /// Only worth knowing; the log is whole all the same.
    pub note: bool,
    /// What it is.
    pub text: String,
}

/// What was read.
#[derive(Debug, Default)]
pub struct Summary {
    /// All records.
    pub records: u64,
    /// The first one's.
    pub first: u64,
    /// The last one.
    pub head: Head,
    /// Intents without an outcome.
    pub open: usize,
}

/// A file that cannot be read.
#[derive(Debug)]
pub struct Unreadable<'a> {
    /// The file.
    pub file: &'a Path,
    /// Why.
    pub error: io::Error,
}

/// Reads the files and tells what is wrong with them, and what is only worth knowing.
pub fn verify<'a>(
    question: &'a Question,
    mut tell: impl FnMut(Finding<'a>),
) -> Result<Summary, Unreadable<'a>> {
    let mut chain = Chain::new(question);
    let (mut file, mut line) = (Path::new(""), 0);
    for (at, path) in question.files.iter().enumerate() {
        (file, line) = (path, 0);
        let last_file = at + 1 == question.files.len();
        let unreadable = |error| Unreadable { file, error };
        let mut lines = Lines::new(File::open(path).map_err(unreadable)?);
        while let Some(next) = lines.next().map_err(unreadable)? {
            line += 1;
            let mut tell = |note, text| {
                tell(Finding {
                    file,
                    line,
                    note,
                    text,
                });
            };
            if next.ended {
                chain.follow(&next, &mut |text| tell(false, text));
            } else if last_file && is_being_written(&next) {
                let text =
                    "the last line has no end: a server may be writing it, or a crash cut it off";
                tell(true, text.to_owned());
            } else {
                tell(false, "the last line has no end".to_owned());
            }
        }
    }
    for Head { seq, .. } in chain.missing {
        tell(Finding {
            file,
            line,
            note: false,
            text: format!("there is no record {seq}, which must be here"),
        });
    }
    chain.summary.open = chain.open.len();
    Ok(chain.summary)
}

/// The beginning of a record, or a record that lacks only its newline.
fn is_being_written(line: &Line) -> bool {
    let common = line.text.len().min(BEGINNING.len());
    let Some(text) = line.whole() else {
        return false;
    };
    let begun = text[..common] == BEGINNING[..common];
    begun
        && match serde_json::from_slice::<serde::de::IgnoredAny>(text) {
            Ok(_) => text.ends_with(b"}"),
            Err(error) => error.is_eof(),
        }
}

/// The chain as far as it was read.
struct Chain {
    partial: bool,
    /// Hash of the line before; `None` where any line may have been before.
    prev: Option<String>,
    /// The next record's; `None` where any may come.
    next: Option<u64>,
    summary: Summary,
    /// Calls that have an intent and no outcome, ...
    open: HashSet<u64>,
    /// ... and all calls that were seen; both by hash, for there may be many.
    seen: HashSet<u64>,
    hasher: RandomState,
    missing: Vec<Head>,
}

impl Chain {
    fn new(question: &Question) -> Self {
        let partial = question.partial;
        Self {
            partial,
            prev: (!partial).then(String::new),
            next: (!partial).then_some(1),
            summary: Summary::default(),
            open: HashSet::new(),
            seen: HashSet::new(),
            hasher: RandomState::new(),
            missing: question.contains.clone(),
        }
    }

    fn follow(&mut self, line: &Line, fault: &mut impl FnMut(String)) {
        let long = || "no record: the line is too long".to_owned();
        match line.whole().ok_or_else(long).and_then(record::read) {
            Ok(found) => {
                self.link(&found, &line.hash, fault);
                if let Err(text) = self.pair(&found) {
                    fault(text.to_owned());
                }
            }
            Err(text) => fault(text),
        }
        self.prev = Some(line.hash.clone());
    }

    /// The record's place in the chain.
    fn link(&mut self, found: &Found, hash: &str, fault: &mut impl FnMut(String)) {
        let seq = found.seq;
        if let Some(next) = self.next
            && next != seq
        {
            let news = if seq == 1 { "; a new chain begins" } else { "" };
            fault(format!("`seq` is {seq}, where {next} is due{news}"));
        }
        if self
            .prev
            .as_deref()
            .is_some_and(|prev| prev != found.prev())
        {
            fault("`prev` is not the hash of the line before".to_owned());
        }
        self.missing.retain(|wanted| {
            if wanted.seq == seq && wanted.hash != hash {
                fault(format!("record {seq} is not the one that must be here"));
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

    /// Intents and outcomes of one call.
    fn pair(&mut self, found: &Found) -> Result<(), &'static str> {
        let id = self.hasher.hash_one(found.request_id());
        let known = !self.seen.insert(id);
        match found.kind {
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
            Kind::Outcome { of_an_intent } => {
                if self.open.remove(&id) {
                    return Ok(());
                }
                if known {
                    return Err("a second outcome of this call");
                }
                if of_an_intent && !self.partial {
                    return Err("an outcome without an intent before it");
                }
            }
        }
        Ok(())
    }
}
