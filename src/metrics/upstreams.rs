//! Metrics of requests to upstreams, and of the state of each target at a scrape.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
};

use super::registry::{Handles, Labels, metrics};

/// Histogram bounds in seconds, up to the longest call.
const BUCKETS: [f64; 13] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
];

type FloatGauge = Gauge<f64, AtomicU64>;
/// The labels `operation` and `result`.
type RequestLabels = (Labels<1>, [(&'static str, RequestResult); 1]);
/// The metrics of requests to one target, by operation and result.
type RequestHandles = Handles<(&'static str, RequestResult), (Counter, Histogram)>;

/// A configured target, or an issuer of tokens, as labels.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Target {
    /// `azure_batch`, `ibm_hmc`, or `jwks` for requests for the keys of an issuer.
    pub upstream: &'static str,
    /// Alias of the target, or the issuer.
    pub target: Arc<str>,
}

/// Result of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RequestResult {
    Status(u16),
    /// The reason why there is no response.
    Failed(&'static str),
}

impl EncodeLabelValue for RequestResult {
    fn encode(&self, encoder: &mut LabelValueEncoder) -> fmt::Result {
        match self {
            Self::Status(status) => status.encode(encoder),
            Self::Failed(why) => why.encode(encoder),
        }
    }
}

metrics! {
    #[derive(Clone)]
    pub struct Upstreams {
        requests: Family<(Target, RequestLabels), Counter> = "requests",
            "Requests that have ended, by operation and result: the HTTP status, or the cause of its absence";
        durations: Family<(Target, Labels<1>), Histogram, fn() -> Histogram> = "request_duration" in Seconds
            as Family::new_with_constructor(|| Histogram::new(BUCKETS)),
            "Duration of requests by operation, including the connection";
        renewals: Family<(Target, Labels<2>), Counter> = "credential_renewals",
            "Tokens and sessions that were requested, by result (ok, failed)";
        in_flight: Family<Target, Gauge> = "in_flight",
            "Requests that hold a permit of the bulkhead";
        max_in_flight: Family<Target, Gauge> = "max_in_flight",
            "Permits of the bulkhead (max_in_flight)";
        queued: Family<Target, Gauge> = "queued",
            "Requests that wait for a permit of the bulkhead";
        max_queued: Family<Target, Gauge> = "max_queued",
            "Maximum number of requests that wait for a permit of the bulkhead (max_queued)";
        breaker_open: Family<Target, Gauge> = "breaker_open",
            "1 while the circuit breaker admits probes only";
        openings: Family<Target, Counter> = "breaker_openings",
            "Openings of the circuit breaker";
        retry_budget: Family<Target, FloatGauge> = "retry_budget",
            "Remaining retries of the budget, at most 10; below 1, requests are not retried";
        api_version: Family<(Target, Labels<1>), Gauge> = "api_version_info",
            "API version that the server sends to the upstream, as the label api_version; the value is always 1";
        credential_age: Family<(Target, Labels<1>), FloatGauge> = "credential_age" in Seconds,
            "Age of the token or session in use";
        credential_expires_in: Family<(Target, Labels<1>), FloatGauge> = "credential_expires_in" in Seconds,
            "Time until the token in use expires";
    }
}

#[derive(Clone, Debug, Default)]
pub struct State {
    pub in_flight: u32,
    pub max_in_flight: u32,
    pub queued: u32,
    pub max_queued: u32,
    pub breaker_open: bool,
    pub openings: u64,
    pub retry_budget: f64,
    /// Version of the upstream's API that requests name, if they name one.
    pub api_version: Option<&'static str>,
    /// The token or session in use, if there is one.
    pub credential: Option<Credential>,
}

/// Age and lifetime of a token or session.
#[derive(Clone, Copy, Debug)]
pub struct Credential {
    /// `token` or `session`.
    pub kind: &'static str,
    /// Time since the credential was obtained.
    pub age: Duration,
    /// Time until the credential expires, if that is known.
    pub expires_in: Option<Duration>,
}

impl Upstreams {
    /// Returns a handle that counts the requests to this target.
    pub fn requests(&self, upstream: &'static str, target: &str) -> RequestMetrics {
        let target = target.into();
        RequestMetrics {
            target: Target { upstream, target },
            metrics: self.clone(),
            handles: Arc::default(),
        }
    }

    pub(super) fn set(&self, states: &[(Target, State)]) {
        // The gauges are created again below, so that those of a session that has ended disappear.
        self.credential_age.clear();
        self.credential_expires_in.clear();
        for (target, state) in states {
            for (gauge, value) in [
                (&self.in_flight, state.in_flight),
                (&self.max_in_flight, state.max_in_flight),
                (&self.queued, state.queued),
                (&self.max_queued, state.max_queued),
                (&self.breaker_open, state.breaker_open.into()),
            ] {
                gauge.get_or_create(target).set(value.into());
            }
            let openings = self.openings.get_or_create(target);
            openings.inner().store(state.openings, Ordering::Relaxed);
            let budget = self.retry_budget.get_or_create(target);
            budget.set(state.retry_budget);
            if let Some(version) = state.api_version {
                let labels = (target.clone(), [("api_version", version)]);
                self.api_version.get_or_create(&labels).set(1);
            }
            let Some(credential) = state.credential else {
                continue;
            };
            let labels = (target.clone(), [("kind", credential.kind)]);
            let age = self.credential_age.get_or_create(&labels);
            age.set(credential.age.as_secs_f64());
            if let Some(expires_in) = credential.expires_in {
                let gauge = self.credential_expires_in.get_or_create(&labels);
                gauge.set(expires_in.as_secs_f64());
            }
        }
    }
}

#[derive(Clone)]
pub struct RequestMetrics {
    target: Target,
    metrics: Upstreams,
    handles: Arc<RequestHandles>,
}

impl RequestMetrics {
    pub(crate) const fn target(&self) -> &Target {
        &self.target
    }

    pub fn record_request(
        &self,
        operation: &'static str,
        result: RequestResult,
        elapsed: Duration,
    ) {
        let (requests, duration) = self.handles.get((operation, result), || {
            let operation = [("operation", operation)];
            let labels = (self.target.clone(), (operation, [("result", result)]));
            let requests = self.metrics.requests.get_or_create(&labels).clone();
            let labels = (self.target.clone(), operation);
            (
                requests,
                self.metrics.durations.get_or_create(&labels).clone(),
            )
        });
        requests.inc();
        duration.observe(elapsed.as_secs_f64());
    }

    /// Creates the counters of renewals with the value 0, so that the first renewal shows as an increase.
    pub(crate) fn init_renewal_counters(&self, kind: &'static str) {
        for succeeded in [true, false] {
            let labels = self.renewal(kind, succeeded);
            drop(self.metrics.renewals.get_or_create(&labels));
        }
    }

    /// Counts a request for a new token or session.
    pub fn record_renewal(&self, kind: &'static str, succeeded: bool) {
        let labels = self.renewal(kind, succeeded);
        self.metrics.renewals.get_or_create(&labels).inc();
    }

    fn renewal(&self, kind: &'static str, succeeded: bool) -> (Target, Labels<2>) {
        let result = if succeeded { "ok" } else { "failed" };
        (self.target.clone(), [("kind", kind), ("result", result)])
    }
}
