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
    registry::{Registry, Unit},
};

use super::labels::Labels;

/// Bounds in seconds, up to the longest call.
const BUCKETS: [f64; 13] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
];

type Real = Gauge<f64, AtomicU64>;
type Histograms = Family<(Target, Labels<1>), Histogram, fn() -> Histogram>;
/// `operation` and `result`.
type Ended = (Labels<1>, [(&'static str, End); 1]);

/// A configured target.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Target {
    /// `azure_batch`, `ibm_hmc`, or `jwks` for the keys of an issuer.
    pub upstream: &'static str,
    /// Its alias, or the issuer.
    pub target: Arc<str>,
}

/// Result of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    /// A response with this status.
    Status(u16),
    /// The reason why there is no response.
    Failed(&'static str),
}

impl EncodeLabelValue for End {
    fn encode(&self, encoder: &mut LabelValueEncoder) -> fmt::Result {
        match self {
            Self::Status(status) => status.encode(encoder),
            Self::Failed(why) => why.encode(encoder),
        }
    }
}

/// Metrics of all targets.
pub struct Upstreams {
    requests: Family<(Target, Ended), Counter>,
    seconds: Histograms,
    renewals: Family<(Target, Labels<2>), Counter>,
    states: States,
}

#[derive(Default)]
struct States {
    in_flight: Family<Target, Gauge>,
    most_in_flight: Family<Target, Gauge>,
    queued: Family<Target, Gauge>,
    most_queued: Family<Target, Gauge>,
    breaker_open: Family<Target, Gauge>,
    openings: Family<Target, Counter>,
    retry_budget: Family<Target, Real>,
    credential_age: Family<(Target, Labels<1>), Real>,
    credential_left: Family<(Target, Labels<1>), Real>,
}

/// State of a target.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// Requests in flight.
    pub in_flight: u32,
    /// Maximum of `in_flight`.
    pub most_in_flight: u32,
    /// Requests that wait for a permit of the bulkhead.
    pub queued: u32,
    /// Maximum of `queued`.
    pub most_queued: u32,
    /// Whether the circuit breaker is open.
    pub breaker_open: bool,
    /// Number of times that the circuit breaker has opened.
    pub openings: u64,
    /// Remaining tokens of the retry budget.
    pub retry_budget: f64,
    /// The token or session in use.
    pub credential: Option<Credential>,
}

/// A token or a session.
#[derive(Clone, Copy, Debug)]
pub struct Credential {
    /// `token` or `session`.
    pub kind: &'static str,
    /// Time since it was obtained.
    pub age: Duration,
    /// Time until it expires, if that is known.
    pub left: Option<Duration>,
}

fn histogram() -> Histogram {
    Histogram::new(BUCKETS)
}

impl Default for Upstreams {
    fn default() -> Self {
        Self {
            requests: Family::default(),
            seconds: Family::new_with_constructor(histogram),
            renewals: Family::default(),
            states: States::default(),
        }
    }
}

impl Upstreams {
    pub(super) fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("upstream");
        registry.register(
            "requests",
            "Requests that have ended, by operation and result: an HTTP status, or why there is none",
            self.requests.clone(),
        );
        registry.register_with_unit(
            "request_duration",
            "How long requests took, by operation, from before the connection to the end of the answer",
            Unit::Seconds,
            self.seconds.clone(),
        );
        registry.register(
            "credential_renewals",
            "Tokens and sessions that were asked for, by result (ok, failed)",
            self.renewals.clone(),
        );
        self.states.register(registry);
    }

    /// Creates the counters of requests to this target.
    #[must_use]
    pub fn requests(&self, upstream: &'static str, target: &str) -> Requests {
        let target = target.into();
        Requests {
            target: Target { upstream, target },
            count: self.requests.clone(),
            seconds: self.seconds.clone(),
            renewals: self.renewals.clone(),
        }
    }

    pub(super) fn set(&self, states: &[(Target, State)]) {
        self.states.set(states);
    }
}

