//! Metrics of the database that replicas share.

use std::time::Duration;

use prometheus_client::metrics::{
    counter::Counter, family::Family, gauge::Gauge, histogram::Histogram,
};

use super::registry::{Labels, metrics};

/// Histogram bounds in seconds. A commit to a good disk takes about a millisecond.
const BUCKETS: [f64; 10] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 1.0, 3.0,
];

metrics! {
    #[derive(Clone)]
    pub struct Store {
        connections: Gauge = "store_connections",
            "Open connections to the database of [store]";
        connect_failures: Counter = "store_connect_failures",
            "Connections to the database of [store] that failed, or that were not free in time";
        durations: Family<Labels<1>, Histogram, fn() -> Histogram> = "store_statement_duration" in Seconds
            as Family::new_with_constructor(|| Histogram::new(BUCKETS)),
            "Duration of a statement with its commit, failed or not, by kind of statement";
        closed: Counter = "store_intents_closed",
            "Interrupted calls of dead replicas that this one has recorded as unknown";
    }
}

impl Store {
    pub(crate) fn set_connections(&self, open: usize) {
        self.connections
            .set(i64::try_from(open).unwrap_or(i64::MAX));
    }

    pub(crate) fn connect_failed(&self) {
        self.connect_failures.inc();
    }

    /// Records the duration of a statement of this kind.
    pub fn observe(&self, what: &'static str, took: Duration) {
        let durations = self.durations.get_or_create(&[("statement", what)]);
        durations.observe(took.as_secs_f64());
    }

    /// Counts interrupted calls of dead replicas that were recorded as unknown.
    pub(crate) fn intents_closed(&self, calls: u64) {
        self.closed.inc_by(calls);
    }
}
