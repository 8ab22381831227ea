//! The audit log in a PostgreSQL database, in which the records of all replicas form one chain. The database chains the
//! records (`append_records` in `src/postgres/migrations/`).

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::{Map, Value};
use time::OffsetDateTime;
use tokio::runtime::Handle;
use tokio_postgres::types::Type;

use super::{
    chain::Head,
    columns::Columns,
    record::{Event, Record, UNKNOWN_AFTER_CRASH},
    store::{AuditStore, Condition, Events, OverQuota, worthwhile_duration},
};
use crate::{
    metrics::StoreMetrics,
    postgres::{Database, Error, Parameter},
    timestamp::with_milliseconds,
};

const APPEND: &str = "SELECT seq, hash, results FROM append_records($1, $2, make_interval(secs => $3), \
                      $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)";
/// Kind of the outcome of an intent of this replica.
const OUTCOME: &str = "outcome";
/// Kind of the outcome of an intent of a dead replica.
const CRASH: &str = "crash";
/// Result of an outcome that cannot be recorded: its intent is missing, or another finding is recorded.
const LOST: i32 = -2;

pub(super) struct PostgresStore {
    database: Arc<Database>,
    /// The runtime that serves the connections.
    runtime: Handle,
    head: Head,
    /// Number of the registration of this replica; `None` before the first one and after a failure.
    epoch: Option<i64>,
    /// Time of the next renewal of the lease.
    maintain_at: Instant,
    last_commit: Duration,
    /// Number of intents of dead replicas whose outcomes the writer has received and not recorded yet.
    closing: usize,
    may_have_appended: bool,
    events: Events,
    metrics: StoreMetrics,
}

impl PostgresStore {
    pub(super) fn new(database: Arc<Database>, runtime: Handle, metrics: StoreMetrics) -> Self {
        Self {
            database,
            runtime,
            head: Head::default(),
            epoch: None,
            maintain_at: Instant::now(),
            last_commit: Duration::ZERO,
            closing: 0,
            may_have_appended: false,
            events: Events::default(),
            metrics,
        }
    }

    fn lease(&self) -> f64 {
        self.database.lease.as_secs_f64()
    }

