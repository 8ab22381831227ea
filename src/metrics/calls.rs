//! Metrics of the calls, and of the outcomes for users. The metrics of calls have the usual names and labels of gRPC
//! servers (those of `go-grpc-middleware`), so that ready-made dashboards and alerts work with them.

use std::{sync::Arc, time::Duration};

use prometheus_client::{
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::Registry,
};
use tonic::Code;

use super::{
    registry::{Handles, Labels, metrics, register},
    upstreams::Target,
};
use crate::{
    grpc_code,
    proto::{rpcs, user_admin_server::SERVICE_NAME},
};

/// Histogram bounds in seconds, from an immediate refusal to the longest call.
const BUCKETS: [f64; 14] = [
    0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
];
/// Outcomes, with the same names as in the log.
const OUTCOMES: [&str; 7] = [
    "deleted",
    "already_absent",
    "absent_after_retry",
    "validated",
    "not_sent",
    "not_deleted",
    "unknown",
];

metrics! {
    struct Grpc {
        started: Family<Labels<1>, Counter> = "started",
            "Calls that have arrived";
        handled: Family<Labels<3>, Counter> = "handled",
            "Calls that have ended, by gRPC code and by the reason in ErrorInfo; it is empty for a success, for a \
             caller that disconnected, and for calls that the transport refused";
        durations: Family<Labels<3>, Histogram, fn() -> Histogram> = "handling" in Seconds
            as Family::new_with_constructor(|| Histogram::new(BUCKETS)),
            "Duration of calls, from their arrival to their response";
    }
}

pub struct Calls {
    grpc: Grpc,
    started: Handles<&'static str, Counter>,
    handled: Handles<Labels<3>, (Counter, Histogram)>,
    outcomes: Family<(Target, Labels<1>), Counter>,
}

impl Calls {
    pub(super) fn new(root: &mut Registry) -> Self {
        let outcomes = register(
            root.sub_registry_with_prefix("useradmin"),
            "call_outcomes",
            "Outcomes of calls, by target; the target is empty if it is not configured",
            None,
            Family::default(),
        );
        let labels = [("grpc_type", "unary"), ("grpc_service", SERVICE_NAME)];
        let labels = labels.map(|(name, value)| (name.into(), value.into()));
        let registry = root
            .sub_registry_with_prefix("grpc_server")
            .sub_registry_with_labels(labels.into_iter());
        let grpc = Grpc::new(registry);
        // The counters exist from the start, so that the first call shows as an increase.
        for rpc in rpcs() {
            drop(grpc.started.get_or_create(&[("grpc_method", rpc)]));
            drop(grpc.handled.get_or_create(&handled(rpc, Code::Ok, "")));
        }
        Self {
            grpc,
            started: Handles::default(),
            handled: Handles::default(),
            outcomes,
        }
    }

    pub(crate) fn record_start(&self, rpc: &'static str) {
        let started = &self.grpc.started;
        let started = self.started.get(rpc, || {
            started.get_or_create(&[("grpc_method", rpc)]).clone()
        });
        started.inc();
    }

    pub fn record_end(
        &self,
        rpc: &'static str,
        code: Code,
        reason: &'static str,
        elapsed: Duration,
    ) {
        let labels = handled(rpc, code, reason);
        let Grpc {
            handled, durations, ..
        } = &self.grpc;
        let (handled, duration) = self.handled.get(labels, || {
            let duration = durations.get_or_create(&labels).clone();
            (handled.get_or_create(&labels).clone(), duration)
        });
        handled.inc();
        duration.observe(elapsed.as_secs_f64());
    }

    /// Counts the outcome of a call whose target is not configured.
    pub(crate) fn outcome_without_target(&self, upstream: &'static str, outcome: &'static str) {
        let labels = outcome_of(upstream, "", outcome);
        self.outcomes.get_or_create(&labels).inc();
    }

    /// Returns the counters of a configured target. Creates them with the value 0, so that the first outcome shows as
    /// an increase.
    pub fn outcomes(&self, upstream: &'static str, target: &str) -> Outcomes {
        let counters = OUTCOMES.iter().map(|outcome| {
            let labels = outcome_of(upstream, target, outcome);
            (*outcome, self.outcomes.get_or_create(&labels).clone())
        });
        Outcomes(counters.collect())
    }
}

/// The counters of the outcomes that calls had for the users of one target.
#[derive(Clone)]
pub struct Outcomes(Arc<[(&'static str, Counter)]>);

impl Outcomes {
    pub(crate) fn count(&self, outcome: &'static str) {
        let counter = self.0.iter().find(|(name, _)| *name == outcome);
        debug_assert!(counter.is_some(), "{outcome} is missing in OUTCOMES");
        if let Some((_, counter)) = counter {
            counter.inc();
        }
    }
}

fn handled(rpc: &'static str, code: Code, reason: &'static str) -> Labels<3> {
    let code = grpc_code::metric_name(code);
    [
        ("grpc_method", rpc),
        ("grpc_code", code),
        ("reason", reason),
    ]
}

fn outcome_of(upstream: &'static str, target: &str, outcome: &'static str) -> (Target, Labels<1>) {
    let target = target.into();
    (Target { upstream, target }, [("outcome", outcome)])
}
