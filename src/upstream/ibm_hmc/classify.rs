//! The content of HMC responses that callers may see.

use super::wire;
use crate::{
    error::{Failure, document::Shrink},
    proto::HmcError,
    upstream::{
        classify::{self, ErrorFacts},
        redact::Secrets,
        response::Response,
    },
};

impl Shrink for HmcError {
    fn shrink(&mut self) -> bool {
        !std::mem::take(&mut self.message).is_empty()
    }
}

/// Returns the content of a response whose status is not that of success. It contains none of the `secrets`.
pub fn error_facts(response: &Response, secrets: &Secrets) -> ErrorFacts {
    ErrorFacts::of_document(wire::error(response, secrets), |error| {
        error.reason.to_string()
    })
}

/// Returns the failure for a response with status 200 that does not describe a user as documented.
pub fn not_understood(response: &Response) -> Failure {
    let context = "the HMC's description of the user was not understood";
    classify::not_understood(response, None, context)
}