    /// Registers this replica, and returns its epoch. Statements of earlier epochs have no effect from then on.
    fn register(&mut self) -> Result<i64, Error> {
        let (database, lease) = (&*self.database, self.lease());
        let (epoch, head) = self.runtime.block_on(async {
            let parameters: &[Parameter<'_>] =
                &[(&database.replica, Type::TEXT), (&lease, Type::FLOAT8)];
            let sql = "SELECT register_replica($1, make_interval(secs => $2))";
            let epoch = database.query_one("register", sql, parameters).await?;
            let sql = "SELECT seq, hash FROM audit_head";
            let head = database.query_one("read_head", sql, &[]).await?;
            Ok((epoch, head))
        })?;
        let epoch = epoch.get(0);
        self.epoch = Some(epoch);
        self.head = Head {
            seq: head.get::<_, i64>(0).unsigned_abs(),
            hash: head.get(1),
        };
        // Interrupted calls of dead replicas are searched for at once.
        self.maintain_at = Instant::now();
        Ok(epoch)
    }

    /// Registers this replica unless it is registered, and renews the lease if that is due.
    fn register_and_maintain(&mut self) -> Result<Vec<Map<String, Value>>, Error> {
        let epoch = match self.epoch {
            Some(epoch) => epoch,
            None => self.register()?,
        };
        if Instant::now() < self.maintain_at {
            return Ok(Vec::new());
        }
        self.maintain(epoch)
    }

    /// Renews the lease. Returns the members of intents of dead replicas without an outcome.
    fn maintain(&mut self, epoch: i64) -> Result<Vec<Map<String, Value>>, Error> {
        let lease = self.lease();
        let parameters: &[Parameter<'_>] = &[
            (&self.database.replica, Type::TEXT),
            (&epoch, Type::INT8),
            (&lease, Type::FLOAT8),
        ];
        let sql = "SELECT maintain($1, $2, make_interval(secs => $3))";
        let rows = self.database.query("maintain", sql, parameters);
        let rows = self.runtime.block_on(rows)?;
        self.maintain_at = Instant::now() + self.database.lease / 3;
        // The database returns the same intents until their outcomes are recorded.
        if self.closing > 0 {
            return Ok(Vec::new());
        }
        let intents = rows.iter().filter_map(|row| {
            let object = format!("{{{}}}", row.get::<_, &str>(0));
            serde_json::from_str(&object).ok()
        });
        let intents: Vec<_> = intents.collect();
        self.closing = intents.len();
        Ok(intents)
    }

    fn send(&mut self, epoch: i64, rows: &Rows<'_>) -> Result<Vec<i32>, Error> {
        let lease = self.lease();
        let parameters: &[Parameter<'_>] = &[
            (&self.database.replica, Type::TEXT),
            (&epoch, Type::INT8),
            (&lease, Type::FLOAT8),
            (&rows.kinds, Type::TEXT_ARRAY),
            (&rows.retained, Type::BOOL_ARRAY),
            (&rows.versions, Type::INT4_ARRAY),
            (&rows.times, Type::TEXT_ARRAY),
            (&rows.request_ids, Type::TEXT_ARRAY),
            (&rows.outcomes, Type::TEXT_ARRAY),
            (&rows.callers, Type::TEXT_ARRAY),
            (&rows.users, Type::TEXT_ARRAY),
            (&rows.user_ids, Type::TEXT_ARRAY),
            (&rows.since, Type::TEXT_ARRAY),
            (&rows.members, Type::TEXT_ARRAY),
            (&rows.charged, Type::TEXT_ARRAY),
            (&rows.limits, Type::INT4_ARRAY),
        ];
        let start = Instant::now();
        let row = self.database.query_one("append", APPEND, parameters);
        let row = self.runtime.block_on(row)?;
        self.last_commit = start.elapsed();
        self.head = Head {
            seq: row.get::<_, i64>(0).unsigned_abs(),
            hash: row.get(1),
        };
        Ok(row.get(2))
    }

    /// Logs and counts outcomes that are lost, and calls of dead replicas that this replica has closed.
    fn report(&mut self, records: &[&Record], rows: &Rows<'_>, results: &[i32]) {
        let mut closed = 0;
        for (index, (record, result)) in records.iter().zip(results).enumerate() {
            match rows.kinds[index] {
                OUTCOME if *result == LOST => {
                    record.log_loss();
                    self.events.lost += 1;
                }
                CRASH => {
                    self.closing = self.closing.saturating_sub(1);
                    closed += u64::from(*result == 0);
                }
                _ => {}
            }
        }
        self.events.crashes_recorded |= closed > 0;
        if closed > 0 {
            self.metrics.intents_closed(closed);
            tracing::warn!(
                open = closed,
                "interrupted calls of dead replicas recorded as unknown"
            );
        }
    }

    /// Returns the error of the writer. The replica registers again before the next statement.
    fn failed(&mut self, error: &Error) -> io::Error {
        self.epoch = None;
        io::Error::other(error.to_string())
    }
}

impl AuditStore for PostgresStore {
    fn name(&self) -> String {
        self.database.name().to_owned()
    }

    fn open(&mut self) -> io::Result<Vec<Map<String, Value>>> {
        self.may_have_appended = false;
        let mut maintained = self.register_and_maintain();
        // The lease has ended, for example because the machine was suspended.
        if let Err(Error::NotRegistered) = maintained {
            self.epoch = None;
            maintained = self.register_and_maintain();
        }
        maintained.map_err(|error| self.failed(&error))
    }

