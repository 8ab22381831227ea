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
fn record_and_drop(mut permit: BreakerPermit<'_>, sent: &RequestResult) {
    record_result(&mut permit, sent);
}

fn record_result(permit: &mut BreakerPermit<'_>, sent: &RequestResult) {
    match sent {
        Ok(status) => permit.record_response(*status >= 500),
        Err(no_response) => permit.record_error(no_response, SECOND),
    }
}

/// Makes this number of calls with this result.
fn record_calls(breaker: &Breaker, times: u32, sent: &RequestResult) {
    for _ in 0..times {
        record_and_drop(breaker.admit().unwrap(), sent);
    }
}

#[track_caller]
fn expect_open(breaker: &Breaker) {
    let refusal = breaker.admit().err().map(|failure| failure.reason);
    assert_eq!(refusal, Some(ErrorReason::CircuitOpen));
}

/// Returns a breaker that has been opened by failures.
fn open_breaker() -> Breaker {
    let breaker = breaker();
    record_calls(&breaker, 20, &NO_RESPONSE);
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
            record_calls(&breaker, good, &Ok(status));
            record_calls(&breaker, bad, &Ok(503));
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
        record_calls(&breaker, 20, &sent);
        assert_eq!(breaker.admit().is_err(), opens, "{}", sent.is_ok());
    }
    // The last request of a call decides. A call without a request has no effect.
    let breaker = breaker();
    for _ in 0..50 {
        let mut recovered = breaker.admit().unwrap();
        record_result(&mut recovered, &NO_RESPONSE);
        record_result(&mut recovered, &Ok(200));
        drop(recovered);
        drop(breaker.admit().unwrap());
    }
    record_calls(&breaker, 50, &NO_RESPONSE);
    assert!(breaker.admit().is_ok());
}

#[tokio::test(start_paused = true)]
async fn calls_older_than_10_seconds_do_not_count() {
    let breaker = breaker();
    record_calls(&breaker, 15, &NO_RESPONSE);
    advance(SECOND * 5).await;
    record_calls(&breaker, 4, &NO_RESPONSE);
    advance(SECOND * 5).await;
    record_calls(&breaker, 15, &NO_RESPONSE);
    assert!(breaker.admit().is_ok(), "19 in 10 seconds");
    record_calls(&breaker, 1, &NO_RESPONSE);
    expect_open(&breaker);
}

/// Earlier successes expire before failures. After a recovery, this must not open the breaker.
#[tokio::test(start_paused = true)]
async fn success_does_not_open_breaker() {
    let breaker = breaker();
    record_calls(&breaker, 100, &Ok(200));
    advance(SECOND * 5).await;
    record_calls(&breaker, 99, &NO_RESPONSE);
    advance(SECOND * 6).await;
    record_calls(&breaker, 50, &Ok(200));
    breaker.admit().unwrap();
    // One more failure opens it.
    record_calls(&breaker, 1, &NO_RESPONSE);
    expect_open(&breaker);
}

#[tokio::test(start_paused = true)]
async fn one_probe_closes_or_reopens_breaker() {
    // A failed probe keeps the breaker open for 5 more seconds.
    let breaker = open_breaker();
    advance(Duration::from_millis(4_999)).await;
    expect_open(&breaker);
    advance(Duration::from_millis(1)).await;
    let mut probe = breaker.admit().unwrap();
    expect_open(&breaker);
    record_result(&mut probe, &Ok(500));
    drop(probe);
    advance(Duration::from_millis(4_999)).await;
    expect_open(&breaker);
    // A successful probe closes the breaker and resets all counters.
    advance(Duration::from_millis(1)).await;
    record_and_drop(breaker.admit().unwrap(), &Ok(404));
    record_calls(&breaker, 19, &NO_RESPONSE);
    assert!(breaker.admit().is_ok());
}

#[tokio::test(start_paused = true)]
async fn inconclusive_probe_is_followed_by_another() {
    let breaker = open_breaker();
    advance(SECOND * 5).await;
    drop(breaker.admit().unwrap());
    let hung = breaker.admit().unwrap();
    expect_open(&breaker);
    // A probe that hangs does not keep the breaker open for longer than one pause.
    advance(SECOND * 5).await;
    let mut next = breaker.admit().unwrap();
    record_result(&mut next, &Ok(200));
    drop(next);
    drop(hung);
    record_calls(&breaker, 19, &Ok(200));
}

#[tokio::test(start_paused = true)]
async fn calls_admitted_before_opening_do_not_close_breaker() {
    let breaker = breaker();
    let mut requests_before: Vec<BreakerPermit<'_>> =
        (0..5).map(|_| breaker.admit().unwrap()).collect();
    record_calls(&breaker, 20, &NO_RESPONSE);
    for permit in &mut requests_before {
        record_result(permit, &Ok(200));
    }
    drop(requests_before);
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
        let failure = app.delete_batch_node_user(batch_request("alice")).await;
        failure
            .unwrap_err()
            .expect(Unavailable, "UPSTREAM_UNAVAILABLE");
    }
    let sent = upstream.requests("DELETE", "").len();
    let failure = app.delete_batch_node_user(batch_request("alice")).await;
    let failure = failure.unwrap_err();
    failure.expect(Unavailable, "CIRCUIT_OPEN");
    assert_eq!(failure.retry_delay, Some(SECOND * 5));
    assert_eq!(
        (
            failure.metadata_value("attempts"),
            failure.metadata_value("outcome")
        ),
        ("0", "not_sent")
    );
    assert_eq!(upstream.requests("DELETE", "").len(), sent);
    assert_eq!(app.audit().last().unwrap()["outcome"], "not_sent");

    down.store(false, Ordering::Relaxed);
    // The delay from `RetryInfo`.
    sleep(failure.retry_delay.unwrap()).await;
    let response = app.delete_batch_node_user(batch_request("alice")).await;
    assert_eq!(response.unwrap().outcome(), DeleteOutcome::Deleted);
}

/// The logon or a request of a session may fail first. Other targets are not affected.
#[tokio::test]
async fn failing_hmc_opens_breaker() {
    let unavailable_targets = [
        vec![(Step::Logon, vec![ScriptedReply::Html(503)])],
        vec![(Step::Logon, vec![ScriptedReply::Reset])],
        vec![(Step::Read, vec![ScriptedReply::Reset])],
        vec![(Step::Delete, vec![ScriptedReply::Html(500)])],
    ];
    join_all(unavailable_targets.map(|script| async move {
        let setup = HmcSetup::with_replies(script).await;
        for _ in 0..20 {
            let failure = setup.fail(delete_by_id("id-1")).await;
            assert_eq!(failure.code, Unavailable);
            assert_ne!(failure.reason, "ERROR_REASON_CIRCUIT_OPEN");
        }
        let requests = setup.upstream.received().len();
        let failure = setup.fail(delete_by_id("id-1")).await;
        failure.expect(Unavailable, "CIRCUIT_OPEN");
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
        let failure = app.delete_hmc_user(delete_by_id("id-1")).await;
        assert_eq!(failure.unwrap_err().code, Unavailable);
    }
    let failure = app.delete_hmc_user(delete_by_id("id-1")).await;
    failure.unwrap_err().expect(Unavailable, "CIRCUIT_OPEN");
    let response = app.delete_batch_node_user(batch_request("alice")).await;
    assert_eq!(response.unwrap().outcome(), DeleteOutcome::Deleted);
}