impl States {
    fn register(&self, registry: &mut Registry) {
        let mut gauge = |name, help, family: &Family<Target, Gauge>| {
            registry.register(name, help, family.clone());
        };
        gauge(
            "in_flight",
            "Requests that hold a place of the bulkhead",
            &self.in_flight,
        );
        gauge(
            "max_in_flight",
            "Places of the bulkhead (max_in_flight)",
            &self.most_in_flight,
        );
        gauge(
            "queued",
            "Requests that wait for a place of the bulkhead",
            &self.queued,
        );
        gauge(
            "max_queued",
            "How many may wait for a place of the bulkhead (max_queued)",
            &self.most_queued,
        );
        gauge(
            "breaker_open",
            "1 while the circuit breaker lets no call through but probes",
            &self.breaker_open,
        );
        registry.register(
            "breaker_openings",
            "How often the circuit breaker has opened",
            self.openings.clone(),
        );
        registry.register(
            "retry_budget",
            "Retries that the budget allows now, of 10",
            self.retry_budget.clone(),
        );
        registry.register_with_unit(
            "credential_age",
            "Age of the token or session in use",
            Unit::Seconds,
            self.credential_age.clone(),
        );
        registry.register_with_unit(
            "credential_expires_in",
            "How long the token in use will last",
            Unit::Seconds,
            self.credential_left.clone(),
        );
    }

    fn set(&self, states: &[(Target, State)]) {
        // A session that has ended has no age.
        self.credential_age.clear();
        self.credential_left.clear();
        for (target, state) in states {
            let gauge = |family: &Family<Target, Gauge>, value: u32| {
                family.get_or_create(target).set(value.into());
            };
            gauge(&self.in_flight, state.in_flight);
            gauge(&self.most_in_flight, state.most_in_flight);
            gauge(&self.queued, state.queued);
            gauge(&self.most_queued, state.most_queued);
            gauge(&self.breaker_open, state.breaker_open.into());
            let openings = self.openings.get_or_create(target);
            openings.inner().store(state.openings, Ordering::Relaxed);
            let budget = self.retry_budget.get_or_create(target);
            budget.set(state.retry_budget);
            let Some(credential) = state.credential else {
                continue;
            };
            let labels = (target.clone(), [("kind", credential.kind)]);
            let age = self.credential_age.get_or_create(&labels);
            age.set(credential.age.as_secs_f64());
            if let Some(left) = credential.left {
                let gauge = self.credential_left.get_or_create(&labels);
                gauge.set(left.as_secs_f64());
            }
        }
    }
}

/// Counts the requests to one target.
#[derive(Clone)]
pub struct Requests {
    target: Target,
    count: Family<(Target, Ended), Counter>,
    seconds: Histograms,
    renewals: Family<(Target, Labels<2>), Counter>,
}

impl Requests {
    /// Returns the target.
    #[must_use]
    pub const fn target(&self) -> &Target {
        &self.target
    }

    /// Counts a request that has ended.
    pub fn ended(&self, operation: &'static str, end: End, took: Duration) {
        let operation = [("operation", operation)];
        let labels = (self.target.clone(), (operation, [("result", end)]));
        self.count.get_or_create(&labels).inc();
        let labels = (self.target.clone(), operation);
        let seconds = self.seconds.get_or_create(&labels);
        seconds.observe(took.as_secs_f64());
    }

    /// Creates the counters of renewals, so that the first one shows as an increase.
    pub fn expect_renewals(&self, kind: &'static str) {
        for well in [true, false] {
            drop(self.renewals.get_or_create(&self.renewal(kind, well)));
        }
    }

    /// Counts a request for a token or session.
    pub fn renewed(&self, kind: &'static str, well: bool) {
        let labels = self.renewal(kind, well);
        self.renewals.get_or_create(&labels).inc();
    }

    fn renewal(&self, kind: &'static str, well: bool) -> (Target, Labels<2>) {
        let result = if well { "ok" } else { "failed" };
        (self.target.clone(), [("kind", kind), ("result", result)])
    }
}
