//! The `BatchError` document, read with distrust: wrong types are ignored, foreign text is cut.

use serde_json::{Map, Value};

use crate::{
    error::status::{MAX_BATCH_VALUES, MAX_TEXT_BYTES, cut},
    proto::{BatchError, BatchErrorDetail, ErrorMessage},
    upstream::http::Answer,
};

const BOM: &[u8] = b"\xEF\xBB\xBF";
/// Repeats the signature and what was signed.
const SECRET_KEY: &str = "AuthenticationErrorDetail";
const REDACTED: &str = "(redacted)";

/// The document of an answer; `None` when the body is not Azure Batch's own: a JSON object with a non-empty
/// string `code`.
#[must_use]
pub fn error(answer: &Answer) -> Option<BatchError> {
    let body = answer.body.as_deref()?;
    let body = body.strip_prefix(BOM).unwrap_or(body);
    let Ok(Value::Object(document)) = serde_json::from_slice(body) else {
        return None;
    };
    let code = text(&document, "code").filter(|code| !code.is_empty())?;
    Some(BatchError {
        code,
        message: message(&document),
        values: values(&document),
        http_status: u32::from(answer.status),
        request_id: request_id(answer).unwrap_or_default(),
        client_request_id: String::new(),
    })
}

/// The service's `request-id`.
#[must_use]
pub fn request_id(answer: &Answer) -> Option<String> {
    let id = answer.header("request-id")?.trim();
    (!id.is_empty()).then(|| cut(id, MAX_TEXT_BYTES).to_owned())
}

/// The header names that the document's values complain about. A `client-request-id` of our own making is
/// left out: only one that the caller sent is the caller's to mend.
#[must_use]
pub fn headers_at_fault(error: &BatchError, callers_id: bool) -> Vec<&str> {
    error
        .values
        .iter()
        .filter(|pair| pair.key == "HeaderName")
        .map(|pair| pair.value.as_str())
        .filter(|name| callers_id || !name.eq_ignore_ascii_case("client-request-id"))
        .collect()
}

fn text(object: &Map<String, Value>, key: &str) -> Option<String> {
    let text = object.get(key)?.as_str()?;
    Some(cut(text, MAX_TEXT_BYTES).to_owned())
}

fn message(document: &Map<String, Value>) -> Option<ErrorMessage> {
    let message = document.get("message")?.as_object()?;
    let value = message.get("value").and_then(Value::as_str).unwrap_or("");
    // The service appends "\nRequestId:...\nTime:..." to every text.
    let value = value.split("\nRequestId:").next().unwrap_or(value);
    Some(ErrorMessage {
        lang: text(message, "lang").unwrap_or_default(),
        value: cut(value, MAX_TEXT_BYTES).to_owned(),
    })
}

fn values(document: &Map<String, Value>) -> Vec<BatchErrorDetail> {
    let Some(Value::Array(pairs)) = document.get("values") else {
        return Vec::new();
    };
    let pairs = pairs.iter().filter_map(|pair| {
        let pair = pair.as_object()?;
        let key = text(pair, "key")?;
        let value = if key.eq_ignore_ascii_case(SECRET_KEY) {
            REDACTED.to_owned()
        } else {
            text(pair, "value").unwrap_or_default()
        };
        Some(BatchErrorDetail { key, value })
    });
    pairs.take(MAX_BATCH_VALUES).collect()
}
