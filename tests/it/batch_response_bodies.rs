//! Bodies that Azure Batch would not send: other documents, pages of proxies, truncated and endless bodies. None of
//! them is accepted as a response of Azure Batch, and none of their content reaches the caller.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tonic::Code;
use useradmin::proto::DeleteBatchNodeUserRequest;
use useradmin_testkit::{
    CANARY, CallFailure, ReceivedRequest, Reply, assert_not_disclosed, batch_document,
    batch_request, batch_with_timeout, start_batch,
};

/// Code, reason, attempts and outcome.
type Verdict = (Code, &'static str, u32, &'static str);

const PROTOCOL_ERROR: Verdict = (Code::Unavailable, "UPSTREAM_PROTOCOL_ERROR", 1, "unknown");

/// The expected result of each status with a body that is not a document of Azure Batch.
#[rustfmt::skip]
const BY_STATUS: [(u16, Verdict); 13] = [
    (302, PROTOCOL_ERROR),
    (400, PROTOCOL_ERROR),
    (401, (Code::Internal, "UPSTREAM_CREDENTIALS_REJECTED", 2, "not_deleted")),
    (403, PROTOCOL_ERROR),
    (404, PROTOCOL_ERROR),
    (405, PROTOCOL_ERROR),
    (408, (Code::Unavailable, "UPSTREAM_UNAVAILABLE", 3, "unknown")),
    (409, PROTOCOL_ERROR),
    (412, PROTOCOL_ERROR),
    (429, (Code::ResourceExhausted, "UPSTREAM_THROTTLED", 3, "not_deleted")),
    (500, (Code::Unavailable, "UPSTREAM_UNAVAILABLE", 3, "unknown")),
    (501, (Code::Internal, "UPSTREAM_REJECTED_REQUEST", 1, "not_deleted")),
    (503, (Code::Unavailable, "UPSTREAM_UNAVAILABLE", 3, "not_deleted")),
];

/// Returns the status that the test requests through the user name.
fn requested_status(request: &ReceivedRequest) -> u16 {
    let (_, rest) = request.target.split_once("/users/").unwrap();
    rest.split('?').next().unwrap().parse().unwrap()
}

