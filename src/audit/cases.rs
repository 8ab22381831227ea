//! Searches an audit log for calls whose outcome is unknown. Changes nothing.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    fs::{self, File, TryLockError},
    hash::{BuildHasher as _, RandomState},
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    pin::pin,
    sync::Arc,
};

use futures_util::TryStreamExt as _;
use serde_json::{Map, Value};
use tokio::task::spawn_blocking;

use super::{
    file::metadata,
    reader::{Kind, Line, LineReader, Record},
    record::Case,
    recovery::{is_unfinished_record, predecessor},
};
use crate::{
    config::{self, AuditSink},
    postgres::Database,
    proto::ErrorReason,
};

/// Key that identifies a request and not its user.
const CLIENT_REQUEST_ID: &str = "client_request_id";

/// The records of all calls that may concern the user of a call whose outcome is unknown.
const LINES_OF_UNKNOWN: &str = "WITH unknown AS MATERIALIZED \
     (SELECT request_id, user_name FROM audit_record WHERE outcome IN ('unknown', 'unknown_after_crash')) \
     SELECT line FROM audit_record WHERE request_id IN (SELECT request_id FROM unknown) \
         OR user_name IN (SELECT user_name FROM unknown) ORDER BY seq";

/// An audit log that can be read.
#[derive(Clone)]
pub enum Log {
    File(PathBuf),
    Database(Arc<Database>),
}

impl Log {
    /// Returns the log of this configuration, or `None` if it cannot be read.
    pub fn new(config: &config::Audit, database: Option<&Arc<Database>>) -> Option<Self> {
        match (database, &config.sink) {
            (Some(database), _) => Some(Self::Database(Arc::clone(database))),
            (None, AuditSink::File(path)) => Some(Self::File(path.clone())),
            (None, AuditSink::Stdout | AuditSink::Discard) => None,
        }
    }
}

impl fmt::Display for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Database(database) => f.write_str(database.name()),
        }
    }
}

/// Which calls [`unsettled`] returns.
#[derive(Clone, Copy)]
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
    pub not_readable: CaseList,
}

/// Calls of one kind.
pub struct CaseList {
    /// At most [`Scope::max`] calls, oldest first.
    pub newest: Vec<Case>,
    /// Number of older calls.
    pub older: usize,
}

/// Returns the calls of a log whose outcome is unknown.
pub async fn unsettled(log: &Log, scope: Scope) -> io::Result<Cases> {
    match log {
        Log::File(path) => {
            let path = path.clone();
            // The file may be large.
            spawn_blocking(move || unsettled_in_file(&path, scope)).await?
        }
        Log::Database(database) => unsettled_in_database(database, scope).await,
    }
}

async fn unsettled_in_database(database: &Database, scope: Scope) -> io::Result<Cases> {
    let mut search = Search::new(scope);
    let rows = database.stream(LINES_OF_UNKNOWN, &[]).await;
    let rows = rows.map_err(io::Error::other)?;
    let mut rows = pin!(rows);
    while let Some(row) = rows.try_next().await.map_err(io::Error::other)? {
        search.follow(&Line::new(row.get(0)));
    }
    Ok(search.into_cases())
}

