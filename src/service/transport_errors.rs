//! The errors that tonic returns for requests that it cannot read. These errors have no details, so they are replaced
//! by the status that other invalid requests receive.

use std::sync::Arc;

use http::{HeaderMap, HeaderName};
use tonic::{Code, Status};

use super::{
    call_context::CallContext,
    refusal::{self, ACCEPT_ENCODING, ENCODING},
};
use crate::{
    error::{Failure, Violation, status::CallFacts},
    proto::request_fields,
};

const STATUS_DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");

/// Start of tonic's messages about a wrong compressed-flag, and about a message that cannot be decompressed.
const WRONG_FLAG: &str = "protocol error:";
const NOT_DECOMPRESSED: &str = "Error decompressing:";

/// Returns the failure that replaces an error of the transport, or `None` if the response stays as it is.
pub(crate) fn failure(headers: &HeaderMap) -> Option<Failure> {
    if headers.contains_key(STATUS_DETAILS) {
        return None;
    }
    violation(&Status::from_header_map(headers)?).map(refusal::invalid)
}

/// Returns the status that ends a stream of requests if one of them cannot be read.
pub(crate) fn stream_error(call: &CallContext, error: Status) -> Status {
    let Some(violation) = violation(&error) else {
        return error;
    };
    let facts = CallFacts::of_request(Arc::clone(&call.request_id));
    refusal::status_of(&refusal::invalid(violation), &facts)
}

/// Returns the violation of a request that the transport refused, or `None` if it was refused for another reason.
fn violation(refused: &Status) -> Option<Violation> {
    let text = refused.message();
    let (field, description) = match refused.code() {
        Code::Internal if text.starts_with(WRONG_FLAG) => (
            "",
            "the compressed-flag of the message is neither 0 nor 1, or is 1 without grpc-encoding",
        ),
        Code::Internal if text.starts_with(NOT_DECOMPRESSED) => (
            "",
            "the message cannot be decompressed as grpc-encoding says",
        ),
        Code::Internal => (
            field(text),
            "cannot be read as Protocol Buffers, or is not UTF-8",
        ),
        // The limits of the message before and after decompression.
        Code::OutOfRange | Code::ResourceExhausted => {
            ("", "the request message is larger than this server accepts")
        }
        Code::Unimplemented if refused.metadata().contains_key(ACCEPT_ENCODING) => {
            (ENCODING, "must be identity or gzip")
        }
        _ => return None,
    };
    Some(Violation { field, description })
}

/// Returns the field that the decoder names in an error of the form `Message.field: cause`, or an empty string.
fn field(message: &str) -> &'static str {
    let named = |field: &&str| message.contains(&format!("Request.{field}:"));
    request_fields().find(named).unwrap_or_default()
}
