//! The contract between the writer and the place where it keeps the records.

use std::{io, time::Duration};

use serde_json::{Map, Value};

use super::{chain::Head, record::Record};

/// A chain of records that outlives the process. The writer thread calls it, and waits for each call.
pub(super) trait AuditStore: Send {
    /// Returns the name of the store for the log.
    fn name(&self) -> String;

    /// Opens the store, unless it is open. Returns the members of intents that ended processes left without an outcome.
    fn open(&mut self) -> io::Result<Vec<Map<String, Value>>>;

    /// Appends all records in this order, or none. Fails if the store is not open. The first `retained` records were
    /// passed to an earlier call, which failed. With `durable`, the records survive a power failure when this returns;
    /// without it, a later call may make them durable. Returns the intents that were left out.
    fn append(
        &mut self,
        records: &[&Record],
        retained: usize,
        durable: bool,
    ) -> io::Result<Vec<OverQuota>>;

    /// Returns whether the last call of [`AuditStore::append`], which failed, may have appended its records. If so, the
    /// writer passes the outcome `not_sent` of each of its intents, and the store drops the outcome if it does not have
    /// the intent.
    fn may_have_appended(&self) -> bool {
        false
    }

    /// Takes a record that was appended.
    fn keep(&mut self, _appended: Record) {}

    /// Called when there is nothing to append. Makes earlier records durable, and checks whether the store can be
    /// used.
    fn check(&mut self, condition: Condition) -> io::Result<()>;

    /// Returns the last record.
    fn head(&self) -> &Head;

    /// Returns the events since the last call.
    fn take_events(&mut self) -> Events {
        Events::default()
    }

    /// Returns the maximum number of new records in one append.
    fn max_records(&self) -> usize {
        usize::MAX
    }

    /// Returns whether outcomes and intents that wait at the same time are appended together. Otherwise outcomes are
    /// appended first, because they need not wait until the intents are durable.
    fn appends_whole_batches(&self) -> bool {
        false
    }

    /// Returns the duration of the last durable append if it is worth waiting for more intents, otherwise zero.
    fn commit_duration(&self) -> Duration;

    /// Returns the time since the first record that is not durable yet, or zero if there is none.
    fn unsynced(&self) -> Duration {
        Duration::ZERO
    }

    /// Returns the number of detected changes by other programs.
    fn external_changes(&self) -> u64 {
        0
    }
}

/// The result of the last attempt to use the store.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Condition {
    /// No attempt was made yet.
    Unknown,
    /// The store is open, and the last append succeeded.
    Writable,
    /// The store could not be opened, or an append failed.
    Failed,
}

/// Events of appends that succeeded.
#[derive(Default)]
pub(super) struct Events {
    /// Number of outcomes that were logged as lost.
    pub(super) lost: u64,
    /// Whether calls of other processes, which have ended, were recorded as unknown.
    pub(super) crashes_recorded: bool,
}

/// An intent that was not appended, because its caller's quota is used up.
pub(super) struct OverQuota {
    /// Position among the records.
    pub(super) index: usize,
    /// Time until the caller has capacity again.
    pub(super) wait: Duration,
}

/// Why a record was not appended.
#[derive(Debug)]
pub(super) enum Rejection {
    Unavailable(String),
    /// The caller's quota is used up for this time.
    OverQuota(Duration),
}

/// Minimum duration of a commit for which it is worth waiting for more intents. A faster one ends before a waiting call
/// could be woken.
const SLOW_COMMIT: Duration = Duration::from_millis(1);
const MAX_COMMIT_DURATION: Duration = Duration::from_millis(100);

/// Returns the duration of a commit for [`AuditStore::commit_duration`]: at most [`MAX_COMMIT_DURATION`], because a
/// store that hangs once does not predict the next commit, and zero if it was faster than [`SLOW_COMMIT`].
pub(super) fn worthwhile_duration(commit: Duration) -> Duration {
    if commit < SLOW_COMMIT {
        return Duration::ZERO;
    }
    commit.min(MAX_COMMIT_DURATION)
}
