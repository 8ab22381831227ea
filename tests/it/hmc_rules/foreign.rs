//! Responses without the standard error body of the HMC: pages, malformed documents, redirects, unexpected successes.

use serde_json::{Value, json};
use tonic::Code::{Internal, NotFound, ResourceExhausted, Unavailable};
use useradmin_testkit::{
    ReceivedRequest, Reply,
    ScriptedReply::{self, Custom, Empty, Html, Json, Modified},
    error_reply,
};

use super::{Row, final_response};

pub fn rows() -> Vec<Row> {
    let mut rows = responses_without_document();
    rows.extend(modified_documents());
    rows.extend(malformed_bodies());
    rows.extend(redirects_and_successes());
    rows
}

/// Returns the row of a response that did not come from the HMC application: the deletion may have been carried out,
/// and is not repeated.
fn protocol_error(reply: ScriptedReply) -> Row {
    final_response(reply, Unavailable, "UPSTREAM_PROTOCOL_ERROR").unknown()
}

/// The page of a proxy, or an empty body, with each status.
fn responses_without_document() -> Vec<Row> {
    let mut rows = Vec::new();
    for status in [400, 403, 404, 405, 406, 409, 412, 415] {
        rows.push(protocol_error(Html(status)));
        rows.push(protocol_error(Empty(status)));
    }
    for reply in [Html, Empty] {
        let unavailable =
            |status| final_response(reply(status), Unavailable, "UPSTREAM_UNAVAILABLE").attempts(3);
        let rejected =
            |status| final_response(reply(status), Internal, "UPSTREAM_REJECTED_REQUEST");
        rows.extend([
            final_response(reply(401), Internal, "UPSTREAM_CREDENTIALS_REJECTED").attempts(2),
            unavailable(408).unknown().retry(),
            final_response(reply(429), ResourceExhausted, "UPSTREAM_THROTTLED")
                .attempts(3)
                .retry(),
            unavailable(500).unknown().retry(),
            rejected(501),
            unavailable(502).unknown().retry(),
            unavailable(503).retry(),
            unavailable(504).unknown().retry(),
            rejected(505),
        ]);
    }
    rows
}

/// Returns the document with one field changed.
fn with_field(mut document: Value, field: &str, value: Value) -> Value {
    document[field] = value;
    document
}

fn without_field(mut document: Value, field: &str) -> Value {
    document.as_object_mut().unwrap().remove(field).unwrap();
    document
}

/// The standard error body for a user that does not exist, with one change each.
#[rustfmt::skip]
fn modified_documents() -> Vec<Row> {
    let absent = |case, bend: fn(Value) -> Value| final_response(Modified(404, case, bend), NotFound, "USER_NOT_FOUND");
    let foreign = |case, bend: fn(Value) -> Value| protocol_error(Modified(404, case, bend));
    vec![
        foreign("http-status differs", |d| with_field(d, "http-status", json!(403))),
        foreign("http-status as string", |d| with_field(d, "http-status", json!("404"))),
        foreign("http-status missing", |d| without_field(d, "http-status")),
        foreign("reason as string", |d| with_field(d, "reason", json!("1"))),
        foreign("reason as float", |d| with_field(d, "reason", json!(1.0))),
        foreign("reason negative", |d| with_field(d, "reason", json!(-1))),
        foreign("reason null", |d| with_field(d, "reason", json!(null))),
        foreign("reason true", |d| with_field(d, "reason", json!(true))),
        foreign("reason missing", |d| without_field(d, "reason")),
        foreign("reason beyond 32 bits", |d| with_field(d, "reason", json!(4_294_967_297_u64))),
        foreign("in an array", |d| json!([d])),
        foreign("inside another object", |d| json!({"error": d})),
        absent("message missing", |d| without_field(d, "message")),
        absent("message as number", |d| with_field(d, "message", json!(7))),
        absent("message as object", |d| with_field(d, "message", json!({"text": "gone"}))),
        absent("message long", |d| with_field(d, "message", json!(format!("{}é", "m".repeat(255))))),
        absent("message very long", |d| with_field(d, "message", json!("é".repeat(20_000)))),
        absent("more fields", |d| with_field(d, "@@implementation-errors", json!([1]))),
        absent("only the two integers", |_| json!({"http-status": 404, "reason": 1})),
        foreign("huge", |d| with_field(d, "stack", json!("x".repeat(70_000)))),
        protocol_error(Modified(409, "huge", |d| with_field(d, "stack", json!("x".repeat(1_000_000))))),
    ]
}

