//! Refuses calls that never reach a handler, because their message cannot be read, is too large, or does not arrive.
//! The errors of the transport have no details; they are replaced by the status of every other invalid request.

use http::HeaderMap;
use tonic::{Code, Status, metadata::MetadataValue};

use super::{
    Shared,
    call_context::CallContext,
    call_log::{entry, record},
};
use crate::{
    access::refusals::Kind,
    audit::Event,
    error::{
        Failure, Violation,
        resource::ResourceNames,
        status::{CallFacts, MAX_TEXT_BYTES, cut, status},
    },
    proto::{ErrorReason, request_fields},
    upstream::deadline::Deadline,
};

/// Text of a body error: a unary call has more than one message.
pub const SECOND_MESSAGE: &str = "more than one request message";
/// Text of a body error: bytes follow the first gzip member of a compressed message.
pub const SECOND_MEMBER: &str = "more than one gzip member";
/// Start of tonic's messages about a wrong compressed-flag, and about a message that cannot be decompressed.
const WRONG_FLAG: &str = "protocol error:";
const NOT_DECOMPRESSED: &str = "Error decompressing:";
/// Lists the encodings that the server accepts (gRPC, "Compression").
const ACCEPT_ENCODING: &str = "grpc-accept-encoding";
/// Names the encoding of the messages.
pub const ENCODING: &str = "grpc-encoding";
const ENCODINGS: &str = "identity,gzip";

/// Returns the status that replaces an error of the transport, or `None` if the response stays as it is.
#[must_use]
pub async fn answer(
    shared: &Shared,
    path: &str,
    call: &CallContext,
    headers: &HeaderMap,
) -> Option<Status> {
    if headers.contains_key("grpc-status-details-bin") {
        return None;
    }
    if call.cut.is_cancelled() && !call.read.is_cancelled() {
        if let Some(instrument) = &call.instrument {
            instrument.end_as_cancelled();
        }
        return None;
    }
    let violation = violation(&Status::from_header_map(headers)?)?;
    Some(invalid(shared, path, call, violation).await)
}

/// Returns the violation of a request that the transport refused.
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
        Code::Unknown if text == SECOND_MEMBER => {
            ("", "the compressed message must be one gzip member")
        }
        Code::Unknown if text == SECOND_MESSAGE => ("", "the call must have one request message"),
        _ => return None,
    };
    Some(Violation { field, description })
}

/// Refuses a call for this violation.
pub async fn invalid(
    shared: &Shared,
    path: &str,
    call: &CallContext,
    violation: Violation,
) -> Status {
    let context = violation.description;
    let failure = Failure::invalid(vec![violation]);
    refuse(shared, path, call, failure, context).await
}

/// Returns the details of a stream of requests that ends because one of them cannot be read.
#[must_use]
pub fn stream_error(call: &CallContext, error: Status) -> Status {
    let Some(violation) = violation(&error) else {
        return error;
    };
    let facts = CallFacts::of_request(call.request_id.clone());
    refusal(&Failure::invalid(vec![violation]), &facts)
}

/// Returns the status of a failure. If it is about compression, the status lists the accepted encodings.
fn refusal(failure: &Failure, facts: &CallFacts) -> Status {
    let mut status = status(failure, facts);
    let about = |violation: &Violation| violation.field == ENCODING;
    if failure.violations.iter().any(about) {
        let encodings = MetadataValue::from_static(ENCODINGS);
        status.metadata_mut().insert(ACCEPT_ENCODING, encodings);
    }
    status
}

/// Refuses a call whose message has not arrived in time.
pub async fn message_timed_out(shared: &Shared, path: &str, call: &CallContext) -> Status {
    let failure = Deadline::exceeded("waiting for the request message");
    let context = "the request message did not come";
    refuse(shared, path, call, failure, context).await
}

/// Refuses a call that the server has no capacity for. Its caller is not authenticated.
pub fn overloaded(shared: &Shared, path: &str, call: &CallContext) -> Status {
    let failure = Failure::new(ErrorReason::Overloaded, "too many calls");
    let Some((rpc, names)) = call.rpc else {
        return refuse_without_pipeline(shared, path, call, &failure, "too many calls");
    };
    let status = status(&failure, &facts(names, call));
    if shared.report_refusal(call, failure.reason).is_some() {
        log_refusal(call, rpc, &failure, status.code(), "too many calls");
    }
    call.ended(status, failure.reason)
}

fn facts(names: &'static ResourceNames, call: &CallContext) -> CallFacts {
    CallFacts {
        names: Some(names),
        request_id: call.request_id.clone(),
        caller: call.caller_name(),
        ..CallFacts::default()
    }
}

/// Refuses a call before it reaches its handler. An rpc without an identity is refused for that instead.
pub async fn refuse(
    shared: &Shared,
    path: &str,
    call: &CallContext,
    failure: Failure,
    context: &str,
) -> Status {
    let Some((rpc, names)) = call.rpc else {
        return refuse_without_pipeline(shared, path, call, &failure, context);
    };
    let facts = facts(names, call);
    let failure = match call.caller {
        Ok(_) => failure,
        Err(unidentified) => Failure::unidentified(unidentified.as_str()),
    };
    let status = refusal(&failure, &facts);
    if let Some(kind) = shared.report_refusal(call, failure.reason) {
        // Refused identities are recorded even if the message cannot be decoded.
        if let Some(outcome) = kind.outcome {
            let refused = entry(call, rpc, Event::Outcome, outcome, kind.reason);
            record(shared, call, refused).await;
        }
        log_refusal(call, rpc, &failure, status.code(), context);
    }
    call.ended(status, failure.reason)
}

/// Refuses a call of a service without a pipeline.
fn refuse_without_pipeline(
    shared: &Shared,
    path: &str,
    call: &CallContext,
    failure: &Failure,
    context: &str,
) -> Status {
    let reason = failure.reason.as_str_name();
    let kind = Kind::logged("refused", reason);
    if shared.refusals.admit(call.peer_address(), None, kind) {
        let unauthenticated = failure.reason == ErrorReason::CallerUnauthenticated;
        let cause = call.caller.as_ref().err().filter(|_| unauthenticated);
        tracing::info!(
            request_id = call.request_id,
            peer = call.peer.map(display),
            path = cut(path, MAX_TEXT_BYTES),
            reason,
            cause = cause.map(|cause| cause.as_str()),
            context,
            "refused"
        );
    }
    refusal(failure, &CallFacts::of_request(call.request_id.clone()))
}

/// Logs the line of a refused call.
fn log_refusal(
    call: &CallContext,
    rpc: &'static str,
    failure: &Failure,
    code: Code,
    context: &str,
) {
    let (trace_id, caller) = (call.trace_id(), call.caller_name());
    let cause = call.caller.as_ref().err().map(|cause| cause.as_str());
    tracing::info!(
        request_id = call.request_id,
        trace_id,
        rpc,
        caller,
        peer = call.peer.map(display),
        code = ?code,
        reason = failure.reason.as_str_name(),
        outcome = "not_sent",
        cause,
        context,
        "call"
    );
}

/// Returns the field that the decoder names, as `Message.field: what is wrong`, or an empty string.
fn field(message: &str) -> &'static str {
    let named = |field: &&str| message.contains(&format!("Request.{field}:"));
    request_fields().find(named).unwrap_or_default()
}
