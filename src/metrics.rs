//! What the operator's monitoring reads: the numbers of one server, in Prometheus' text format.

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::SystemTime,
};

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
            "How many contents are in use although the present ones are bad",
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
    /// What is read again when it changes, such as `tls`.
    #[must_use]
    pub fn content(self: &Arc<Self>, what: &'static str) -> Content {
        // The line is there from the start, so that an alert on it can be tested.
        drop(self.stale.get_or_create(&[("what", what)]));
        Content {
            what,
            stale: false,
            metrics: Arc::clone(self),
        }
    }

    fn count_reload(&self, what: &'static str, result: &'static str) {
        let labels = [("what", what), ("result", result)];
        self.reloads.get_or_create(&labels).inc();
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

/// The numbers of one content that is read again when it changes.
pub struct Content {
    what: &'static str,
    stale: bool,
    metrics: Arc<Metrics>,
}

impl Content {
    /// It was read again, and is in use.
    pub fn reloaded(&mut self) {
        self.metrics.count_reload(self.what, "ok");
        self.confirmed();
    }

    /// What is there now is what is in use.
    pub fn confirmed(&mut self) {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let gauge = &self.metrics.reloaded_at;
        gauge
            .get_or_create(&[("what", self.what)])
            .set(now.unwrap_or_default().as_secs());
        self.set_stale(false);
    }

    /// What is there now is bad; the last good one stays in use.
    pub fn failed(&mut self) {
        self.metrics.count_reload(self.what, "failed");
        self.set_stale(true);
    }

    fn set_stale(&mut self, stale: bool) {
        let gauge = self.metrics.stale.get_or_create(&[("what", self.what)]);
        match (self.stale, stale) {
            (false, true) => gauge.inc(),
            (true, false) => gauge.dec(),
            _ => 0,
        };
        self.stale = stale;
    }
}

impl Drop for Content {
    fn drop(&mut self) {
        self.set_stale(false);
    }
}
