//! The bytes of an answer of the HMC: its headers and the standard error response body.
//!
//! What is answered is decided elsewhere; here it is only put on the wire.

use axum::response::Response;
use serde_json::{Map, Value, json};

use crate::net::{Incoming, response, set};

const JSON: &str = "application/json;charset=UTF-8";

/// An error on its way out.
pub(super) struct Refusal {
    pub(super) status: u16,
    /// `None`: a page instead of the documented body, as it comes when the API itself is not up.
    pub(super) reason: Option<u16>,
    pub(super) message: String,
}

impl Refusal {
    pub(super) fn new(status: u16, reason: u16, message: impl Into<String>) -> Self {
        Self {
            status,
            reason: Some(reason),
            message: message.into(),
        }
    }
}

/// 200 with a document.
pub(super) fn document(document: &Value) -> Response {
    let mut answer = with_headers(response(200, document.to_string()));
    set(&mut answer, "content-type", JSON);
    answer
}

/// 204 without a body.
pub(super) fn no_content() -> Response {
    with_headers(response(204, ""))
}

/// The standard error body, or the page; `user` is the owner of the session, if the request had a living one.
pub(super) fn refuse(call: &Incoming, user: Option<&str>, refusal: &Refusal) -> Response {
    let Some(reason) = refusal.reason else {
        return page(refusal);
    };
    let mut body = json!({
        "http-status": refusal.status,
        "reason": reason,
        "message": refusal.message,
        "request-method": call.method.as_str(),
        "request-uri": call.path,
        "request-query-parms": query_parms(call),
        // The real one echoes all of them, the session ID included.
        "request-headers": request_headers(call),
        "request-authenticated-as": user,
    });
    if let Value::Object(fields) = &mut body {
        add_request_body(fields, call);
        if refusal.status == 500 {
            let stack = "java.lang.IllegalStateException\n\tat com.ibm.hwmca.simulated.UserManager.delete(Unknown Source)";
            fields.insert("stack".to_owned(), stack.into());
        }
    }
    let mut answer = with_headers(response(refusal.status, body.to_string()));
    set(&mut answer, "content-type", JSON);
    answer
}

fn page(refusal: &Refusal) -> Response {
    let Refusal {
        status, message, ..
    } = refusal;
    let html = format!(
        "<html><head><title>{status} {message}</title></head><body><h2>{message}</h2></body></html>\n"
    );
    let mut answer = with_headers(response(*status, html));
    set(&mut answer, "content-type", "text/html;charset=ISO-8859-1");
    answer
}

fn with_headers(mut answer: Response) -> Response {
    set(
        &mut answer,
        "server",
        "zSeries management console API web server / 2.0",
    );
    set(&mut answer, "cache-control", "no-cache");
    answer
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

/// The body parsed or, when it is not JSON, as text; the text is cut, and the last field says so.
fn add_request_body(fields: &mut Map<String, Value>, call: &Incoming) {
    const KEPT: usize = 256;
    let bytes = call.body.as_deref().unwrap_or_default();
    let parsed: Option<Value> = serde_json::from_slice(bytes).ok();
    let text = (parsed.is_none() && !bytes.is_empty())
        .then(|| String::from_utf8_lossy(bytes).into_owned());
    let partial = text.as_ref().map(|text| text.chars().count() > KEPT);
    fields.insert("request-body".to_owned(), parsed.unwrap_or(Value::Null));
    fields.insert(
        "request-body-as-string".to_owned(),
        text.map(|text| text.chars().take(KEPT).collect::<String>())
            .into(),
    );
    fields.insert("request-body-as-string-partial".to_owned(), partial.into());
}
