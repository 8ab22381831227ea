//! Metrics of the audit log.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use prometheus_client::metrics::{counter::Counter, gauge::Gauge, histogram::Histogram};

use super::registry::metrics;

/// Histogram bounds in seconds. A sync of a good disk takes a fraction of a millisecond; a write of more than one
/// second counts as failed.
const BUCKETS: [f64; 11] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 1.0,
];

/// State of the audit log.
#[derive(Clone, Copy, Debug, Default)]
pub struct State {
    /// Whether records can be written.
    pub writable: bool,
    /// Number of changes by other processes that were detected.
    pub external_changes: u64,
    /// Number of outcomes and refusals that were not recorded.
    pub lost: u64,
    /// Number of records that wait for the writer.
    pub queued: usize,
    /// Number of outcomes that are not written yet.
    pub pending: usize,
    /// Age of the oldest record that is not written yet.
    pub lag: Duration,
}

metrics! {
    pub struct Audit {
        external_changes: Counter = "audit_log_changed_by_others",
            "Changes of the length of the audit log by other programs";
        lost: Counter = "audit_records_lost",
            "Records that were dropped, because too many waited, or because the database cannot record them any more";
        writable: Gauge = "audit_log_works",
            "1 while the audit log can be written; while it cannot, deletions are refused";
        queued: Gauge = "audit_records_queued",
            "Records that wait for the writer of the audit log";
        pending: Gauge = "audit_outcomes_pending",
            "Outcomes that are not written to the audit log yet";
        lag: Gauge<f64, AtomicU64> = "audit_lag" in Seconds,
            "Age of the oldest record that is not written to the audit log yet";
        pub(crate) writes: Histogram = "audit_write_duration" in Seconds as Histogram::new(BUCKETS),
            "Duration of a write to the audit log, including its sync; queued records share a write";
    }
}

impl Audit {
    pub(super) fn set(&self, state: State) {
        let number = |count| i64::try_from(count).unwrap_or(i64::MAX);
        let count = |counter: &Counter, count| counter.inner().store(count, Ordering::Relaxed);
        self.writable.set(state.writable.into());
        count(&self.external_changes, state.external_changes);
        count(&self.lost, state.lost);
        self.queued.set(number(state.queued));
        self.pending.set(number(state.pending));
        self.lag.set(state.lag.as_secs_f64());
    }
}
