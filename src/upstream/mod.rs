//! What both upstreams share: HTTP, deadline, retries, bulkhead, single flight, "was it sent?".
//! Knows no caller and no `tonic::Status`. One folder per upstream; no upstream imports another.

pub mod aside;
pub mod attempt;
pub mod azure_batch;
pub mod breaker;
pub mod bulkhead;
pub mod client;
pub mod deadline;
pub mod guards;
pub mod hidden;
pub mod http;
pub mod ibm_hmc;
pub mod observed;
pub mod path;
pub mod renewable;
pub mod resolver;
pub mod trusted;

use self::{attempt::Ledger, http::Answer};
use crate::{
    error::{Answered, Failure},
    proto::{DeleteOutcome, ErrorReason},
};

/// How a call to an upstream ended: the result, and the book of its DELETEs.
pub struct Concluded<T> {
    /// What the call yields.
    pub result: Result<T, Failure>,
    /// DELETEs begun and what became of them.
    pub ledger: Ledger,
}

/// Did the upstream look at the request beyond who sent it?
#[must_use]
pub fn let_in(failure: &Failure) -> bool {
    let looked = |answered: &Answered| {
        let status = answered.http_status;
        answered.error.is_some() && status < 500 && status != 429
    };
    failure.reason != ErrorReason::UpstreamCredentialsRejected
        && failure.answered.as_deref().is_some_and(looked)
}

/// Returns the clock skew of an answer that refuses credentials, which a wrong clock may be the cause of.
#[must_use]
pub fn refusal_skew(answer: &Answer, reason: ErrorReason) -> Option<i64> {
    let refused = reason == ErrorReason::UpstreamCredentialsRejected;
    (refused || matches!(answer.status, 401 | 403))
        .then(|| answer.clock_skew())
        .flatten()
}

/// A 404 that speaks of the user: the only failure that can be a success.
///
/// After an attempt whose outcome is unknown it is most likely our own deletion; otherwise
/// it is a success only for callers who allow the user to be missing.
#[must_use]
pub fn absence(ledger: &Ledger, allow_missing: bool) -> Option<DeleteOutcome> {
    if ledger.ambiguous() {
        Some(DeleteOutcome::AbsentAfterRetry)
    } else {
        allow_missing.then_some(DeleteOutcome::AlreadyAbsent)
    }
}
