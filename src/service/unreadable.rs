//! Requests that never reach an rpc, because their message cannot be read, is too large, or does not come. The transport refuses
//! them without details and in words of its own; here they get the answer of every other bad request.

use http::HeaderMap;
use tonic::{Code, Status};

use super::meta::CallMeta;
use crate::{
    error::{
        Failure, Violation,
        status::{CallFacts, status},
    },
    upstream::deadline::Deadline,
};

/// The rpcs and their upstreams.
const RPCS: [(&str, &str); 2] = [
    ("/useradmin.v1.UserAdmin/DeleteBatchNodeUser", "azure_batch"),
    ("/useradmin.v1.UserAdmin/DeleteHmcUser", "ibm_hmc"),
];

/// The fields that a message can be unreadable in.
const FIELDS: [&str; 9] = [
    "account",
    "pool_id",
    "node_id",
    "user_name",
    "allow_missing",
    "validate_only",
    "client_request_id",
    "hmc",
    "user",
];

/// The answer in place of one that the transport made; `None` when that one is to stay as it is.
#[must_use]
pub fn answer(path: &str, meta: &CallMeta, headers: &HeaderMap) -> Option<Status> {
    if headers.contains_key("grpc-status-details-bin") {
        return None;
    }
    let refused = Status::from_header_map(headers)?;
    let violation = match refused.code() {
        Code::Internal => Violation {
            field: field(refused.message()),
            description: "cannot be read as Protocol Buffers, or is not UTF-8",
        },
        Code::OutOfRange => Violation {
            field: "",
            description: "the request message is larger than this server accepts",
        },
        _ => return None,
    };
    let fault = violation.description;
    refuse(path, meta, Failure::invalid(vec![violation]), fault)
}

/// The answer to a call whose message does not come.
#[must_use]
pub fn never_came(path: &str, meta: &CallMeta) -> Option<Status> {
    let failure = Deadline::exceeded("waiting for the request message");
    refuse(path, meta, failure, "the request message did not come")
}

fn refuse(path: &str, meta: &CallMeta, failure: Failure, fault: &str) -> Option<Status> {
    let (_, upstream) = RPCS.into_iter().find(|(rpc, _)| *rpc == path)?;
    tracing::info!(
        request_id = meta.request_id,
        peer = meta.peer,
        path,
        fault,
        "unreadable request"
    );
    let facts = CallFacts {
        upstream,
        request_id: meta.request_id.clone(),
        caller: meta.caller_name(),
        ..CallFacts::default()
    };
    let failure = match meta.caller {
        Ok(_) => failure,
        Err(unidentified) => Failure::unidentified(unidentified.as_str()),
    };
    Some(status(&failure, &facts))
}

/// The field that the decoder names, as `Message.field: what is wrong`; empty when it names none.
fn field(message: &str) -> &'static str {
    let named = |field: &&str| message.contains(&format!("Request.{field}:"));
    FIELDS.into_iter().find(named).unwrap_or_default()
}
