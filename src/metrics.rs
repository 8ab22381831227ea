//! What the operator's monitoring reads: the numbers of one server, in Prometheus' text format.

use std::{sync::atomic::AtomicU64, time::SystemTime};

use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};

type Labels<const N: usize> = [(&'static str, &'static str); N];
/// Seconds since 1970 do not fit a gauge of 32 bits, and whole ones are enough.
type Seconds = Gauge<u64, AtomicU64>;

/// The numbers.
pub struct Metrics {
    registry: Registry,
    reloads: Family<Labels<2>, Counter>,
    stale: Family<Labels<1>, Gauge>,
    reloaded_at: Family<Labels<1>, Seconds>,
    unidentified: Family<Labels<1>, Counter>,
    audit_works: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("useradmin"),
            reloads: Family::default(),
            stale: Family::default(),
            reloaded_at: Family::default(),
            unidentified: Family::default(),
            audit_works: Gauge::default(),
        };
        let registry = &mut metrics.registry;
        registry.register(
            "reloads",
            "Changed files that were read again, by what they hold and by result (ok, failed)",
            metrics.reloads.clone(),
        );
        registry.register(
            "reload_stale",
            "1 while the last good content is in use because the present one is bad",
            metrics.stale.clone(),
        );
        registry.register_with_unit(
            "reload_last_success_timestamp",
            "When the content in use was read, in seconds since 1970",
            Unit::Seconds,
            metrics.reloaded_at.clone(),
        );
        registry.register(
            "unidentified_calls",
            "Calls that were refused because they showed no accepted identity, by cause",
            metrics.unidentified.clone(),
        );
        registry.register(
            "audit_log_works",
            "1 while the audit log can be written; while it cannot, deletions are refused",
            metrics.audit_works.clone(),
        );
        metrics
    }
}

impl Metrics {
    /// What was read again, `what`, is in use.
    pub fn reloaded(&self, what: &'static str) {
        let count = self
            .reloads
            .get_or_create(&[("what", what), ("result", "ok")]);
        count.inc();
        self.loaded(what);
    }

    /// What was read for the first time is in use.
    pub fn loaded(&self, what: &'static str) {
        self.stale.get_or_create(&[("what", what)]).set(0);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        self.reloaded_at
            .get_or_create(&[("what", what)])
            .set(now.unwrap_or_default().as_secs());
    }

    /// What is there now is bad; the last good one stays in use.
    pub fn reload_failed(&self, what: &'static str) {
        let count = self
            .reloads
            .get_or_create(&[("what", what), ("result", "failed")]);
        count.inc();
        self.stale.get_or_create(&[("what", what)]).set(1);
    }

    /// A call was refused for want of an identity.
    pub fn unidentified(&self, cause: &'static str) {
        self.unidentified.get_or_create(&[("cause", cause)]).inc();
    }

    /// The text that monitoring reads.
    #[must_use]
    pub fn text(&self, audit_works: bool) -> String {
        self.audit_works.set(audit_works.into());
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}
