//! Calls of the rpcs, under the names and labels that gRPC servers have in common (`go-grpc-middleware`'s), so that
//! ready-made dashboards and alerts know them; and the outcomes for users.

use std::time::Duration;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::{Registry, Unit},
};
use tonic::Code;

use super::labels::Labels;
use crate::{
    grpc_code,
    proto::{rpcs, user_admin_server::SERVICE_NAME},
};

/// Bounds in seconds, from an immediate refusal to the longest call.
const BUCKETS: [f64; 14] = [
    0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
];
/// Outcomes, as in the log.
const OUTCOMES: [&str; 7] = [
    "deleted",
    "already_absent",
    "absent_after_retry",
    "validated",
    "not_sent",
    "not_deleted",
    "unknown",
];

/// Metrics of all calls.
pub struct Calls {
    started: Family<Labels<3>, Counter>,
    handled: Family<Labels<5>, Counter>,
    seconds: Family<Labels<5>, Histogram, fn() -> Histogram>,
    outcomes: Family<OutcomeLabels, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    upstream: &'static str,
    target: String,
    outcome: &'static str,
}

fn histogram() -> Histogram {
    Histogram::new(BUCKETS)
}

impl Default for Calls {
    fn default() -> Self {
        Self {
            started: Family::default(),
            handled: Family::default(),
            seconds: Family::new_with_constructor(histogram),
            outcomes: Family::default(),
        }
    }
}

const fn of(rpc: &'static str) -> Labels<3> {
    [
        ("grpc_type", "unary"),
        ("grpc_service", SERVICE_NAME),
        ("grpc_method", rpc),
    ]
}

const fn with(rpc: &'static str, code: Code, reason: &'static str) -> Labels<5> {
    let [kind, service, method] = of(rpc);
    let code = ("grpc_code", grpc_code::metric_name(code));
    [kind, service, method, code, ("reason", reason)]
}

impl Calls {
    pub(super) fn register(&self, root: &mut Registry) {
        // The counters exist from the start, so that the first call shows as an increase.
        for rpc in rpcs() {
            drop(self.started.get_or_create(&of(rpc)));
            drop(self.handled.get_or_create(&with(rpc, Code::Ok, "")));
        }
        let grpc = root.sub_registry_with_prefix("grpc_server");
        grpc.register("started", "Calls that have arrived", self.started.clone());
        grpc.register(
            "handled",
            "Calls that have ended, by gRPC code and by the reason in ErrorInfo; it is empty for a success, for a caller who \
             has gone, and for what the transport refused",
            self.handled.clone(),
        );
        grpc.register_with_unit(
            "handling",
            "How long calls took, from their arrival to their answer",
            Unit::Seconds,
            self.seconds.clone(),
        );
    }

    pub(super) fn register_outcomes(&self, registry: &mut Registry) {
        registry.register(
            "call_outcomes",
            "What became of the users that calls named, by target; the target is empty when it is not configured",
            self.outcomes.clone(),
        );
    }

    /// Counts a call that has arrived.
    pub fn begun(&self, rpc: &'static str) {
        self.started.get_or_create(&of(rpc)).inc();
    }

    /// Counts a call that has ended.
    pub fn ended(&self, rpc: &'static str, code: Code, reason: &'static str, took: Duration) {
        let labels = with(rpc, code, reason);
        self.handled.get_or_create(&labels).inc();
        let seconds = self.seconds.get_or_create(&labels);
        seconds.observe(took.as_secs_f64());
    }

    /// Creates the counters of a configured target.
    pub fn expect(&self, upstream: &'static str, target: &str) {
        for outcome in OUTCOMES {
            let labels = OutcomeLabels {
                upstream,
                target: target.to_owned(),
                outcome,
            };
            drop(self.outcomes.get_or_create(&labels));
        }
    }

    /// Counts the outcome of a call for its user.
    pub fn outcome(&self, upstream: &'static str, target: &str, outcome: &'static str) {
        let labels = OutcomeLabels {
            upstream,
            target: target.to_owned(),
            outcome,
        };
        self.outcomes.get_or_create(&labels).inc();
    }
}
