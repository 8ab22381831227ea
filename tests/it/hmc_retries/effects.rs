//! The result of a call whose DELETEs receive a given sequence of responses: the reason is that of the last response,
//! `outcome` the most severe of all.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use futures_util::future::join_all;
use tokio::sync::Barrier;
use tonic::Code::{
    self, Aborted, FailedPrecondition, Internal, NotFound, PermissionDenied, Unavailable,
};
use useradmin::proto::DeleteOutcome::{self, AbsentAfterRetry, AlreadyAbsent, Deleted};
use useradmin_testkit::{
    Console, Reply,
    Say::{self, Empty, Hmc, Html, Reset, Usual},
    Step, by_id, refusal, usual,
};

/// The responses to the DELETEs of one call, `allow_missing`, and the outcome.
#[rustfmt::skip]
const SUCCESSES: [(&[Say], bool, DeleteOutcome); 18] = [
    (&[Reset, Usual], false, Deleted),
    (&[Reset, Reset, Usual], false, Deleted),
    (&[Html(503), Hmc(429, 1), Usual], false, Deleted),
    (&[Reset, Hmc(404, 1)], false, AbsentAfterRetry),
    (&[Reset, Hmc(404, 1)], true, AbsentAfterRetry),
    (&[Reset, Reset, Hmc(404, 1)], false, AbsentAfterRetry),
    (&[Hmc(500, 12), Hmc(404, 1)], false, AbsentAfterRetry),
    (&[Html(502), Hmc(404, 1)], false, AbsentAfterRetry),
    (&[Html(504), Hmc(404, 1)], false, AbsentAfterRetry),
    (&[Html(408), Hmc(404, 1)], false, AbsentAfterRetry),
    (&[Reset, Html(503), Hmc(404, 1)], false, AbsentAfterRetry),
    (&[Hmc(503, 1), Reset, Hmc(404, 1)], false, AbsentAfterRetry),
    (&[Reset, Hmc(403, 5), Hmc(404, 1)], false, AbsentAfterRetry),
    (&[Hmc(403, 5), Reset, Hmc(404, 1)], false, AbsentAfterRetry),
    (&[Hmc(404, 1)], true, AlreadyAbsent),
    (&[Hmc(503, 1), Hmc(404, 1)], true, AlreadyAbsent),
    (&[Hmc(429, 1), Hmc(404, 1)], true, AlreadyAbsent),
    (&[Hmc(403, 5), Hmc(404, 1)], true, AlreadyAbsent),
];

#[tokio::test]
async fn absence_after_unknown_outcome_is_absent_after_retry() {
    join_all(SUCCESSES.map(|(says, allow_missing, wanted)| async move {
        let console = Console::saying(vec![(Step::Delete, says.to_vec())]).await;
        let mut request = by_id("id-1");
        request.allow_missing = allow_missing;
        let done = console.app.delete_hmc_user(request).await;
        let done = done.unwrap_or_else(|failed| panic!("{says:?}: {failed:?}"));
        console.app.expect_on_record(&done);
        let told = (done.outcome(), done.attempts as usize);
        assert_eq!(told, (wanted, says.len()), "{says:?}");
        assert_eq!(console.count(Step::Delete), says.len(), "{says:?}");
    }))
    .await;
}

/// The responses to the DELETEs of one call; code, reason and outcome.
#[rustfmt::skip]
const FAILURES: [(&[Say], Code, &str, &str); 16] = [
    (&[Hmc(503, 1), Hmc(404, 1)], NotFound, "USER_NOT_FOUND", "not_deleted"),
    (&[Hmc(429, 1), Hmc(404, 1)], NotFound, "USER_NOT_FOUND", "not_deleted"),
    (&[Hmc(403, 5), Hmc(404, 1)], NotFound, "USER_NOT_FOUND", "not_deleted"),
    (&[Hmc(429, 1), Html(503), Hmc(404, 1)], NotFound, "USER_NOT_FOUND", "not_deleted"),
    (&[Reset, Hmc(404, 2)], NotFound, "UPSTREAM_RESOURCE_NOT_FOUND", "unknown"),
    (&[Reset, Html(404)], Unavailable, "UPSTREAM_PROTOCOL_ERROR", "unknown"),
    (&[Html(503), Empty(200)], Unavailable, "UPSTREAM_PROTOCOL_ERROR", "unknown"),
    (&[Hmc(500, 12), Hmc(409, 317)], FailedPrecondition, "TEMPLATE_USER_IN_USE", "unknown"),
    (&[Reset, Hmc(409, 2)], Aborted, "UPSTREAM_CONFLICT", "unknown"),
    (&[Reset, Hmc(403, 1)], PermissionDenied, "UPSTREAM_PERMISSION_DENIED", "unknown"),
    (&[Reset, Html(503), Html(503)], Unavailable, "UPSTREAM_UNAVAILABLE", "unknown"),
    (&[Html(503), Html(502), Html(503)], Unavailable, "UPSTREAM_UNAVAILABLE", "unknown"),
    (&[Reset, Hmc(403, 5), Hmc(403, 5)], Internal, "UPSTREAM_CREDENTIALS_REJECTED", "unknown"),
    (&[Reset, Reset, Reset], Unavailable, "OUTCOME_UNKNOWN", "unknown"),
    (&[Html(503), Html(503), Reset], Unavailable, "OUTCOME_UNKNOWN", "unknown"),
    (&[Hmc(403, 5), Reset, Reset], Unavailable, "OUTCOME_UNKNOWN", "unknown"),
];

