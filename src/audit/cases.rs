//! Finds the calls of a file whose outcome is unknown. Changes nothing in the file.

use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    hash::{BuildHasher as _, RandomState},
    io,
    path::Path,
};

use serde_json::{Map, Value};

use super::{
    reader::{Kind, Line, LineReader, Record},
    record::Case,
    recovery::{is_unfinished_record, predecessor},
};
use crate::proto::ErrorReason;

/// Key that identifies a request and not its user.
const CLIENT_REQUEST_ID: &str = "client_request_id";

/// Which calls [`unsettled`] returns.
pub struct Scope {
    /// Returns whether the users of this rpc can be read.
    pub is_readable: fn(&str) -> bool,
    /// Whether intents without an outcome are included. While a server writes to the file, they are calls in progress.
    pub with_open_intents: bool,
    /// Maximum number of calls of each kind. The newest ones are returned.
    pub max: usize,
}

/// The calls whose outcome is unknown.
pub struct Cases {
    /// The calls whose user can be read, and that no reconciliation has settled.
    pub readable: CaseList,
    /// The calls whose user cannot be read, and that no later call for the same user has settled.
    pub unreadable: CaseList,
}

/// Calls of one kind.
pub struct CaseList {
    /// At most [`Scope::max`] calls, oldest first.
    pub newest: Vec<Case>,
    /// Number of older calls.
    pub older: usize,
}

/// Returns the calls of a log whose outcome is unknown. Reads the renamed predecessor of a log that has no line yet.
pub fn unsettled(log: &Path, scope: &Scope) -> io::Result<Cases> {
    let mut search = Search {
        scope,
        open: BTreeMap::new(),
        readable: Unsettled::default(),
        unreadable: Unsettled::default(),
        lines: 0,
        hasher: RandomState::new(),
    };
    search.read(log)?;
    if search.lines == 0
        && let Some(predecessor) = predecessor(log)
    {
        search.read(&predecessor)?;
    }
    for members in std::mem::take(&mut search.open).into_values() {
        search.add(members);
    }
    Ok(Cases {
        readable: search.readable.into_list(),
        unreadable: search.unreadable.into_list(),
    })
}

struct Search<'a> {
    scope: &'a Scope,
    /// Intents without an outcome, by request ID.
    open: BTreeMap<String, Map<String, Value>>,
    readable: Unsettled,
    unreadable: Unsettled,
    /// Number of lines that were read, which is also the position of the last one.
    lines: u64,
    hasher: RandomState,
}

impl Search<'_> {
    fn read(&mut self, file: &Path) -> io::Result<()> {
        let mut lines = LineReader::new(File::open(file)?);
        while let Some(line) = lines.next()? {
            if line.ended || !is_unfinished_record(&line) {
                self.follow(&line);
            }
        }
        Ok(())
    }

    fn follow(&mut self, line: &Line) {
        self.lines += 1;
        let Ok(record) = line.record() else {
            return;
        };
        let id = record.request_id();
        match record.kind {
            Kind::Intent { .. } if self.scope.with_open_intents => {
                self.open.insert(id.to_owned(), record.into_entry());
            }
            Kind::Outcome { unknown, .. } => {
                self.open.remove(id);
                if unknown {
                    self.add(record.into_entry());
                } else if is_absent(&record) && !(self.scope.is_readable)(record.text("rpc")) {
                    let user = self.user(&record.into_entry());
                    self.unreadable.settle(user);
                }
            }
            Kind::Reconciled { settled: true } => {
                let id = self.hasher.hash_one(id);
                self.readable.settle(id);
            }
            Kind::Intent { .. } | Kind::Reconciled { settled: false } => {}
        }
    }

    fn add(&mut self, members: Map<String, Value>) {
        let case = Case { members };
        let (at, max) = (self.lines, self.scope.max);
        if (self.scope.is_readable)(case.rpc()) {
            let id = self.hasher.hash_one(case.request_id());
            self.readable.add(id, at, case, max);
        } else {
            let user = self.user(&case.members);
            self.unreadable.add(user, at, case, max);
        }
        // Open intents, which have no line here, are newer than all lines.
        self.lines += 1;
    }

    /// Returns a hash of the user of a call.
    fn user(&self, members: &Map<String, Value>) -> u64 {
        let identifiers = members.get("identifiers").and_then(Value::as_object);
        let identifiers = identifiers.into_iter().flatten();
        let identifiers = identifiers.filter(|(key, _)| *key != CLIENT_REQUEST_ID);
        let identifiers: Vec<_> = identifiers.collect();
        let keys = [members.get("rpc"), members.get("target")];
        self.hasher.hash_one((keys, identifiers))
    }
}

/// Returns whether the user of a call did not exist when the call ended.
fn is_absent(record: &Record) -> bool {
    matches!(
        record.text("outcome"),
        "deleted" | "already_absent" | "absent_after_retry"
    ) || record.text("reason") == ErrorReason::UserNotFound.as_str_name()
}

/// Calls that no later record has settled.
#[derive(Default)]
struct Unsettled {
    /// The positions of the calls that a record with this hash settles.
    positions: HashMap<u64, Vec<u64>>,
    /// The newest calls, by position.
    newest: BTreeMap<u64, Case>,
}

impl Unsettled {
    fn add(&mut self, settled_by: u64, at: u64, case: Case, max: usize) {
        self.positions.entry(settled_by).or_default().push(at);
        self.newest.insert(at, case);
        if self.newest.len() > max {
            self.newest.pop_first();
        }
    }

    fn settle(&mut self, hash: u64) {
        for at in self.positions.remove(&hash).into_iter().flatten() {
            self.newest.remove(&at);
        }
    }

    fn into_list(self) -> CaseList {
        let all: usize = self.positions.values().map(Vec::len).sum();
        CaseList {
            older: all - self.newest.len(),
            newest: self.newest.into_values().collect(),
        }
    }
}
