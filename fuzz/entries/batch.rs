//! Responses of Azure Batch.

use prost::Message as _;
use serde_json::Value;
use useradmin::{
    config::ApiVersion,
    error::Repeat,
    proto::{BatchError, ErrorReason as R},
    upstream::{
        azure_batch::{self, NAMES, NodeUser, classify::error_facts, rules::RULES},
        classify::failure,
        redact::Secrets,
        response::Response,
    },
};

use super::{response_text, status};

const TOKEN: &str = "eyJ0eXAi.c2VjcmV0LTQ3MTE.c2lnbmF0dXJl";
const OUR_ID: &str = "9c4d50ee-2d56-4cd3-8152-34347dc9f2b0";
const IDENTIFIERS: [(&str, &str); 4] = [
    ("account", "prod"),
    ("pool_id", "pool-1"),
    ("node_id", "tvm-1"),
    ("user_name", "alice"),
];

/// Checks a response to a DELETE and to the reading of a node.
pub fn batch(bytes: &[u8]) {
    let Some(response) = response_text::parse(bytes) else {
        return;
    };
    let user = NodeUser {
        pool_id: "pool-1".to_owned(),
        node_id: "tvm-1".to_owned(),
        user_name: "alice".to_owned(),
        client_request_id: OUR_ID.to_owned(),
        id_is_from_caller: !response.headers.contains_key("x-our-id"),
    };
    let secrets = Secrets::new([TOKEN]);
    let parsed = document(&response);
    let code = parsed["code"].as_str().filter(|code| !code.is_empty());
    let failure = failure(
        &NAMES,
        RULES,
        &response,
        error_facts(&response, &user, &secrets),
    );

    status::check_outcome(&failure, is_certain(response.status, code));
    let absent = response.status == 404 && code == Some("NodeUserNotFound");
    assert_eq!(failure.reason == R::UserNotFound, absent, "{failure:?}");
    // Only transient failures may be retried.
    if failure.repeat == Repeat::Backoff {
        let is_transient = matches!(response.status, 408 | 429 | 500..=599);
        assert!(
            is_transient || code == Some("OperationTimedOut"),
            "{failure:?}"
        );
    }
    let violated_fields = failure.violations.iter().map(|violation| violation.field);
    assert!(
        violated_fields.eq("client_request_id"
            .split(' ')
            .take(failure.violations.len()))
    );

    let actual = failure
        .upstream_response
        .as_deref()
        .expect("there was a response");
    assert_eq!(actual.http_status, response.status);
    assert_eq!(actual.code.is_some(), code.is_some(), "{failure:?}");
    assert_eq!(actual.document.is_some(), code.is_some(), "{failure:?}");
    if let Some(document) = &actual.document {
        let error = BatchError::decode(&*document.detail().value).expect("a BatchError");
        assert_eq!(actual.code.as_ref(), Some(&error.code));
        check_error(&error, &parsed, response.status);
    }
    let actual = status::status_of(&failure, &NAMES, &IDENTIFIERS);
    status::check_secrets(&failure, &actual, &[TOKEN]);
    check_node(&response, &secrets, &parsed);
    check_pool(&response, &parsed);
}

/// Returns the body if it is a JSON object, otherwise null.
fn document(response: &Response) -> Value {
    Some(response_text::json(response))
        .filter(Value::is_object)
        .unwrap_or_default()
}

/// Returns whether the response is a documented rejection, after which the user certainly still exists. Any other
/// response may come from a proxy, or may be sent after the deletion.
fn is_certain(status: u16, code: Option<&str>) -> bool {
    match status {
        429 => true,
        400..=599 if code == Some("OperationTimedOut") => false,
        401 | 501 | 503 | 505 => true,
        408 => false,
        400..=499 => code.is_some(),
        _ => false,
    }
}

/// Asserts that every part of the error occurs in the document.
fn check_error(error: &BatchError, document: &Value, status: u16) {
    let complete_text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let is_part_or_redacted = |actual: &str, value: &Value| {
        response_text::is_part_or_redacted(actual, &complete_text(value))
    };
    assert!(!error.code.is_empty() && is_part_or_redacted(&error.code, &document["code"]));
    assert_eq!(error.http_status, u32::from(status));
    assert_eq!(error.client_request_id, OUR_ID);
    assert!(error.request_id.len() <= 256);
    if let Some(message) = &error.message {
        assert!(is_part_or_redacted(
            &message.lang,
            &document["message"]["lang"]
        ));
        assert!(is_part_or_redacted(
            &message.value,
            &document["message"]["value"]
        ));
    }
    assert!(error.values.len() <= 8);
    let empty = Vec::new();
    let pairs = document["values"].as_array().unwrap_or(&empty);
    for actual in &error.values {
        let is_in_document = |pair: &Value| {
            is_part_or_redacted(&actual.key, &pair["key"])
                && is_part_or_redacted(&actual.value, &pair["value"])
        };
        assert!(pairs.iter().any(is_in_document), "{actual:?}");
        let secret = actual.key.eq_ignore_ascii_case("AuthenticationErrorDetail");
        assert!(!secret || actual.value == "(redacted)");
    }
}

/// Checks the same response as one to the reading of a pool.
fn check_pool(response: &Response, document: &Value) {
    if azure_batch::wire::pool_defines_user(response, "pool-1", "alice").is_some() {
        let id = document["id"].as_str();
        assert!(id.is_some_and(|id| id.eq_ignore_ascii_case("pool-1")));
    }
}

/// Checks the same response as one to the reading of a node.
fn check_node(response: &Response, secrets: &Secrets, document: &Value) {
    let id = document["id"].as_str();
    let other = id.is_some_and(|id| !id.eq_ignore_ascii_case("tvm-1"));
    let state = document["state"].as_str().filter(|_| !other);
    match azure_batch::check_node(response, "tvm-1", ApiVersion::DEFAULT, secrets) {
        Ok(actual) => {
            assert!(matches!(state, Some("idle" | "running")));
            assert_eq!(state, Some(&*actual));
        }
        Err(failure) => {
            assert!(!matches!(state, Some("idle" | "running")));
            assert_eq!(failure.reason == R::UpstreamProtocolError, state.is_none());
            let actual = status::status_of(&failure, &NAMES, &IDENTIFIERS);
            status::check_secrets(&failure, &actual, &[TOKEN]);
        }
    }
}