#[tokio::test]
async fn last_response_sets_reason_and_worst_sets_outcome() {
    join_all(FAILURES.map(|(says, code, reason, outcome)| async move {
        let console = Console::saying(vec![(Step::Delete, says.to_vec())]).await;
        let failed = console.fail(by_id("id-1")).await;
        failed.expect(code, reason);
        console.app.expect_on_record(&failed);
        let (attempts, told) = (
            says.len().to_string(),
            (failed.meta("attempts"), failed.meta("outcome")),
        );
        assert_eq!(told, (attempts.as_str(), outcome), "{says:?}");
        let answered = !matches!(says.last(), Some(Reset));
        assert_eq!(
            failed.metadata.contains_key("upstream_http_status"),
            answered,
            "{says:?}"
        );
        assert_eq!(console.count(Step::Delete), says.len(), "{says:?}");
    }))
    .await;
}

/// The session expires in another call while this one waits for its response. The response is lost, and no new session
/// can be created for a retry.
#[tokio::test]
async fn unknown_outcome_is_kept_if_logons_are_suspended() {
    join_all(
        [Hmc(403, 0), Hmc(400, 13), Html(403), Html(501)].map(|say| async move {
            let (gate, dead) = (Arc::new(Barrier::new(2)), AtomicBool::new(false));
            let closed = Arc::clone(&gate);
            let what = say.to_string();
            let console = Console::start(move |request| match Step::of(request) {
                Step::Delete => {
                    dead.store(true, Ordering::SeqCst);
                    Reply::Together(Arc::clone(&closed), Box::new(Reply::Close))
                }
                Step::Logon if dead.load(Ordering::SeqCst) => say.reply(request),
                Step::Read if dead.load(Ordering::SeqCst) => refusal(request, 403, 5),
                _ => usual(request, 1),
            })
            .await;
            let other = async {
                console.upstream.until("DELETE", "/api/users/id-1", 1).await;
                let failed = console.fail(by_id("id-1")).await;
                let told = (failed.meta("attempts"), failed.meta("outcome"));
                assert_eq!(told, ("0", "not_sent"), "{failed:?}");
                gate.wait().await;
            };
            let (failed, ()) = tokio::join!(console.fail(by_id("id-1")), other);
            failed.expect(Unavailable, "OUTCOME_UNKNOWN");
            let told = (failed.meta("attempts"), failed.meta("outcome"));
            assert_eq!(told, ("1", "unknown"), "{what}");
            assert!(
                failed.retry_delay.is_some() && failed.hmc.is_none(),
                "{what}: {failed:?}"
            );
            assert_eq!(console.count(Step::Delete), 1, "{what}");
            // After a failure other than a refusal, the second logon may still wait for the end of a pause.
            let least = if what.starts_with("403") { 3 } else { 2 };
            let logons = console.count(Step::Logon);
            assert!((least..=3).contains(&logons), "{what}: {logons}");
        }),
    )
    .await;
}

/// The last response reported an expired session, which could not be replaced; the outcome still covers the lost
/// response before it.
#[tokio::test]
async fn failed_logon_between_attempts_keeps_first_outcome() {
    let script = vec![
        (Step::Delete, vec![Reset, Hmc(403, 5)]),
        (Step::Logon, vec![Usual, Hmc(403, 0)]),
    ];
    let console = Console::saying(script).await;
    let failed = console.fail(by_id("id-1")).await;
    failed.expect(Internal, "UPSTREAM_CREDENTIALS_REJECTED");
    assert_eq!(
        (failed.meta("attempts"), failed.meta("outcome")),
        ("2", "unknown")
    );
}
