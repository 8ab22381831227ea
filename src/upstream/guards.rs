//! What keeps one target, and us, from too many calls: retry budget, circuit breaker, bulkhead; and their state.

use url::Url;

use super::{attempt::Budget, breaker::Breaker, bulkhead::Bulkhead};
use crate::{
    config::BulkheadLimits,
    metrics::{CredentialState, TargetState},
};

/// The guards of a target.
pub struct Guards {
    /// How many retries there may be.
    pub budget: Budget,
    /// Is it to be left alone?
    pub breaker: Breaker,
    /// How many requests at a time.
    pub bulkhead: Bulkhead,
}

impl Guards {
    /// For this target.
    #[must_use]
    pub fn new(url: &Url, limits: BulkheadLimits) -> Self {
        Self {
            budget: Budget::new(),
            breaker: Breaker::new(url),
            bulkhead: Bulkhead::new(limits),
        }
    }

    /// As they are now, with the credential in use.
    #[must_use]
    pub fn state(&self, credential: Option<CredentialState>) -> TargetState {
        let Self {
            budget,
            breaker,
            bulkhead,
        } = self;
        let limits = bulkhead.limits();
        TargetState {
            in_flight: bulkhead.in_flight(),
            most_in_flight: limits.in_flight,
            queued: bulkhead.queued(),
            most_queued: limits.queued,
            breaker_open: breaker.is_open(),
            openings: breaker.openings(),
            retry_budget: budget.left(),
            credential,
        }
    }
}
