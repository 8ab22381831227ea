//! Responses of the HMC: headers and the standard error response body.
//!
//! This module formats responses. It does not decide which response is sent.

use axum::response::Response;
use serde_json::{Map, Value, json};

use crate::net::{Incoming, response, set};

const JSON: &str = "application/json;charset=UTF-8";

/// An error response.
pub(super) struct ErrorReply {
    pub(super) status: u16,
    /// Reason code of the error. `None` stands for an HTML page instead of the documented body, which the web server
    /// returns while the API is not available.
    pub(super) reason: Option<u16>,
    pub(super) message: String,
}

impl ErrorReply {
    pub(super) fn new(status: u16, reason: u16, message: impl Into<String>) -> Self {
        Self {
            status,
            reason: Some(reason),
            message: message.into(),
        }
    }
}

/// Returns a 200 response with a JSON document.
pub(super) fn document(document: &Value) -> Response {
    let mut result = with_headers(response(200, document.to_string()));
    set(&mut result, "content-type", JSON);
    result
}

/// Returns a 204 response without a body.
pub(super) fn no_content() -> Response {
    with_headers(response(204, ""))
}

/// Returns the error response. `user` is the owner of the session, if the request had a valid one.
pub(super) fn error_response(call: &Incoming, user: Option<&str>, error: &ErrorReply) -> Response {
    let Some(reason) = error.reason else {
        return html_page(error);
    };
    let mut body = json!({
        "http-status": error.status,
        "reason": reason,
        "message": error.message,
        "request-method": call.method.as_str(),
        "request-uri": call.path,
        "request-query-parms": query_parms(call),
        // The real HMC echoes all headers, including the session ID.
        "request-headers": request_headers(call),
        "request-authenticated-as": user,
    });
    if let Value::Object(fields) = &mut body {
        add_request_body(fields, call);
        if error.status == 500 {
            let stack = "java.lang.IllegalStateException\n\tat com.ibm.hwmca.simulated.UserManager.delete(Unknown Source)";
            fields.insert("stack".to_owned(), stack.into());
        }
    }
    let mut result = with_headers(response(error.status, body.to_string()));
    set(&mut result, "content-type", JSON);
    result
}

fn html_page(error: &ErrorReply) -> Response {
    let ErrorReply {
        status, message, ..
    } = error;
    let html = format!(
        "<html><head><title>{status} {message}</title></head><body><h2>{message}</h2></body></html>\n"
    );
    let mut result = with_headers(response(*status, html));
    set(&mut result, "content-type", "text/html;charset=ISO-8859-1");
    result
}

fn with_headers(mut response: Response) -> Response {
    set(
        &mut response,
        "server",
        "zSeries management console API web server / 2.0",
    );
    set(&mut response, "cache-control", "no-cache");
    response
}

fn query_parms(call: &Incoming) -> Vec<Value> {
    let pairs = call.query_pairs().unwrap_or_default();
    pairs
        .into_iter()
        .map(|(name, value)| json!({"name": name, "value": value}))
        .collect()
}

fn request_headers(call: &Incoming) -> Map<String, Value> {
    let pairs = call.headers.iter();
    pairs
        .map(|(name, value)| {
            (
                name.to_string(),
                String::from_utf8_lossy(value.as_bytes()).into(),
            )
        })
        .collect()
}

/// Adds the request body to an error body: the JSON value if the body can be parsed, otherwise its text, truncated to
/// 256 characters, and whether the text was truncated.
fn add_request_body(fields: &mut Map<String, Value>, call: &Incoming) {
    const MAX_BODY_CHARS: usize = 256;
    let bytes = call.body.as_deref().unwrap_or_default();
    let parsed: Option<Value> = serde_json::from_slice(bytes).ok();
    let text = (parsed.is_none() && !bytes.is_empty())
        .then(|| String::from_utf8_lossy(bytes).into_owned());
    let partial = text
        .as_ref()
        .map(|text| text.chars().count() > MAX_BODY_CHARS);
    fields.insert("request-body".to_owned(), parsed.unwrap_or(Value::Null));
    fields.insert(
        "request-body-as-string".to_owned(),
        text.map(|text| text.chars().take(MAX_BODY_CHARS).collect::<String>())
            .into(),
    );
    fields.insert("request-body-as-string-partial".to_owned(), partial.into());
}
