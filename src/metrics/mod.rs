//! The metrics of one server, in the text format of Prometheus. docs/operations.md describes each of them.

mod audit;
mod calls;
mod format;
mod process;
mod registry;
mod reloads;
mod store;
mod upstreams;

use std::sync::{Mutex, atomic::Ordering};

use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, family::Family, gauge::Gauge, info::Info},
    registry::Registry,
};

use self::{
    audit::Audit,
    calls::Calls,
    process::Process,
    registry::{Labels, metrics},
    reloads::Reloads,
    upstreams::Upstreams,
};
pub use self::{
    audit::State as AuditState,
    calls::Outcomes,
    format::Format,
    reloads::Content,
    store::Store as StoreMetrics,
    upstreams::{
        Credential as CredentialState, RequestMetrics, RequestResult, State as TargetState,
        Target as TargetName,
    },
};

/// Causes of failed handshakes, as label values.
const HANDSHAKE_FAILURES: [&str; 2] = ["timeout", "tls"];

metrics! {
    /// Metrics of connections, and of calls of all services.
    pub(crate) struct Server {
        in_progress: Gauge = "calls_in_progress",
            "Calls in progress, including those whose caller has disconnected";
        max_in_progress: Gauge = "max_calls_in_progress",
            "Maximum number of calls in progress (max_concurrent_calls)";
        pub(crate) connections: Gauge = "connections",
            "Open HTTP/2 connections";
        max_connections: Gauge = "max_connections",
            "Maximum number of connections (max_connections)";
        refused: Family<Labels<1>, Counter> = "connections_refused",
            "Connections that were closed at once, by the limit that they exceeded";
        aborted: Family<Labels<1>, Counter> = "connections_aborted",
            "Connections that were closed because the peer violated HTTP/2, by error code, or stopped reading \
             (NOT_READ)";
        handshakes_failed: Family<Labels<1>, Counter> = "handshakes_failed",
            "Connections that were closed before they began HTTP/2, by cause";
        unidentified: Family<Labels<1>, Counter> = "unidentified_calls",
            "Calls that were refused because they had no accepted identity, by cause";
        log_lines_dropped: Counter = "log_lines_dropped",
            "Lines of the log that were dropped because standard error was stalled or failed";
        certificate_expires: Family<Labels<1>, Gauge> = "tls_certificate_expires_timestamp" in Seconds,
            "Earliest expiry of a certificate in a file in use, in seconds since 1970, by the key that names the file";
    }
}

pub struct Metrics {
    registry: Registry,
    /// Serializes scrapes: it is locked from setting the values of a snapshot until they are encoded.
    scraping: Mutex<()>,
    /// Metrics of the files that are reloaded when they change.
    pub reloads: Reloads,
    pub calls: Calls,
    pub upstreams: Upstreams,
    pub(crate) audit: Audit,
    pub(crate) server: Server,
    pub store: StoreMetrics,
}

/// Values that are read at each scrape.
#[derive(Default)]
pub struct Snapshot {
    /// Number of open connections to the database of `[store]`.
    pub store_connections: usize,
    pub audit: AuditState,
    pub targets: Vec<(TargetName, TargetState)>,
    /// Number of calls in progress, including those whose caller has disconnected.
    pub calls: u32,
    pub max_calls: u32,
    pub log_lines_dropped: u64,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut root = Registry::default();
        root.register_collector(Box::new(Process));
        let calls = Calls::new(&mut root);
        let registry = root.sub_registry_with_prefix("useradmin");
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "Version of the program", build);
        Self {
            scraping: Mutex::default(),
            calls,
            server: Server::new(registry),
            upstreams: Upstreams::new(registry.sub_registry_with_prefix("upstream")),
            audit: Audit::new(registry),
            reloads: Reloads::new(registry),
            store: StoreMetrics::new(registry),
            registry: root,
        }
    }
}

impl Metrics {
    /// Sets the maximum number of connections, and creates the counters of refused and failed ones.
    pub fn expect_connections(&self, max: u32, limits: &[&'static str]) {
        self.server.max_connections.set(max.into());
        for limit in limits {
            drop(self.server.refused.get_or_create(&[("limit", *limit)]));
        }
        for cause in HANDSHAKE_FAILURES {
            let failed = &self.server.handshakes_failed;
            drop(failed.get_or_create(&[("cause", cause)]));
        }
    }

    pub(crate) fn connection_refused(&self, limit: &'static str) {
        count(&self.server.refused, ("limit", limit));
    }

    /// Counts a connection that ended with this HTTP/2 error code.
    pub fn connection_aborted(&self, error: &'static str) {
        count(&self.server.aborted, ("error", error));
    }

    /// Counts a connection that was closed before HTTP/2 began, by cause.
    pub(crate) fn handshake_failed(&self, cause: &'static str) {
        count(&self.server.handshakes_failed, ("cause", cause));
    }

    /// Counts a call whose caller could not be authenticated, by cause.
    pub fn unidentified(&self, cause: &'static str) {
        count(&self.server.unidentified, ("cause", cause));
    }

    /// Sets the earliest expiry, in seconds since 1970, of the certificates in the file of a configuration key.
    pub fn certificate_expires(&self, key: &'static str, at: i64) {
        let gauges = &self.server.certificate_expires;
        gauges.get_or_create(&[("file", key)]).set(at);
    }

    /// Sets the values of the snapshot, and returns all metrics as `OpenMetrics` text.
    pub fn text(&self, now: &Snapshot) -> String {
        let _scraping = crate::lock(&self.scraping);
        self.audit.set(now.audit);
        self.upstreams.set(&now.targets);
        self.store.set_connections(now.store_connections);
        self.server.in_progress.set(now.calls.into());
        self.server.max_in_progress.set(now.max_calls.into());
        let dropped = self.server.log_lines_dropped.inner();
        dropped.store(now.log_lines_dropped, Ordering::Relaxed);
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

fn count(counters: &Family<Labels<1>, Counter>, label: (&'static str, &'static str)) {
    counters.get_or_create(&[label]).inc();
}