/// Reads a log and its newest renamed predecessor. The predecessor is read first, because later records in the log may
/// settle its calls.
pub fn unsettled_in_file(log: &Path, scope: Scope) -> io::Result<Cases> {
    let mut search = Search::new(scope);
    if let Some(older) = predecessor(log) {
        search.read(File::open(older)?)?;
    }
    match File::open(log) {
        Ok(file) => search.read(file)?,
        // The log was renamed, and nothing was recorded since.
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    Ok(search.into_cases())
}

/// Returns whether another process, or another part of this process, writes to a log. If the log does not exist because
/// it was renamed, returns this for the renamed file. Fails if the log is not a regular file that can be read.
pub fn is_in_use(log: &Path) -> io::Result<bool> {
    if metadata(log)?.is_none()
        && let Some(renamed) = predecessor(log)
    {
        return is_in_use(&renamed);
    }
    if !fs::metadata(log)?.is_file() {
        return Err(io::Error::new(
            ErrorKind::InvalidInput,
            "not a regular file",
        ));
    }
    let file = File::open(log)?;
    // The lock is released when the file is closed, at the end of this function.
    Ok(matches!(
        file.try_lock_shared(),
        Err(TryLockError::WouldBlock)
    ))
}

struct Search {
    scope: Scope,
    /// Positions and members of the intents without an outcome, by request ID.
    open: BTreeMap<String, (u64, Map<String, Value>)>,
    readable: Unsettled,
    not_readable: Unsettled,
    /// Number of lines that were read, which is also the position of the last one.
    lines: u64,
    hasher: RandomState,
}

impl Search {
    fn new(scope: Scope) -> Self {
        Self {
            scope,
            open: BTreeMap::new(),
            readable: Unsettled::default(),
            not_readable: Unsettled::default(),
            lines: 0,
            hasher: RandomState::new(),
        }
    }

    fn into_cases(mut self) -> Cases {
        for (at, members) in std::mem::take(&mut self.open).into_values() {
            self.add(at, members);
        }
        Cases {
            readable: self.readable.into_list(),
            not_readable: self.not_readable.into_list(),
        }
    }

    fn read(&mut self, file: File) -> io::Result<()> {
        let mut lines = LineReader::new(file);
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
                let id = id.to_owned();
                self.open.insert(id, (self.lines, record.into_entry()));
            }
            Kind::Outcome { unknown, .. } => {
                self.open.remove(id);
                if unknown {
                    self.add(self.lines, record.into_entry());
                } else if is_absent(&record) && !(self.scope.is_readable)(record.text("rpc")) {
                    let user = self.user(&record.into_entry());
                    self.not_readable.settle(user);
                }
            }
            Kind::Reconciled { settled } => {
                if settled {
                    self.not_readable.settle_call(id);
                    self.readable.settle(self.hasher.hash_one(id));
                } else {
                    self.readable.mark_unreadable(self.hasher.hash_one(id));
                }
            }
            Kind::Intent { .. } => {}
        }
    }

    /// Adds the call of the record at this position.
    fn add(&mut self, at: u64, members: Map<String, Value>) {
        let case = Case {
            members,
            recorded_unreadable: false,
        };
        let max = self.scope.max;
        if (self.scope.is_readable)(case.rpc()) {
            let id = self.hasher.hash_one(case.request_id());
            self.readable.add(id, at, case, max);
        } else {
            let user = self.user(&case.members);
            self.not_readable.add(user, at, case, max);
        }
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

/// Reasons which show that a user does not exist. A node that no longer exists has no users.
const ABSENT: [ErrorReason; 3] = [
    ErrorReason::UserNotFound,
    ErrorReason::NodeNotFound,
    ErrorReason::PoolNotFound,
];

/// Returns whether the user of a call did not exist when the call ended.
fn is_absent(record: &Record) -> bool {
    matches!(
        record.text("outcome"),
        "deleted" | "already_absent" | "absent_after_retry"
    ) || ABSENT
        .map(|reason| reason.as_str_name())
        .contains(&record.text("reason"))
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

    fn mark_unreadable(&mut self, hash: u64) {
        for at in self.positions.get(&hash).into_iter().flatten() {
            if let Some(case) = self.newest.get_mut(at) {
                case.recorded_unreadable = true;
            }
        }
    }

    fn settle(&mut self, hash: u64) {
        for at in self.positions.remove(&hash).into_iter().flatten() {
            self.newest.remove(&at);
        }
    }

    /// Removes one call. Another replica can record the outcome of a call whose user cannot be read.
    fn settle_call(&mut self, request_id: &str) {
        let mut newest = self.newest.iter();
        let Some((&at, _)) = newest.find(|(_, case)| case.request_id() == request_id) else {
            return;
        };
        self.newest.remove(&at);
        for positions in self.positions.values_mut() {
            positions.retain(|position| *position != at);
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
