//! The metrics of one server, in the text format of Prometheus. docs/operations.md describes each of them.

mod audit;
mod calls;
mod format;
mod labels;
mod process;
mod reloads;
mod upstreams;

use std::sync::{Arc, Mutex, atomic::Ordering};

use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, family::Family, gauge::Gauge, info::Info},
    registry::{Registry, Unit},
};

use self::{audit::Audit, calls::Calls, labels::Labels, process::Process, upstreams::Upstreams};
pub use self::{
    audit::State as AuditState,
    format::Format,
    reloads::{Content, Reloads},
    upstreams::{
        Credential as CredentialState, End as RequestEnd, Requests, State as TargetState,
        Target as TargetName,
    },
};

/// The metrics of one server.
pub struct Metrics {
    registry: Registry,
    /// Held from setting the values of a snapshot until they are encoded.
    scraping: Mutex<()>,
    /// Files that are read again when they change.
    pub reloads: Arc<Reloads>,
    /// Calls of the rpcs.
    pub calls: Calls,
    /// Requests to upstreams.
    pub upstreams: Upstreams,
    /// The audit log.
    pub audit: Audit,
    /// Open connections.
    pub connections: Gauge,
    most_connections: Gauge,
    in_progress: Gauge,
    most_in_progress: Gauge,
    certificate_expires: Family<Labels<1>, Gauge>,
    unidentified: Family<Labels<1>, Counter>,
    refused: Family<Labels<1>, Counter>,
    aborted: Family<Labels<1>, Counter>,
    handshakes_failed: Family<Labels<1>, Counter>,
    log_lines_dropped: Counter,
}

/// Causes of a handshake that failed.
const HANDSHAKE_FAILURES: [&str; 2] = ["timeout", "tls"];

/// Values that are read at each scrape.
#[derive(Default)]
pub struct Snapshot {
    /// The audit log.
    pub audit: AuditState,
    /// All targets.
    pub targets: Vec<(TargetName, TargetState)>,
    /// Calls in progress, including those whose caller has disconnected.
    pub calls: u32,
    /// Maximum of `calls`.
    pub most_calls: u32,
    /// The number of log lines that were dropped.
    pub log_lines_dropped: u64,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self {
            registry: Registry::default(),
            scraping: Mutex::default(),
            reloads: Arc::default(),
            calls: Calls::default(),
            upstreams: Upstreams::default(),
            audit: Audit::default(),
            connections: Gauge::default(),
            most_connections: Gauge::default(),
            in_progress: Gauge::default(),
            most_in_progress: Gauge::default(),
            certificate_expires: Family::default(),
            unidentified: Family::default(),
            refused: Family::default(),
            aborted: Family::default(),
            handshakes_failed: Family::default(),
            log_lines_dropped: Counter::default(),
        };
        let mut root = Registry::default();
        metrics.calls.register(&mut root);
        root.register_collector(Box::new(Process));
        let own = root.sub_registry_with_prefix("useradmin");
        metrics.register(own);
        metrics.calls.register_outcomes(own);
        metrics.upstreams.register(own);
        metrics.audit.register(own);
        metrics.reloads.register(own);
        metrics.registry = root;
        metrics
    }
}

impl Metrics {
    fn register(&self, registry: &mut Registry) {
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The version that runs", build);
        registry.register(
            "calls_in_progress",
            "Calls in progress, with those whose caller has gone",
            self.in_progress.clone(),
        );
        registry.register(
            "max_calls_in_progress",
            "How many calls there may be in progress (max_concurrent_calls)",
            self.most_in_progress.clone(),
        );
        registry.register(
            "connections",
            "Connections that speak HTTP/2",
            self.connections.clone(),
        );
        registry.register(
            "max_connections",
            "How many connections there may be (max_connections)",
            self.most_connections.clone(),
        );
        registry.register(
            "connections_refused",
            "Connections that were closed at once, by the limit that they would have broken",
            self.refused.clone(),
        );
        registry.register(
            "connections_aborted",
            "Connections that were ended because the peer broke the rules of HTTP/2, by error code",
            self.aborted.clone(),
        );
        registry.register(
            "handshakes_failed",
            "Connections that were closed before they began HTTP/2, by cause",
            self.handshakes_failed.clone(),
        );
        registry.register(
            "unidentified_calls",
            "Calls that were refused because they showed no accepted identity, by cause",
            self.unidentified.clone(),
        );
        registry.register(
            "log_lines_dropped",
            "Lines of the log that were dropped because standard error was stalled or failed",
            self.log_lines_dropped.clone(),
        );
        registry.register_with_unit(
            "tls_certificate_expires_timestamp",
            "When the first certificate of a file in use expires, in seconds since 1970, by the key that names the file",
            Unit::Seconds,
            self.certificate_expires.clone(),
        );
    }

    /// Sets the maximum number of connections, and creates the counters of these limits.
    pub fn expect_connections(&self, most: u32, limits: &[&'static str]) {
        self.most_connections.set(most.into());
        for limit in limits {
            drop(self.refused.get_or_create(&[("limit", *limit)]));
        }
        for cause in HANDSHAKE_FAILURES {
            drop(self.handshakes_failed.get_or_create(&[("cause", cause)]));
        }
    }

    /// Counts a connection that was closed because of this limit.
    pub fn connection_refused(&self, limit: &'static str) {
        self.refused.get_or_create(&[("limit", limit)]).inc();
    }

    /// Counts a connection that ended with this error code of HTTP/2.
    pub fn connection_aborted(&self, error: &'static str) {
        self.aborted.get_or_create(&[("error", error)]).inc();
    }

    /// Counts a connection that was closed before it began HTTP/2.
    pub fn handshake_failed(&self, cause: &'static str) {
        let counter = self.handshakes_failed.get_or_create(&[("cause", cause)]);
        counter.inc();
    }

    /// Counts a call whose caller could not be authenticated.
    pub fn unidentified(&self, cause: &'static str) {
        self.unidentified.get_or_create(&[("cause", cause)]).inc();
    }

    /// Sets when the first certificate in the file of this key expires, in seconds since 1970.
    pub fn certificate_expires(&self, key: &'static str, at: i64) {
        let gauge = self.certificate_expires.get_or_create(&[("file", key)]);
        gauge.set(at);
    }

    /// Returns all metrics as `OpenMetrics` text.
    #[must_use]
    pub fn text(&self, now: &Snapshot) -> String {
        let _scraping = crate::lock(&self.scraping);
        self.audit.set(now.audit);
        self.upstreams.set(&now.targets);
        self.in_progress.set(now.calls.into());
        self.most_in_progress.set(now.most_calls.into());
        let dropped = self.log_lines_dropped.inner();
        dropped.store(now.log_lines_dropped, Ordering::Relaxed);
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}
