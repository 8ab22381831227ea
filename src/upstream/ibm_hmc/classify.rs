//! Maps a response of the HMC to a failure, by a table of rules.

use std::sync::Arc;

use super::{names::NAMES, wire};
use crate::{
    error::{Answered, Failure, document::Shrink, rule::Rule},
    proto::{ErrorReason, HmcError},
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

/// Returns the failure for a response without the status of success. It contains none of the `secrets`.
pub fn failure(table: &[Rule], response: &Response, secrets: &Secrets) -> Failure {
    let error = wire::error(response, secrets);
    let facts = ErrorFacts {
        code: error.as_ref().map(|error| error.reason.to_string()),
        document: error.map(|error| Arc::new(error) as _),
        ..ErrorFacts::default()
    };
    classify::failure(&NAMES, table, response, facts)
}

/// Returns the failure for a 200 that does not describe a user.
pub fn not_understood(response: &Response) -> Failure {
    Failure {
        answered: Some(Box::new(Answered {
            http_status: response.status,
            ..Answered::default()
        })),
        ..Failure::new(
            ErrorReason::UpstreamProtocolError,
            "the HMC's description of the user was not understood",
        )
    }
}