/// Bodies that are not a JSON object, or not a complete one.
fn malformed_bodies() -> Vec<Row> {
    vec![
        protocol_error(Json(404, "empty object", "{}")),
        protocol_error(Json(404, "null", "null")),
        protocol_error(Json(404, "text", r#""gone""#)),
        protocol_error(Json(
            404,
            "two documents",
            r#"{"http-status":404,"reason":1}{}"#,
        )),
        protocol_error(Json(
            404,
            "open object",
            r#"{"http-status":404,"reason":1,"#,
        )),
        protocol_error(Custom(404, "cut body", |_| {
            raw_response("404 Not Found", "Content-Length: 500", CUT)
        })),
        protocol_error(Custom(404, "cut chunks", |_| {
            raw_response("404 Not Found", "Transfer-Encoding: chunked", "1e\r\n")
        })),
        protocol_error(Custom(409, "not UTF-8", |_| {
            let response_head = "HTTP/1.1 409 Conflict\r\nContent-Length: 39\r\n\r\n";
            let body = b"{\"http-status\":409,\"reason\":1,\"x\":\"\xff\xfe\"}";
            Reply::Raw([response_head.as_bytes(), body].concat())
        })),
        final_response(
            Custom(404, "document as text/html", html_response),
            NotFound,
            "USER_NOT_FOUND",
        ),
    ]
}

const CUT: &str = r#"{"http-status":404,"reason":1}"#;

fn raw_response(status: &str, header: &str, body: &str) -> Reply {
    Reply::Raw(format!("HTTP/1.1 {status}\r\n{header}\r\n\r\n{body}").into_bytes())
}

fn html_response(request: &ReceivedRequest) -> Reply {
    match error_reply(request, 404, 1) {
        Reply::Http(status, _, body) => Reply::typed(status, "text/html", &body),
        other => other,
    }
}

/// Redirects, which are never followed, and statuses that are never regarded as a deletion.
fn redirects_and_successes() -> Vec<Row> {
    let to = |status, case: &'static str, make: fn(&ReceivedRequest) -> Reply| {
        protocol_error(Custom(status, case, make))
    };
    vec![
        to(301, "redirect", |_| {
            Reply::empty(301).with_header("Location", "/elsewhere")
        }),
        to(302, "redirect", |_| {
            Reply::html(302).with_header("Location", "/elsewhere")
        }),
        to(303, "redirect", |_| {
            Reply::empty(303).with_header("Location", "/elsewhere")
        }),
        to(307, "redirect", |_| {
            Reply::empty(307).with_header("Location", "/api/users/id-2")
        }),
        to(308, "redirect", |_| {
            Reply::empty(308).with_header("Location", "/api/users/id-1")
        }),
        protocol_error(Empty(300)),
        protocol_error(Empty(304)),
        protocol_error(Empty(200)),
        protocol_error(Html(200)),
        protocol_error(Json(200, "object", "{}")),
        protocol_error(Json(201, "object", "{}")),
        protocol_error(Empty(202)),
        protocol_error(Json(202, "job", r#"{"job-uri":"/api/jobs/1"}"#)),
        protocol_error(Empty(205)),
        protocol_error(Json(206, "object", "{}")),
        protocol_error(Empty(299)),
        protocol_error(Empty(600)),
        protocol_error(Empty(999)),
    ]
}
