//! What an answer of Azure Batch means: the table's row, and the details that callers may see.

use serde_json::Value;

use super::{
    client::{Done, NodeUser},
    rules::rule,
    wire,
};
use crate::{
    error::{Answered, Failure, Fate, UpstreamError, Violation},
    proto::{DeleteOutcome, ErrorReason},
    upstream::{hidden::Hidden, http::Answer, refusal_skew},
};

/// An answer that is not the success. `token` is what the request was authorized with, and never passed on.
pub fn failure(answer: &Answer, user: &NodeUser, hidden: &Hidden<'_>) -> Failure {
    let document = wire::json(answer).unwrap_or_default();
    let error = wire::error(answer, &document, hidden);
    let headers = wire::headers_at_fault(&document, user.callers_id);
    let code = error.as_ref().map(|error| error.code.as_str());
    let Some(rule) = rule(answer.status, code, &headers) else {
        return Failure::internal("an answer without a rule");
    };
    let blames_id = headers
        .iter()
        .any(|name| name.eq_ignore_ascii_case(wire::CLIENT_REQUEST_ID));
    let violation = blames_id.then_some(Violation {
        field: "client_request_id",
        description: "the upstream does not accept this value",
    });
    let mut failure = Failure {
        form: rule.form,
        repeat: rule.repeat,
        fate: rule.fate,
        retry_after: answer.retry_after(),
        violations: violation.into_iter().collect(),
        ..Failure::new(rule.reason, context(answer.status, code))
    };
    failure.answered = Some(Box::new(Answered {
        code: code.map(str::to_owned),
        error: error.map(|mut error| {
            error.client_request_id.clone_from(&user.client_request_id);
            UpstreamError::Batch(error)
        }),
        ..answered(answer, hidden)
    }));
    let skew = refusal_skew(answer, failure.reason);
    failure.with_clock_skew(skew)
}

/// For the log. A code is cut and escaped there like everything that others choose.
fn context(status: u16, code: Option<&str>) -> String {
    match code {
        Some(code) => format!("Azure Batch answered {status}/{code}"),
        None => format!("Azure Batch answered {status}"),
    }
}

fn answered(answer: &Answer, hidden: &Hidden<'_>) -> Answered {
    Answered {
        http_status: answer.status,
        request_id: wire::request_id(answer, hidden),
        ..Answered::default()
    }
}

/// Returns the failure for a 200 that is not Azure Batch's answer to the request, because of `why`. The DELETE may have
/// been carried out all the same.
pub fn not_from_azure(answer: &Answer, why: &str, hidden: &Hidden<'_>) -> Failure {
    let context = format!("a 200 that is not Azure Batch's answer to this request: {why}");
    Failure {
        fate: Fate::Unknown,
        answered: Some(Box::new(answered(answer, hidden))),
        ..Failure::new(ErrorReason::UpstreamProtocolError, context)
    }
}

/// A node that was read: may its users be deleted ("only when it is in the idle or running state")?
pub fn node(answer: &Answer, node_id: &str, hidden: &Hidden<'_>) -> Result<Done, Failure> {
    let node: Option<Value> = wire::json(answer);
    let id = node.as_ref().and_then(|node| node.get("id")?.as_str());
    if id.is_some_and(|id| !id.eq_ignore_ascii_case(node_id)) {
        let why = "it describes another node";
        return Err(not_from_azure(answer, why, hidden).of_a_read());
    }
    let state = node.as_ref().and_then(|node| node.get("state")?.as_str());
    let reason = match state {
        Some("idle" | "running") => {
            return Ok(Done::new(DeleteOutcome::Validated, answer, hidden));
        }
        Some("unusable") => ErrorReason::NodeUnusable,
        Some(_) => ErrorReason::NodeNotReady,
        None => ErrorReason::UpstreamProtocolError,
    };
    let state = hidden.redact(state.unwrap_or("unknown"));
    Err(Failure {
        answered: Some(Box::new(answered(answer, hidden))),
        ..Failure::new(reason, format!("the node is {state}"))
    })
}
