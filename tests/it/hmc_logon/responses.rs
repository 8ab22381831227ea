//! The responses of an HMC to the logon according to the vendor's documents, with the errors that the contract defines
//! for them.

use tonic::Code::{self, FailedPrecondition, Internal, ResourceExhausted, Unavailable};
use useradmin_testkit::{
    Reply,
    ScriptedReply::{self, Custom, Empty, Hmc, Html, Json, Reset},
};

/// A response and the error that the caller must receive.
pub struct Row {
    pub reply: ScriptedReply,
    pub code: Code,
    pub reason: &'static str,
    /// Number of logons sent.
    pub logons: usize,
    /// Whether the error has a `RetryInfo`.
    pub retry: bool,
    /// The incomplete session that the server must end.
    pub partial_session: Option<&'static str>,
}

fn single_logon(reply: ScriptedReply, code: Code, reason: &'static str) -> Row {
    Row {
        reply,
        code,
        reason,
        logons: 1,
        retry: false,
        partial_session: None,
    }
}

impl Row {
    fn with_three_logons(mut self) -> Self {
        self.logons = 3;
        self.retry()
    }

    fn retry(mut self) -> Self {
        self.retry = true;
        self
    }

    fn with_partial_session(mut self, session: &'static str) -> Self {
        self.partial_session = Some(session);
        self
    }
}

fn protocol_error(reply: ScriptedReply) -> Row {
    single_logon(reply, Unavailable, "UPSTREAM_PROTOCOL_ERROR")
}

fn refused_logon(reply: ScriptedReply) -> Row {
    single_logon(reply, Internal, "UPSTREAM_CREDENTIALS_REJECTED")
}

fn rejected(reply: ScriptedReply) -> Row {
    single_logon(reply, Internal, "UPSTREAM_REJECTED_REQUEST")
}

fn target_down(reply: ScriptedReply) -> Row {
    single_logon(reply, Unavailable, "UPSTREAM_UNAVAILABLE").with_three_logons()
}

pub fn rows() -> Vec<Row> {
    let mut rows = successes();
    rows.extend(refusals());
    rows.extend(transient_failures());
    rows
}

/// Successful responses that do not contain a usable session.
#[rustfmt::skip]
fn successes() -> Vec<Row> {
    let partial = r#"{"api-session":"kanari-session-partial-1","notification-topic":"svc.1"}"#;
    vec![
        protocol_error(Json(200, "without a session", r#"{"api-major-version":4}"#)),
        protocol_error(Json(200, "empty session", r#"{"api-session":""}"#)),
        protocol_error(Json(200, "session as number", r#"{"api-session":7}"#)),
        protocol_error(Json(
            200,
            "session with CRLF",
            r#"{"api-session":"a\r\nX-Evil: 1"}"#,
        )),
        protocol_error(Json(
            200,
            "session with a blank",
            r#"{"api-session":"a b"}"#,
        )),
        protocol_error(Json(200, "session beyond ASCII", r#"{"api-session":"ä"}"#)),
        protocol_error(Json(200, "array", r#"["kanari-session-1"]"#)),
        protocol_error(Html(200)),
        protocol_error(Empty(200)),
        protocol_error(Json(200, "cut", r#"{"api-session":"kanari-session-1"#)),
        refused_logon(Json(201, "partial session", partial)).with_partial_session("kanari-session-partial-1"),
        refused_logon(Empty(201)),
        refused_logon(Html(201)),
        protocol_error(Empty(202)),
        protocol_error(Empty(204)),
        protocol_error(Custom(302, "redirect", |_| {
            Reply::empty(302).with_header("Location", "/elsewhere")
        })),
        protocol_error(Custom(307, "redirect", |_| {
            Reply::empty(307).with_header("Location", "/elsewhere")
        })),
    ]
}

/// Errors of the HMC with a status below 500.
#[rustfmt::skip]
fn refusals() -> Vec<Row> {
    vec![
        single_logon(Hmc(400, 13), ResourceExhausted, "UPSTREAM_SESSION_LIMIT").retry(),
        rejected(Hmc(400, 2)),
        rejected(Hmc(400, 5)),
        rejected(Hmc(400, 99)),
        protocol_error(Html(400)),
        refused_logon(Hmc(401, 0)),
        refused_logon(Html(401)),
        refused_logon(Hmc(403, 0)),
        refused_logon(Hmc(403, 1)),
        refused_logon(Hmc(403, 5)),
        refused_logon(Html(403)),
        refused_logon(Empty(403)),
        refused_logon(Json(403, "foreign JSON", r#"{"error":"forbidden"}"#)),
        refused_logon(Empty(401)),
        refused_logon(Json(401, "foreign JSON", r#"{"error":"unauthorized"}"#)),
        rejected(Hmc(404, 1)),
        protocol_error(Html(404)),
        single_logon(Hmc(409, 1), Code::Aborted, "UPSTREAM_CONFLICT").retry(),
        single_logon(Hmc(409, 2), Code::Aborted, "UPSTREAM_CONFLICT").retry(),
        refused_logon(Hmc(409, 50)),
        refused_logon(Hmc(409, 51)),
        single_logon(Hmc(409, 99), FailedPrecondition, "UPSTREAM_CONFLICT"),
        protocol_error(Html(409)),
        single_logon(Hmc(412, 1), FailedPrecondition, "UPSTREAM_CONFLICT"),
        rejected(Hmc(415, 0)),
    ]
}

/// Transient failures.
#[rustfmt::skip]
fn transient_failures() -> Vec<Row> {
    vec![
        target_down(Hmc(408, 0)),
        single_logon(Hmc(429, 0), ResourceExhausted, "UPSTREAM_THROTTLED").with_three_logons(),
        target_down(Hmc(500, 12)),
        target_down(Html(500)),
        rejected(Html(501)),
        target_down(Html(502)),
        target_down(Hmc(503, 0)),
        rejected(Html(505)),
        single_logon(Reset, Unavailable, "UPSTREAM_UNREACHABLE").with_three_logons(),
    ]
}
