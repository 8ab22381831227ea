//! Retry budget, circuit breaker and bulkhead of one target.

use super::{breaker::Breaker, bulkhead::Bulkhead, retry_budget::RetryBudget};
use crate::{
    config::BulkheadLimits,
    metrics::{CredentialState, TargetName, TargetState},
};

/// Protects a target, and this server, from too many requests.
pub struct Resilience {
    /// Limits retries.
    pub budget: RetryBudget,
    /// Refuses calls while the target is down.
    pub breaker: Breaker,
    /// Limits concurrent requests.
    pub bulkhead: Bulkhead,
}

impl Resilience {
    /// Creates a full retry budget, a closed breaker and an empty bulkhead for this target.
    pub fn new(target: TargetName, limits: BulkheadLimits) -> Self {
        Self {
            budget: RetryBudget::new(),
            breaker: Breaker::new(target),
            bulkhead: Bulkhead::new(limits),
        }
    }

    /// Returns the state of the target for the metrics. `credential` is the state of the credential in use.
    pub fn state(&self, credential: Option<CredentialState>) -> TargetState {
        let Self {
            budget,
            breaker,
            bulkhead,
        } = self;
        let limits = bulkhead.limits();
        TargetState {
            in_flight: bulkhead.in_flight(),
            max_in_flight: limits.in_flight,
            queued: bulkhead.queued(),
            max_queued: limits.queued,
            breaker_open: breaker.is_open(),
            openings: breaker.openings(),
            retry_budget: budget.tokens(),
            credential,
        }
    }
}
