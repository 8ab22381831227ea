//! The `BatchError` document, read with distrust: wrong types are ignored, foreign text is cut.

use http::HeaderValue;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::{
    error::status::MAX_BATCH_VALUES,
    proto::{BatchError, BatchErrorDetail, ErrorMessage},
    upstream::{
        redact::{REDACTED, Secrets},
        response::Response,
    },
};

/// The header that carries the caller's id, there and back.
pub const CLIENT_REQUEST_ID: &str = "client-request-id";

/// Repeats the signature and what was signed.
const SECRET_KEY: &str = "AuthenticationErrorDetail";

/// The document of a response; `None` when the body is not Azure Batch's own: a JSON object with a non-empty
/// string `code`. What repeats `secrets` is not passed on.
#[must_use]
pub fn error(response: &Response, document: &Value, secrets: &Secrets) -> Option<BatchError> {
    let document = document.as_object()?;
    let code = text(document, "code", secrets).filter(|code| !code.is_empty())?;
    Some(BatchError {
        code,
        message: message(document, secrets),
        values: values(document, secrets),
        http_status: u32::from(response.status),
        request_id: request_id(response, secrets).unwrap_or_default(),
        client_request_id: String::new(),
    })
}

/// The service's `request-id`, unless it repeats `secrets`.
#[must_use]
pub fn request_id(response: &Response, secrets: &Secrets) -> Option<String> {
    let id = response.header("request-id")?.trim();
    (!id.is_empty()).then(|| secrets.redact(id))
}

/// The header names that the document's values complain about; all of them, not only those that are passed on. A
/// `client-request-id` of our own making is left out: only one that the caller sent is the caller's to mend.
#[must_use]
pub fn headers_at_fault(document: &Value, callers_id: bool) -> Vec<&str> {
    let pairs = document["values"].as_array().into_iter().flatten();
    pairs
        .filter(|pair| pair["key"] == "HeaderName")
        .filter_map(|pair| pair["value"].as_str())
        .filter(|name| callers_id || !name.eq_ignore_ascii_case(CLIENT_REQUEST_ID))
        .collect()
}

/// Checks that Azure Batch itself sent the response, to the request with the client-request-id `sent`. A page of a
/// proxy has no `request-id`; a response to another request has another `client-request-id`.
pub fn check_ids(response: &Response, sent: &str) -> Result<(), &'static str> {
    if !same_client_request_id(response, sent) {
        tracing::warn!(sent, "Azure Batch returned another client-request-id");
        return Err("the client-request-id is that of another request");
    }
    let id = response.header("request-id").unwrap_or_default();
    if id.trim().is_empty() {
        return Err("there is no request-id");
    }
    Ok(())
}

/// Whether every `client-request-id` of the response is `sent`, in any spelling of a GUID. A blank one counts as absent.
fn same_client_request_id(response: &Response, sent: &str) -> bool {
    let sent = Uuid::try_parse(sent).ok();
    let is_same = |value: &HeaderValue| {
        // Intermediaries may join repeated headers with commas.
        value.to_str().is_ok_and(|text| {
            let mut ids = text.split(',').map(str::trim).filter(|id| !id.is_empty());
            ids.all(|id| sent.is_some() && Uuid::try_parse(id).ok() == sent)
        })
    };
    response
        .headers
        .get_all(CLIENT_REQUEST_ID)
        .iter()
        .all(is_same)
}

fn text(object: &Map<String, Value>, key: &str, secrets: &Secrets) -> Option<String> {
    Some(secrets.redact(object.get(key)?.as_str()?))
}

fn message(document: &Map<String, Value>, secrets: &Secrets) -> Option<ErrorMessage> {
    let message = document.get("message")?.as_object()?;
    let value = message.get("value").and_then(Value::as_str).unwrap_or("");
    // The service appends "\nRequestId:...\nTime:..." to every text.
    let value = value.split("\nRequestId:").next().unwrap_or(value);
    Some(ErrorMessage {
        lang: text(message, "lang", secrets).unwrap_or_default(),
        value: secrets.redact(value.trim_end()),
    })
}

fn values(document: &Map<String, Value>, secrets: &Secrets) -> Vec<BatchErrorDetail> {
    let Some(Value::Array(pairs)) = document.get("values") else {
        return Vec::new();
    };
    let pairs = pairs.iter().filter_map(|pair| {
        let pair = pair.as_object()?;
        let key = text(pair, "key", secrets)?;
        let value = if key.eq_ignore_ascii_case(SECRET_KEY) {
            REDACTED.to_owned()
        } else {
            text(pair, "value", secrets).unwrap_or_default()
        };
        Some(BatchErrorDetail { key, value })
    });
    pairs.take(MAX_BATCH_VALUES).collect()
}
