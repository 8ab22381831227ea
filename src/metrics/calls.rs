//! Calls of the rpcs, under the names and labels that gRPC servers have in common (`go-grpc-middleware`'s), so that
//! ready-made dashboards and alerts know them; and the outcomes for users.

use std::time::Duration;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::Registry,
};
use tonic::Code;

use super::registry::RegistryExt as _;
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
    started: Family<StartedLabels, Counter>,
    handled: Family<HandledLabels, Counter>,
    durations: Family<HandledLabels, Histogram, fn() -> Histogram>,
    outcomes: Family<OutcomeLabels, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StartedLabels {
    grpc_method: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HandledLabels {
    grpc_method: &'static str,
    grpc_code: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    upstream: &'static str,
    target: String,
    outcome: &'static str,
}

impl Calls {
    pub(super) fn new(root: &mut Registry) -> Self {
        let outcomes = root.sub_registry_with_prefix("useradmin").metric(
            "call_outcomes",
            "Results of calls for their users, by target; the target is empty when it is not configured",
        );
        let labels = [("grpc_type", "unary"), ("grpc_service", SERVICE_NAME)];
        let labels = labels.map(|(name, value)| (name.into(), value.into()));
        let grpc = root
            .sub_registry_with_prefix("grpc_server")
            .sub_registry_with_labels(labels.into_iter());
        let calls = Self {
            started: grpc.metric("started", "Calls that have arrived"),
            handled: grpc.metric(
                "handled",
                "Calls that have ended, by gRPC code and by the reason in ErrorInfo; it is empty for a success, for a \
                 caller that disconnected, and for calls that the transport refused",
            ),
            durations: grpc.seconds(
                "handling",
                "How long calls took, from their arrival to their response",
                Family::new_with_constructor(|| Histogram::new(BUCKETS)),
            ),
            outcomes,
        };
        // The counters exist from the start, so that the first call shows as an increase.
        for grpc_method in rpcs() {
            drop(calls.started.get_or_create(&StartedLabels { grpc_method }));
            let succeeded = HandledLabels {
                grpc_method,
                grpc_code: grpc_code::metric_name(Code::Ok),
                reason: "",
            };
            drop(calls.handled.get_or_create(&succeeded));
        }
        calls
    }

    /// Counts a call that has arrived.
    pub(crate) fn begun(&self, grpc_method: &'static str) {
        self.started
            .get_or_create(&StartedLabels { grpc_method })
            .inc();
    }

    /// Counts a call that has ended.
    pub fn ended(&self, rpc: &'static str, code: Code, reason: &'static str, took: Duration) {
        let labels = HandledLabels {
            grpc_method: rpc,
            grpc_code: grpc_code::metric_name(code),
            reason,
        };
        self.handled.get_or_create(&labels).inc();
        let duration = self.durations.get_or_create(&labels);
        duration.observe(took.as_secs_f64());
    }

    /// Creates the counters of a configured target.
    pub fn expect(&self, upstream: &'static str, target: &str) {
        for outcome in OUTCOMES {
            drop(self.outcomes.get_or_create(&OutcomeLabels {
                upstream,
                target: target.to_owned(),
                outcome,
            }));
        }
    }

    /// Counts the outcome of a call for its user.
    pub(crate) fn outcome(&self, upstream: &'static str, target: &str, outcome: &'static str) {
        let labels = OutcomeLabels {
            upstream,
            target: target.to_owned(),
            outcome,
        };
        self.outcomes.get_or_create(&labels).inc();
    }
}
