//! The responses of an HMC to the logon according to the vendor's documents, with the errors that the contract defines
//! for them.

use tonic::Code::{self, FailedPrecondition, Internal, ResourceExhausted, Unavailable};
use useradmin_testkit::{
    Reply,
    Say::{self, Empty, Hmc, Html, Json, Made, Reset},
};

/// A response and the error that the caller must receive.
pub struct Row {
    pub say: Say,
    pub code: Code,
    pub reason: &'static str,
    /// Number of logons sent.
    pub logons: usize,
    /// Whether the error has a `RetryInfo`.
    pub retry: bool,
    /// The incomplete session that the server must end.
    pub partial: Option<&'static str>,
}

fn once(say: Say, code: Code, reason: &'static str) -> Row {
    Row {
        say,
        code,
        reason,
        logons: 1,
        retry: false,
        partial: None,
    }
}

impl Row {
    fn thrice(mut self) -> Self {
        self.logons = 3;
        self.retry()
    }

    fn retry(mut self) -> Self {
        self.retry = true;
        self
    }

    fn partial(mut self, session: &'static str) -> Self {
        self.partial = Some(session);
        self
    }
}

fn strange(say: Say) -> Row {
    once(say, Unavailable, "UPSTREAM_PROTOCOL_ERROR")
}

fn refused(say: Say) -> Row {
    once(say, Internal, "UPSTREAM_CREDENTIALS_REJECTED")
}

fn rejected(say: Say) -> Row {
    once(say, Internal, "UPSTREAM_REJECTED_REQUEST")
}

fn down(say: Say) -> Row {
    once(say, Unavailable, "UPSTREAM_UNAVAILABLE").thrice()
}

pub fn rows() -> Vec<Row> {
    let mut rows = successes();
    rows.extend(refusals());
    rows.extend(troubles());
    rows
}

/// Successful responses that do not contain a usable session.
#[rustfmt::skip]
fn successes() -> Vec<Row> {
    let partial = r#"{"api-session":"kanari-session-partial-1","notification-topic":"svc.1"}"#;
    vec![
        strange(Json(200, "without a session", r#"{"api-major-version":4}"#)),
        strange(Json(200, "empty session", r#"{"api-session":""}"#)),
        strange(Json(200, "session as number", r#"{"api-session":7}"#)),
        strange(Json(
            200,
            "session with CRLF",
            r#"{"api-session":"a\r\nX-Evil: 1"}"#,
        )),
        strange(Json(
            200,
            "session with a blank",
            r#"{"api-session":"a b"}"#,
        )),
        strange(Json(200, "session beyond ASCII", r#"{"api-session":"ä"}"#)),
        strange(Json(200, "array", r#"["kanari-session-1"]"#)),
        strange(Html(200)),
        strange(Empty(200)),
        strange(Json(200, "cut", r#"{"api-session":"kanari-session-1"#)),
        refused(Json(201, "partial session", partial)).partial("kanari-session-partial-1"),
        refused(Empty(201)),
        refused(Html(201)),
        strange(Empty(202)),
        strange(Empty(204)),
        strange(Made(302, "redirect", |_| {
            Reply::empty(302).with("Location", "/elsewhere")
        })),
        strange(Made(307, "redirect", |_| {
            Reply::empty(307).with("Location", "/elsewhere")
        })),
    ]
}

/// Errors of the HMC with a status below 500.
#[rustfmt::skip]
fn refusals() -> Vec<Row> {
    vec![
        once(Hmc(400, 13), ResourceExhausted, "UPSTREAM_SESSION_LIMIT").retry(),
        rejected(Hmc(400, 2)),
        rejected(Hmc(400, 5)),
        rejected(Hmc(400, 99)),
        strange(Html(400)),
        refused(Hmc(401, 0)),
        refused(Html(401)),
        refused(Hmc(403, 0)),
        refused(Hmc(403, 1)),
        refused(Hmc(403, 5)),
        refused(Html(403)),
        refused(Empty(403)),
        refused(Json(403, "foreign JSON", r#"{"error":"forbidden"}"#)),
        refused(Empty(401)),
        refused(Json(401, "foreign JSON", r#"{"error":"unauthorized"}"#)),
        rejected(Hmc(404, 1)),
        strange(Html(404)),
        once(Hmc(409, 1), Code::Aborted, "UPSTREAM_CONFLICT").retry(),
        once(Hmc(409, 2), Code::Aborted, "UPSTREAM_CONFLICT").retry(),
        refused(Hmc(409, 50)),
        refused(Hmc(409, 51)),
        once(Hmc(409, 99), FailedPrecondition, "UPSTREAM_CONFLICT"),
        strange(Html(409)),
        once(Hmc(412, 1), FailedPrecondition, "UPSTREAM_CONFLICT"),
        rejected(Hmc(415, 0)),
    ]
}

/// Transient failures.
#[rustfmt::skip]
fn troubles() -> Vec<Row> {
    vec![
        down(Hmc(408, 0)),
        once(Hmc(429, 0), ResourceExhausted, "UPSTREAM_THROTTLED").thrice(),
        down(Hmc(500, 12)),
        down(Html(500)),
        rejected(Html(501)),
        down(Html(502)),
        down(Hmc(503, 0)),
        rejected(Html(505)),
        once(Reset, Unavailable, "UPSTREAM_UNREACHABLE").thrice(),
    ]
}
