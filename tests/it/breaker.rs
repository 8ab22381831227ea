//! The circuit breaker of a target: with a paused clock, and with real requests.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use tokio::time::{advance, sleep};
use tonic::Code::Unavailable;
use useradmin::{
    metrics::TargetName,
    proto::{DeleteOutcome, ErrorReason},
    upstream::{
        breaker::{Breaker, BreakerPermit},
        response::RequestError,
    },
};
use useradmin_testkit::{
    App, HmcSetup, Reply, ScriptedReply, Step, Upstream, batch_deleted, batch_error, batch_request,
    batch_section, delete_by_id, hmc_section, start_batch, token_reply_or,
};

fn breaker() -> Breaker {
    Breaker::new(TargetName::default())
}

/// The status of the response, or the reason why there was none.
type RequestResult = Result<u16, RequestError>;

const NO_RESPONSE: RequestResult = Err(RequestError::TimedOut);

/// Records the result of a request.
fn record_and_drop(mut pass: BreakerPermit<'_>, sent: &RequestResult) {
    record_again(&mut pass, sent);
}

fn record_again(pass: &mut BreakerPermit<'_>, sent: &RequestResult) {
    match sent {
        Ok(status) => pass.record_response(*status >= 500),
        Err(no_answer) => pass.record_error(no_answer, SECOND),
    }
}

/// Makes this number of calls with this result.
fn calls(breaker: &Breaker, times: u32, sent: &RequestResult) {
    for _ in 0..times {
        record_and_drop(breaker.admit().unwrap(), sent);
    }
}

#[track_caller]
fn expect_open(breaker: &Breaker) {
    let refused = breaker.admit().err().map(|failure| failure.reason);
    assert_eq!(refused, Some(ErrorReason::CircuitOpen));
}

