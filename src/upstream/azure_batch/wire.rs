//! Parses `BatchError` documents. No value in them is trusted: values of a wrong type are ignored, and texts are
//! truncated.

use http::{HeaderName, HeaderValue};
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

/// Header of requests and responses that contains the ID chosen by the caller or this server.
pub const CLIENT_REQUEST_ID: HeaderName = HeaderName::from_static("client-request-id");

/// Header of responses that contains Azure Batch's own ID of the request.
const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");

/// Key of a value that repeats the signature and the signed text. This value is always redacted.
const SECRET_KEY: &str = "AuthenticationErrorDetail";

/// Returns the error document of a response, or `None` if the body is not one: a JSON object with a non-empty string
/// `code`. Texts that repeat `secrets` are redacted.
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

/// Returns the `request-id` of Azure Batch, unless it is missing or blank. Redacts `secrets` in it.
pub fn request_id(response: &Response, secrets: &Secrets) -> Option<String> {
    let id = response.header(&REQUEST_ID)?.trim();
    (!id.is_empty()).then(|| secrets.redact(id))
}

/// Returns the names of all headers that the document complains about. A `client-request-id` that this server chose
/// is left out, because the caller cannot correct it.
pub fn invalid_header_names(document: &Value, id_is_from_caller: bool) -> Vec<&str> {
    values_of(document, "HeaderName")
        .filter(|name| id_is_from_caller || !name.eq_ignore_ascii_case(CLIENT_REQUEST_ID.as_str()))
        .collect()
}

/// Returns the names of all query parameters that the document complains about.
pub fn invalid_query_parameters(document: &Value) -> impl Iterator<Item = &str> {
    values_of(document, "QueryParameterName")
}

/// Returns the texts that the document's `values` contain under this key.
fn values_of<'a>(document: &'a Value, key: &'static str) -> impl Iterator<Item = &'a str> {
    let pairs = document["values"].as_array().into_iter().flatten();
    pairs
        .filter(move |pair| pair["key"] == key)
        .filter_map(|pair| pair["value"].as_str())
}

/// Returns whether the pool that a response describes defines a user with this name, ignoring case, because Windows
/// nodes ignore it. Returns `None` if the response describes another pool or cannot be parsed.
pub fn pool_defines_user(response: &Response, pool_id: &str, user_name: &str) -> Option<bool> {
    let document = response.json();
    let id = document["id"].as_str()?;
    let users = match &document["userAccounts"] {
        Value::Null => &[],
        users => users.as_array()?.as_slice(),
    };
    let names: Option<Vec<_>> = users
        .iter()
        .map(|user| Some(user["name"].as_str()?.to_lowercase()))
        .collect();
    let is_defined = names?.contains(&user_name.to_lowercase());
    id.eq_ignore_ascii_case(pool_id).then_some(is_defined)
}

/// Checks that Azure Batch itself sent the response, and that it belongs to the request with the client-request-id
/// `sent`. Fails if there is no `request-id`, as in the page of a proxy, or if there is another `client-request-id`,
/// as in the response to another request.
pub fn check_ids(response: &Response, sent: &str) -> Result<(), &'static str> {
    if !same_client_request_id(response, sent) {
        tracing::warn!(
            client_request_id = sent,
            "response has another client-request-id"
        );
        return Err("the client-request-id is that of another request");
    }
    let id = response.header(&REQUEST_ID).unwrap_or_default();
    if id.trim().is_empty() {
        return Err("there is no request-id");
    }
    Ok(())
}

/// Returns whether every `client-request-id` of the response is the same GUID as `sent`. A blank one is ignored.
fn same_client_request_id(response: &Response, sent: &str) -> bool {
    let is_sent = |id: &str| Uuid::try_parse(id).is_ok_and(|id| Uuid::try_parse(sent) == Ok(id));
    let is_same = |value: &HeaderValue| {
        // The usual case. `sent` is a GUID.
        value == sent
            // Intermediaries may join repeated headers with commas.
            || value.to_str().is_ok_and(|text| {
                let mut ids = text.split(',').map(str::trim).filter(|id| !id.is_empty());
                ids.all(is_sent)
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
