//! Every answer that an HMC can give to the logon: never the fault of the caller, never a word about the user.

mod guard;

use std::fmt::Write as _;

use futures_util::future::join_all;
use tonic::Code::{
    self, DeadlineExceeded, FailedPrecondition, Internal, ResourceExhausted, Unavailable,
};

use crate::support::{
    App, Console, Reply,
    Say::{self, Empty, Hang, Hmc, Html, Json, Made, Reset},
    Step, by_id, by_name, hmc_section, timed,
};

/// One answer, and what the caller is to get.
pub struct Row {
    pub say: Say,
    code: Code,
    reason: &'static str,
    /// Logons sent.
    logons: usize,
    /// Is there a `RetryInfo`?
    retry: bool,
    /// The partial session that is to be ended.
    partial: Option<&'static str>,
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

/// Successes that are none.
fn successes() -> Vec<Row> {
    let partial = r#"{"api-session":"partial-1","notification-topic":"svc.1"}"#;
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
        strange(Json(200, "array", r#"["session-1"]"#)),
        strange(Html(200)),
        strange(Empty(200)),
        refused(Json(201, "partial session", partial)).partial("partial-1"),
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

/// What the HMC says below 500.
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
        strange(Html(403)),
        strange(Empty(403)),
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

/// What may pass.
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

/// Gives one answer to every logon of a call, with `allow_missing`; returns what differs from the row.
async fn play(row: &Row) -> String {
    let console = Console::saying(vec![(Step::Logon, vec![row.say.clone()])]).await;
    let mut request = by_id("id-1");
    request.allow_missing = true;
    let answer = console.app.delete_hmc_user(request).await;
    let failed = match answer {
        Ok(done) => return format!("{}: {done:?}\n", row.say),
        Err(failed) => failed,
    };
    let mut faults = String::new();
    let reason = failed.reason.strip_prefix("ERROR_REASON_").unwrap();
    let retry = failed.retry_delay.is_some();
    if (failed.code, reason, retry) != (row.code, row.reason, row.retry) {
        let (code, reason) = (row.code, row.reason);
        let _ = writeln!(faults, "{}: wanted {code:?} {reason}: {failed:?}", row.say);
    }
    let counts = [Step::Logon, Step::Read, Step::Delete, Step::Other].map(|s| console.count(s));
    if counts != [row.logons, 0, 0, 0]
        || (failed.meta("attempts"), failed.meta("outcome")) != ("0", "not_sent")
    {
        let _ = writeln!(faults, "{}: {counts:?}: {failed:?}", row.say);
    }
    let ended = console.asked(Step::Logoff);
    let ended: Vec<_> = ended
        .iter()
        .map(|off| off.header("x-api-session"))
        .collect();
    if ended != row.partial.iter().map(|one| Some(*one)).collect::<Vec<_>>() {
        let _ = writeln!(faults, "{}: ended {ended:?}", row.say);
    }
    let text = format!("{failed:?}");
    for secret in ["partial-1", "session-", "hmc-password", "html", "10.1.2.3"] {
        if text.contains(secret) {
            let _ = writeln!(faults, "{}: {secret} has leaked", row.say);
        }
    }
    faults
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_to_the_logon_becomes_the_documented_error() {
    let rows = rows();
    let faults: String = join_all(rows.iter().map(play)).await.concat();
    assert!(faults.is_empty(), "\n{faults}");
}

#[tokio::test]
async fn a_logon_that_is_told_to_wait_passes_the_time_on() {
    let later = Say::Later(429, 0, "60");
    let console = Console::saying(vec![(Step::Logon, vec![later])]).await;
    let failed = console.fail(by_id("id-1")).await;
    failed.expect(ResourceExhausted, "UPSTREAM_THROTTLED");
    assert_eq!(failed.retry_delay.unwrap().as_secs(), 60);
    assert_eq!(console.count(Step::Logon), 1);
}

#[tokio::test]
async fn an_hmc_that_cannot_be_reached_is_unreachable() {
    // Bound and let go: nobody listens there.
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", nobody.local_addr().unwrap());
    drop(nobody);
    let folder = App::folder();
    let section = hmc_section(&folder, &url);
    let app = App::start_in(folder, &section).await;
    let failed = app.delete_hmc_user(by_name("alice")).await.unwrap_err();
    failed.expect(Unavailable, "UPSTREAM_UNREACHABLE");
    assert_eq!(
        (failed.meta("attempts"), failed.meta("outcome")),
        ("0", "not_sent")
    );
    assert!(failed.retry_delay.is_some() && failed.hmc.is_none());
}

#[tokio::test]
async fn a_logon_without_an_answer_ends_with_the_callers_deadline() {
    let console = Console::saying(vec![(Step::Logon, vec![Hang])]).await;
    let failed = console.fail(timed(by_id("id-1"), 600)).await;
    failed.expect(DeadlineExceeded, "DEADLINE_EXCEEDED");
    console.expect_not_sent(&failed);
    assert!(failed.retry_delay.is_some());
}