/// Returns a breaker that has been opened by failures.
fn opened() -> Breaker {
    let breaker = breaker();
    calls(&breaker, 20, &NO_RESPONSE);
    expect_open(&breaker);
    breaker
}

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn breaker_opens_if_most_of_20_calls_fail() {
    let rows = [
        (0, 19, false),
        (0, 20, true),
        (9, 10, false),
        (9, 11, true),
        (10, 10, false),
        (20, 20, false),
        (20, 21, true),
        (100, 20, false),
    ];
    for (good, bad, opens) in rows {
        for status in [200, 204, 400, 401, 404, 409, 429, 499] {
            let breaker = breaker();
            calls(&breaker, good, &Ok(status));
            calls(&breaker, bad, &Ok(503));
            assert_eq!(breaker.admit().is_err(), opens, "{good} {bad} {status}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn only_failures_of_the_target_count() {
    let rows = [
        (Ok(500), true),
        (Ok(503), true),
        (Ok(599), true),
        (Err(RequestError::TimedOut), true),
        (Err(RequestError::NotConnected), true),
        (Err(RequestError::Cut(String::new())), true),
        (Err(RequestError::Unreachable(String::new())), true),
        (Ok(200), false),
        (Ok(302), false),
        (Ok(429), false),
    ];
    for (sent, opens) in rows {
        let breaker = breaker();
        calls(&breaker, 20, &sent);
        assert_eq!(breaker.admit().is_err(), opens, "{}", sent.is_ok());
    }
    // The last request of a call decides. A call without a request has no effect.
    let breaker = breaker();
    for _ in 0..50 {
        let mut recovered = breaker.admit().unwrap();
        record_again(&mut recovered, &NO_RESPONSE);
        record_again(&mut recovered, &Ok(200));
        drop(recovered);
        drop(breaker.admit().unwrap());
    }
    calls(&breaker, 50, &NO_RESPONSE);
    assert!(breaker.admit().is_ok());
}

#[tokio::test(start_paused = true)]
async fn calls_older_than_10_seconds_do_not_count() {
    let breaker = breaker();
    calls(&breaker, 15, &NO_RESPONSE);
    advance(SECOND * 5).await;
    calls(&breaker, 4, &NO_RESPONSE);
    advance(SECOND * 5).await;
    calls(&breaker, 15, &NO_RESPONSE);
    assert!(breaker.admit().is_ok(), "19 in 10 seconds");
    calls(&breaker, 1, &NO_RESPONSE);
    expect_open(&breaker);
}

/// Earlier successes expire before failures. After a recovery, this must not open the breaker.
#[tokio::test(start_paused = true)]
async fn success_does_not_open_breaker() {
    let breaker = breaker();
    calls(&breaker, 100, &Ok(200));
    advance(SECOND * 5).await;
    calls(&breaker, 99, &NO_RESPONSE);
    advance(SECOND * 6).await;
    calls(&breaker, 50, &Ok(200));
    breaker.admit().unwrap();
    // One more failure opens it.
    calls(&breaker, 1, &NO_RESPONSE);
    expect_open(&breaker);
}

#[tokio::test(start_paused = true)]
async fn one_probe_closes_or_reopens_breaker() {
    // A failed probe keeps the breaker open for 5 more seconds.
    let breaker = opened();
    advance(Duration::from_millis(4_999)).await;
    expect_open(&breaker);
    advance(Duration::from_millis(1)).await;
    let mut probe = breaker.admit().unwrap();
    expect_open(&breaker);
    record_again(&mut probe, &Ok(500));
    drop(probe);
    advance(Duration::from_millis(4_999)).await;
    expect_open(&breaker);
    // A successful probe closes the breaker and resets all counters.
    advance(Duration::from_millis(1)).await;
    record_and_drop(breaker.admit().unwrap(), &Ok(404));
    calls(&breaker, 19, &NO_RESPONSE);
    assert!(breaker.admit().is_ok());
}

#[tokio::test(start_paused = true)]
async fn inconclusive_probe_is_followed_by_another() {
    let breaker = opened();
    advance(SECOND * 5).await;
    drop(breaker.admit().unwrap());
    let hung = breaker.admit().unwrap();
    expect_open(&breaker);
    // A probe that hangs does not keep the breaker open for longer than one pause.
    advance(SECOND * 5).await;
    let mut next = breaker.admit().unwrap();
    record_again(&mut next, &Ok(200));
    drop(next);
    drop(hung);
    calls(&breaker, 19, &Ok(200));
}

#[tokio::test(start_paused = true)]
async fn calls_admitted_before_opening_do_not_close_breaker() {
    let breaker = breaker();
    let mut before: Vec<BreakerPermit<'_>> = (0..5).map(|_| breaker.admit().unwrap()).collect();
    calls(&breaker, 20, &NO_RESPONSE);
    for pass in &mut before {
        record_again(pass, &Ok(200));
    }
    drop(before);
    expect_open(&breaker);
}

#[tokio::test]
async fn failing_account_opens_and_recovers() {
    let down = Arc::new(AtomicBool::new(true));
    let is_down = Arc::clone(&down);
    let (app, upstream) = start_batch(move |_| {
        if is_down.load(Ordering::Relaxed) {
            batch_error(500, "InternalError").with_header("Retry-After", "60")
        } else {
            batch_deleted()
        }
    })
    .await;
    for _ in 0..20 {
        let failed = app.delete_batch_node_user(batch_request("alice")).await;
        failed
            .unwrap_err()
            .expect(Unavailable, "UPSTREAM_UNAVAILABLE");
    }
    let sent = upstream.requests("DELETE", "").len();
    let failed = app.delete_batch_node_user(batch_request("alice")).await;
    let failed = failed.unwrap_err();
    failed.expect(Unavailable, "CIRCUIT_OPEN");
    assert_eq!(failed.retry_delay, Some(SECOND * 5));
    assert_eq!(
        (
            failed.metadata_value("attempts"),
            failed.metadata_value("outcome")
        ),
        ("0", "not_sent")
    );
    assert_eq!(upstream.requests("DELETE", "").len(), sent);
    assert_eq!(app.audit().last().unwrap()["outcome"], "not_sent");

    down.store(false, Ordering::Relaxed);
    // The delay from `RetryInfo`.
    sleep(failed.retry_delay.unwrap()).await;
    let done = app.delete_batch_node_user(batch_request("alice")).await;
    assert_eq!(done.unwrap().outcome(), DeleteOutcome::Deleted);
}

/// The logon or a request of a session may fail first. Other targets are not affected.
#[tokio::test]
async fn failing_hmc_opens_breaker() {
    let down = [
        vec![(Step::Logon, vec![ScriptedReply::Html(503)])],
        vec![(Step::Logon, vec![ScriptedReply::Reset])],
        vec![(Step::Read, vec![ScriptedReply::Reset])],
        vec![(Step::Delete, vec![ScriptedReply::Html(500)])],
    ];
    join_all(down.map(|script| async move {
        let setup = HmcSetup::with_replies(script).await;
        for _ in 0..20 {
            let failed = setup.fail(delete_by_id("id-1")).await;
            assert_eq!(failed.code, Unavailable);
            assert_ne!(failed.reason, "ERROR_REASON_CIRCUIT_OPEN");
        }
        let requests = setup.upstream.received().len();
        let failed = setup.fail(delete_by_id("id-1")).await;
        failed.expect(Unavailable, "CIRCUIT_OPEN");
        assert_eq!(setup.upstream.received().len(), requests);
    }))
    .await;
}

#[tokio::test]
async fn each_target_has_a_separate_breaker() {
    let folder = App::folder();
    let hmc = Upstream::start(|_| Reply::Close).await;
    let account = Upstream::start(|request| token_reply_or(request, batch_deleted)).await;
    let sections = format!(
        "{}{}",
        batch_section(&folder, &account.url),
        hmc_section(&folder, &hmc.url)
    );
    let app = App::start_in(folder, &sections).await;
    for _ in 0..21 {
        let failed = app.delete_hmc_user(delete_by_id("id-1")).await;
        assert_eq!(failed.unwrap_err().code, Unavailable);
    }
    let failed = app.delete_hmc_user(delete_by_id("id-1")).await;
    failed.unwrap_err().expect(Unavailable, "CIRCUIT_OPEN");
    let done = app.delete_batch_node_user(batch_request("alice")).await;
    assert_eq!(done.unwrap().outcome(), DeleteOutcome::Deleted);
}