    fn append(
        &mut self,
        records: &[&Record],
        retained: usize,
        _durable: bool,
    ) -> io::Result<Vec<OverQuota>> {
        let epoch = self.epoch;
        let epoch = epoch.ok_or_else(|| io::Error::other("the database is not open"))?;
        let rows = Rows::new(records, retained);
        let results = self.send(epoch, &rows).map_err(|error| {
            self.may_have_appended = matches!(error, Error::Unavailable(_));
            self.failed(&error)
        })?;
        self.report(records, &rows, &results);
        let over_quota = results.iter().enumerate().filter_map(|(index, result)| {
            let seconds = u64::try_from(*result).ok().filter(|seconds| *seconds > 0)?;
            let wait = Duration::from_secs(seconds);
            Some(OverQuota { index, wait })
        });
        Ok(over_quota.collect())
    }

    fn may_have_appended(&self) -> bool {
        self.may_have_appended
    }

    /// Checks whether the database answers, so that readiness is right although there are no calls. After a failure,
    /// also checks whether it can append a record.
    fn check(&mut self, condition: Condition) -> io::Result<()> {
        let (what, sql) = match condition {
            Condition::Failed => ("probe", "SELECT probe()"),
            Condition::Unknown | Condition::Writable => ("ping", "SELECT 1"),
        };
        let answer = self.database.query(what, sql, &[]);
        let answer = self.runtime.block_on(answer);
        answer.map(drop).map_err(|error| self.failed(&error))
    }

    fn head(&self) -> &Head {
        &self.head
    }

    fn take_events(&mut self) -> Events {
        std::mem::take(&mut self.events)
    }

    /// A commit makes all its records durable at once.
    fn appends_whole_batches(&self) -> bool {
        true
    }

    /// Other replicas wait while the database appends.
    fn max_records(&self) -> usize {
        1_024
    }

    fn commit_duration(&self) -> Duration {
        worthwhile_duration(self.last_commit)
    }
}

/// The parameters of `append_records`, one entry for each record.
#[derive(Default)]
struct Rows<'a> {
    kinds: Vec<&'static str>,
    retained: Vec<bool>,
    versions: Vec<i32>,
    times: Vec<String>,
    request_ids: Vec<&'a str>,
    outcomes: Vec<&'static str>,
    callers: Vec<String>,
    users: Vec<String>,
    user_ids: Vec<String>,
    since: Vec<Option<String>>,
    members: Vec<&'a str>,
    charged: Vec<Option<&'a str>>,
    limits: Vec<Option<i32>>,
}

impl<'a> Rows<'a> {
    fn new(records: &[&'a Record], retained: usize) -> Self {
        let mut rows = Self::default();
        for (index, record) in records.iter().enumerate() {
            let object = format!("{{{}}}", record.members.as_str());
            let columns = Columns::of(&object);
            let at = record.at.unwrap_or_else(OffsetDateTime::now_utc);
            rows.kinds.push(kind(record));
            rows.retained.push(index < retained);
            rows.versions.push(record.event.version().into());
            rows.times.push(with_milliseconds(at));
            rows.request_ids.push(&record.request_id);
            rows.outcomes.push(record.outcome);
            rows.user_ids.push(columns.user_ids_literal());
            rows.callers.push(columns.caller);
            rows.users.push(columns.user);
            rows.since.push(columns.since);
            rows.members.push(record.members.as_str());
            let charge = record.charge.as_ref();
            rows.charged
                .push(charge.map(|charge| charge.caller.as_str()));
            let limit = charge.map(|charge| i32::try_from(charge.limit).unwrap_or(i32::MAX));
            rows.limits.push(limit);
        }
        rows
    }
}

/// Returns the kind of a record, which `append_records` describes.
fn kind(record: &Record) -> &'static str {
    match (record.event, record.ends_intent) {
        (Event::Intent, _) => "intent",
        (Event::Outcome, true) if record.outcome == UNKNOWN_AFTER_CRASH => CRASH,
        (Event::Outcome, true) => OUTCOME,
        (Event::Outcome, false) => "other",
        (Event::Reconciled, _) => "finding",
    }
}
