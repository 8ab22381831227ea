//! The content of Azure Batch responses that callers may see.

use super::{names::NodeUser, wire};
use crate::{
    error::{Failure, Violation, document::Shrink},
    proto::BatchError,
    upstream::{
        classify::{self, ErrorFacts},
        redact::Secrets,
        response::Response,
    },
};

impl Shrink for BatchError {
    fn shrink(&mut self) -> bool {
        self.values.pop().is_some() || self.message.take().is_some()
    }
}

/// Returns the content of a response whose status is not that of success. It contains none of the `secrets`.
pub fn error_facts(response: &Response, user: &NodeUser, secrets: &Secrets) -> ErrorFacts {
    let document = response.json();
    let error = wire::error(response, &document, secrets);
    let headers = wire::invalid_header_names(&document, user.id_is_from_caller);
    let id_is_invalid = headers
        .iter()
        .any(|name| name.eq_ignore_ascii_case(wire::CLIENT_REQUEST_ID.as_str()));
    let violation = id_is_invalid.then_some(Violation {
        field: "client_request_id",
        description: "the upstream does not accept this value",
    });
    let error = error.map(|error| BatchError {
        client_request_id: user.client_request_id.clone(),
        ..error
    });
    ErrorFacts {
        request_id: wire::request_id(response, secrets),
        headers: headers.into_iter().map(str::to_owned).collect(),
        query_parameters: wire::invalid_query_parameters(&document)
            .map(str::to_owned)
            .collect(),
        violations: violation.into_iter().collect(),
        ..ErrorFacts::of_document(error, |error| error.code.clone())
    }
}

/// Returns the failure for a response with status 200 that is not Azure Batch's response to the request.
pub fn unexpected_success(response: &Response, why: &str, secrets: &Secrets) -> Failure {
    let context = format!("a 200 that is not Azure Batch's answer to this request: {why}");
    classify::not_understood(response, wire::request_id(response, secrets), context)
}
