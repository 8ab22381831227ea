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
    refused: Family<Labels<1>, Counter>,
    aborted: Family<Labels<1>, Counter>,
    looked_at: Seconds,
    restart_needed: Gauge,
    audit_works: Gauge,
    audit_changed: Gauge,
    audit_lost: Gauge,
}

/// What the audit log tells of itself.
pub struct AuditNumbers {
    /// Can it be written?
    pub works: bool,
    /// How often it was found changed by somebody else.
    pub changes_by_others: u64,
    /// Outcomes and refusals that are on no record.
    pub lost: u64,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("useradmin"),
            reloads: Family::default(),
            stale: Family::default(),
            reloaded_at: Family::default(),
            unidentified: Family::default(),
            refused: Family::default(),
            aborted: Family::default(),
            looked_at: Seconds::default(),
            restart_needed: Gauge::default(),
            audit_works: Gauge::default(),
            audit_changed: Gauge::default(),
            audit_lost: Gauge::default(),
        };
        metrics.register_reloads();
        metrics.registry.register(
            "unidentified_calls",
            "Calls that were refused because they showed no accepted identity, by cause",
            metrics.unidentified.clone(),
        );
        metrics.registry.register(
            "connections_refused",
            "Connections that were closed at once, by the limit that they would have broken",
            metrics.refused.clone(),
        );
        metrics.registry.register(
            "connections_aborted",
            "Connections that were ended because the peer broke the rules of HTTP/2, by error code",
            metrics.aborted.clone(),
        );
        metrics.register_audit();
        metrics
    }
}

impl Metrics {
    fn register_reloads(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "reloads",
            "Changed files that were read again, by what they hold and by result (ok, failed)",
            self.reloads.clone(),
        );
        registry.register(
            "reload_stale",
            "How many contents are in use although the present ones are bad",
            self.stale.clone(),
        );
        registry.register_with_unit(
            "reload_last_success_timestamp",
            "When the content in use was read, in seconds since 1970",
            Unit::Seconds,
            self.reloaded_at.clone(),
        );
        registry.register_with_unit(
            "reload_last_look_timestamp",
            "When files were last looked at, in seconds since 1970",
            Unit::Seconds,
            self.looked_at.clone(),
        );
        registry.register(
            "restart_needed",
            "1 while the configuration file says something that takes effect at a restart",
            self.restart_needed.clone(),
        );
    }

    fn register_audit(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "audit_log_works",
            "1 while the audit log can be written; while it cannot, deletions are refused",
            self.audit_works.clone(),
        );
        registry.register(
            "audit_log_changed_by_others",
            "How often the audit log was found longer or shorter than this process had left it",
            self.audit_changed.clone(),
        );
        registry.register(
            "audit_records_lost",
            "Outcomes and refusals that are on no record, because too many waited",
            self.audit_lost.clone(),
        );
    }

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

    /// A connection was closed because of this limit.
    pub fn connection_refused(&self, limit: &'static str) {
        self.refused.get_or_create(&[("limit", limit)]).inc();
    }

    /// A connection was ended with this error code of HTTP/2.
    pub fn connection_aborted(&self, error: &'static str) {
        self.aborted.get_or_create(&[("error", error)]).inc();
    }

    /// Files have been looked at.
    pub fn looked(&self) {
        self.looked_at.set(now());
    }

    /// Does the configuration file say something that takes effect at a restart?
    pub fn restart_needed(&self, needed: bool) {
        self.restart_needed.set(needed.into());
    }

    /// A call was refused for want of an identity.
    pub fn unidentified(&self, cause: &'static str) {
        self.unidentified.get_or_create(&[("cause", cause)]).inc();
    }

    /// The text that monitoring reads.
    #[must_use]
    pub fn text(&self, audit: &AuditNumbers) -> String {
        let number = |count| i64::try_from(count).unwrap_or(i64::MAX);
        self.audit_works.set(audit.works.into());
        self.audit_changed.set(number(audit.changes_by_others));
        self.audit_lost.set(number(audit.lost));
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
        let gauge = &self.metrics.reloaded_at;
        gauge.get_or_create(&[("what", self.what)]).set(now());
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

/// Seconds since 1970.
fn now() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.unwrap_or_default().as_secs()
}