fn raw_response(status: u16, headers: &str, body: &[u8]) -> Reply {
    let length = body.len();
    let response_head = format!(
        "HTTP/1.1 {status} {CANARY}\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    Reply::Raw([response_head.as_bytes(), body].concat())
}

/// `{"code":"NodeUserNotFound","message":{"lang":"en-US","value":"C4N4RY"}}` compressed with gzip. After decompression
/// it would be a valid document.
#[rustfmt::skip]
const GZIPPED: &[u8] = &[
    0x1F, 0x8B, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0x03, 0xAB, 0x56, 0x4A, 0xCE, 0x4F, 0x49,
    0x55, 0xB2, 0x52, 0xF2, 0x03, 0x52, 0xA1, 0xC5, 0xA9, 0x45, 0x7E, 0xF9, 0x25, 0x6E, 0xF9, 0xA5,
    0x79, 0x29, 0x4A, 0x3A, 0x4A, 0xB9, 0xA9, 0xC5, 0xC5, 0x89, 0xE9, 0x40, 0xC9, 0x6A, 0xA5, 0x9C,
    0xC4, 0xBC, 0x74, 0xA0, 0xA2, 0xD4, 0x3C, 0xDD, 0xD0, 0x60, 0xA0, 0x4C, 0x59, 0x62, 0x4E, 0x29,
    0x48, 0x93, 0xB3, 0x89, 0x9F, 0x49, 0x50, 0xA4, 0x52, 0x6D, 0x2D, 0x00, 0x3B, 0x52, 0xCA, 0x23,
    0x47, 0x00, 0x00, 0x00,
];

fn document() -> String {
    batch_document("NodeUserNotFound", CANARY, &[])
}

/// Returns bodies that are not a document of Azure Batch, with a name for each fault.
fn foreign_bodies() -> Vec<(&'static str, Vec<u8>)> {
    let with_code = |code: &str| format!(r#"{{"code":{code},"message":{{"value":"{CANARY}"}}}}"#);
    let utf16 = |text: &str| {
        text.encode_utf16()
            .flat_map(u16::to_le_bytes)
            .collect::<Vec<u8>>()
    };
    let padded = |size: usize| document() + &" ".repeat(size - document().len());
    let mut truncated = document();
    truncated.truncate(truncated.len() - 1);
    let html = format!("<!DOCTYPE html><HTML><TITLE>Not Found</TITLE>{CANARY} 127.0.0.1</HTML>");
    vec![
        ("html", html.into_bytes()),
        ("empty", Vec::new()),
        ("text", CANARY.into()),
        (
            "control plane",
            format!(r#"{{"error":{{"code":"NodeUserNotFound","message":"{CANARY}"}}}}"#).into(),
        ),
        ("cut", truncated.into_bytes()),
        ("one byte too long", padded(64 * 1024 + 1).into_bytes()),
        ("no code", format!(r#"{{"message":"{CANARY}"}}"#).into()),
        ("code: number", with_code("404").into()),
        ("code: empty", with_code(r#""""#).into()),
        ("code: null", with_code("null").into()),
        ("code: array", with_code(r#"["NodeUserNotFound"]"#).into()),
        ("array", format!("[{}]", document()).into()),
        ("string", format!(r#""{CANARY}""#).into()),
        ("more after it", format!("{} {CANARY}", document()).into()),
        (
            "two marks",
            format!("\u{feff}\u{feff}{}", document()).into(),
        ),
        ("UTF-16", utf16(&format!("\u{feff}{}", document()))),
        ("not UTF-8", b"{\"code\":\"NodeUserNotFound\xFF\"}".to_vec()),
        ("NUL", document().replace(CANARY, "a\u{0}b").into()),
        (
            "deep",
            format!(
                "{}{}",
                r#"{"code":"NodeUserNotFound","values":"#,
                "[".repeat(10_000)
            )
            .into(),
        ),
        ("zipped", GZIPPED.to_vec()),
    ]
}

async fn run_case(name: &str, reply: impl Fn(u16) -> Reply + Send + 'static) {
    let (app, upstream) = start_batch(move |received| reply(requested_status(received))).await;
    let calls = BY_STATUS.map(|(status, expected)| {
        let mut client = app.client();
        // With `allow_missing`, a missing user would be a success if any of these bodies were accepted.
        let request = DeleteBatchNodeUserRequest {
            allow_missing: true,
            ..batch_request(&status.to_string())
        };
        let upstream = &upstream;
        async move {
            let response = client.delete_batch_node_user(request).await.unwrap_err();
            assert_not_disclosed(&response, upstream);
            let failure = CallFailure::from(response);
            let (code, reason, attempts, outcome) = expected;
            failure.expect(code, reason);
            let text = format!("{name}, {status}: {failure:?}");
            assert_eq!(
                failure.metadata_value("attempts"),
                attempts.to_string(),
                "{text}"
            );
            assert_eq!(failure.metadata_value("outcome"), outcome, "{text}");
            assert_eq!(
                failure.metadata_value("upstream_http_status"),
                status.to_string(),
                "{text}"
            );
            assert!(
                failure.batch.is_none() && !failure.metadata.contains_key("upstream_code"),
                "{text}"
            );
            assert_eq!(failure.retry_delay.is_some(), attempts == 3, "{text}");
            let target = format!("/pools/pool-1/nodes/node-1/users/{status}?");
            let sent = upstream.requests("DELETE", &target);
            assert_eq!(sent.len(), attempts as usize, "{text}");
        }
    });
    join_all(calls).await;
}

#[tokio::test]
async fn foreign_response_body_is_protocol_error() {
    let bodies = foreign_bodies().into_iter().map(|(name, body)| {
        let headers = match name {
            "html" => "Content-Type: text/html\r\n",
            "zipped" => "Content-Type: application/json\r\nContent-Encoding: gzip\r\n",
            _ => "Content-Type: application/json; odata=minimalmetadata\r\n",
        };
        run_case(name, move |status| raw_response(status, headers, &body))
    });
    join_all(bodies).await;
}

#[tokio::test]
async fn unfinished_body_does_not_delay_the_response() {
    let started = Instant::now();
    let response_head = |status: u16| format!("HTTP/1.1 {status} {CANARY}\r\n");
    let endless = run_case("endless", move |status| {
        Reply::Endless(response_head(status), Duration::ZERO)
    });
    let truncated = run_case("shorter than it says", move |status| {
        let response_head = format!("HTTP/1.1 {status} {CANARY}\r\nContent-Length: 5000\r\n\r\n");
        Reply::Raw(format!("{response_head}{}", document()).into_bytes())
    });
    tokio::join!(endless, truncated);
    assert!(started.elapsed() < Duration::from_secs(3));
}

#[tokio::test]
async fn slow_body_is_cut_off_at_deadline() {
    let pause = Duration::from_millis(10);
    let (app, _upstream) = start_batch(move |request| {
        let status = requested_status(request);
        Reply::Endless(format!("HTTP/1.1 {status} {CANARY}\r\n"), pause)
    })
    .await;
    let timeout = Duration::from_millis(700);
    let call = |user| batch_with_timeout(&app, batch_request(user), timeout);
    let (absent, busy) = tokio::join!(call("404"), call("503"));
    let absent = absent.unwrap_err();
    absent.expect(Code::Unavailable, "UPSTREAM_PROTOCOL_ERROR");
    assert_eq!(absent.metadata_value("outcome"), "unknown");
    // The status line is sufficient.
    let busy = busy.unwrap_err();
    busy.expect(Code::Unavailable, "UPSTREAM_UNAVAILABLE");
    assert_eq!(busy.metadata_value("outcome"), "not_deleted");
}
