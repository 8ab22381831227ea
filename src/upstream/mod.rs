//! What both upstreams share: HTTP, deadline, retries, bulkhead, single flight, "was it sent?".
//! Knows no caller and no `tonic::Status`. One folder per upstream; no upstream imports another.

pub mod attempt;
pub mod azure_batch;
pub mod breaker;
pub mod bulkhead;
pub mod classify;
pub mod client;
pub mod deadline;
pub mod guards;
pub mod http;
pub mod ibm_hmc;
pub mod observed;
pub mod path;
pub mod platform;
pub mod redact;
pub mod registry;
pub mod renewable;
pub mod resolver;
pub mod target;

use crate::{
    error::{Answered, Failure},
    proto::ErrorReason,
};

/// Returns whether the upstream accepted the credential and evaluated the request.
#[must_use]
pub fn reached_authorization(failure: &Failure) -> bool {
    let looked = |answered: &Answered| {
        let status = answered.http_status;
        answered.document.is_some() && status < 500 && status != 429
    };
    failure.reason != ErrorReason::UpstreamCredentialsRejected
        && failure.answered.as_deref().is_some_and(looked)
}
