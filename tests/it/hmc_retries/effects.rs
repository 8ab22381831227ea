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
    HmcSetup, Reply,
    ScriptedReply::{self, Default, Empty, Hmc, Html, Reset},
    Step, default_reply, delete_by_id, error_reply,
};

/// The responses to the DELETEs of one call, `allow_missing`, and the outcome.
#[rustfmt::skip]
const SUCCESSES: [(&[ScriptedReply], bool, DeleteOutcome); 18] = [
    (&[Reset, Default], false, Deleted),
    (&[Reset, Reset, Default], false, Deleted),
    (&[Html(503), Hmc(429, 1), Default], false, Deleted),
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
    join_all(
        SUCCESSES.map(|(replies, allow_missing, expected)| async move {
            let setup = HmcSetup::with_replies(vec![(Step::Delete, replies.to_vec())]).await;
            let mut request = delete_by_id("id-1");
            request.allow_missing = allow_missing;
            let response = setup.app.delete_hmc_user(request).await;
            let response = response.unwrap_or_else(|failure| panic!("{replies:?}: {failure:?}"));
            setup.app.assert_recorded(&response);
            let actual = (response.outcome(), response.attempts as usize);
            assert_eq!(actual, (expected, replies.len()), "{replies:?}");
            assert_eq!(setup.count(Step::Delete), replies.len(), "{replies:?}");
        }),
    )
    .await;
}

/// The responses to the DELETEs of one call; code, reason and outcome.
#[rustfmt::skip]
const FAILURES: [(&[ScriptedReply], Code, &str, &str); 16] = [
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
    join_all(FAILURES.map(|(replies, code, reason, outcome)| async move {
        let setup = HmcSetup::with_replies(vec![(Step::Delete, replies.to_vec())]).await;
        let failure = setup.fail(delete_by_id("id-1")).await;
        failure.expect(code, reason);
        setup.app.assert_recorded(&failure);
        let (attempts, actual) = (
            replies.len().to_string(),
            (
                failure.metadata_value("attempts"),
                failure.metadata_value("outcome"),
            ),
        );
        assert_eq!(actual, (attempts.as_str(), outcome), "{replies:?}");
        // The user is still there, so reading it does not change the outcome.
        let is_refused = reason.ends_with("PERMISSION_DENIED") || reason.ends_with("REJECTED");
        let observed = if outcome == "unknown" && !is_refused {
            "present"
        } else {
            ""
        };
        assert_eq!(failure.metadata_value("observed"), observed, "{replies:?}");
        let answered = !matches!(replies.last(), Some(Reset));
        assert_eq!(
            failure.metadata.contains_key("upstream_http_status"),
            answered,
            "{replies:?}"
        );
        assert_eq!(setup.count(Step::Delete), replies.len(), "{replies:?}");
    }))
    .await;
}

/// The session expires in another call while this one waits for its response. The response is lost, and no new session
/// can be created for a retry.
#[tokio::test]
async fn unknown_outcome_is_kept_if_logons_are_suspended() {
    join_all(
        [Hmc(403, 0), Hmc(400, 13), Html(403), Html(501)].map(|reply| async move {
            let (gate, dead) = (Arc::new(Barrier::new(2)), AtomicBool::new(false));
            let barrier = Arc::clone(&gate);
            let case = reply.to_string();
            let setup = HmcSetup::start(move |request| match Step::of(request) {
                Step::Delete => {
                    dead.store(true, Ordering::SeqCst);
                    Reply::AtBarrier(Arc::clone(&barrier), Box::new(Reply::Close))
                }
                Step::Logon if dead.load(Ordering::SeqCst) => reply.reply(request),
                Step::Read if dead.load(Ordering::SeqCst) => error_reply(request, 403, 5),
                _ => default_reply(request, 1),
            })
            .await;
            let other = async {
                setup
                    .upstream
                    .wait_for_requests("DELETE", "/api/users/id-1", 1)
                    .await;
                let failure = setup.fail(delete_by_id("id-1")).await;
                let actual = (
                    failure.metadata_value("attempts"),
                    failure.metadata_value("outcome"),
                );
                assert_eq!(actual, ("0", "not_sent"), "{failure:?}");
                gate.wait().await;
            };
            let (failure, ()) = tokio::join!(setup.fail(delete_by_id("id-1")), other);
            failure.expect(Unavailable, "OUTCOME_UNKNOWN");
            let actual = (
                failure.metadata_value("attempts"),
                failure.metadata_value("outcome"),
            );
            assert_eq!(actual, ("1", "unknown"), "{case}");
            assert!(
                failure.retry_delay.is_some() && failure.hmc.is_none(),
                "{case}: {failure:?}"
            );
            assert_eq!(setup.count(Step::Delete), 1, "{case}");
            // After a failure other than a refusal, the second logon may still wait for the end of a pause.
            let min = if case.starts_with("403") { 3 } else { 2 };
            let logons = setup.count(Step::Logon);
            assert!((min..=3).contains(&logons), "{case}: {logons}");
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
        (Step::Logon, vec![Default, Hmc(403, 0)]),
    ];
    let setup = HmcSetup::with_replies(script).await;
    let failure = setup.fail(delete_by_id("id-1")).await;
    failure.expect(Internal, "UPSTREAM_CREDENTIALS_REJECTED");
    assert_eq!(
        (
            failure.metadata_value("attempts"),
            failure.metadata_value("outcome")
        ),
        ("2", "unknown")
    );
}
