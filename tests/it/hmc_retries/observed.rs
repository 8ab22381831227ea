//! The read of the user after a DELETE with an unknown effect.

use std::{
    slice,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use tonic::Code::{DeadlineExceeded, FailedPrecondition, Internal, PermissionDenied, Unavailable};
use useradmin::proto::DeleteOutcome;
use useradmin_testkit::{
    CallFailure, HmcSetup,
    ScriptedReply::{self, Default, Empty, Hang, Hmc, Html, Json, Reset},
    Step, delete_by_id, delete_by_name, with_timeout,
};

/// DELETEs whose effect is unknown, and after which no further attempt is made.
const UNKNOWN: [&[ScriptedReply]; 6] = [
    &[Reset, Reset, Reset],
    &[Hmc(500, 12), Html(502), Html(504)],
    &[Empty(200)],
    &[Html(302)],
    &[Html(404)],
    &[Reset, Hmc(409, 321)],
];

/// Returns a script for a user that is given by name, so that the only reads are those after the DELETEs.
fn script(deletes: &[ScriptedReply], reads: &[ScriptedReply]) -> Vec<(Step, Vec<ScriptedReply>)> {
    vec![
        (Step::Delete, deletes.to_vec()),
        (Step::Read, reads.to_vec()),
    ]
}

#[tokio::test]
async fn absent_user_was_deleted() {
    let reads: [&[ScriptedReply]; 4] = [
        &[Hmc(404, 1)],
        &[Reset, Hmc(404, 1)],
        &[Hmc(503, 1), Html(502), Hmc(404, 1)],
        // The session has expired. The absence counts only with a session that is accepted.
        &[Hmc(403, 5), Hmc(404, 1)],
    ];
    let cases = UNKNOWN
        .iter()
        .flat_map(|deletes| reads.map(|reads| (*deletes, reads)));
    join_all(cases.map(|(deletes, reads)| async move {
        let setup = HmcSetup::with_replies(script(deletes, reads)).await;
        let response = setup.app.delete_hmc_user(delete_by_name("alice")).await;
        let response = response.unwrap_or_else(|failure| panic!("{deletes:?}: {failure:?}"));
        assert_eq!(
            response.outcome(),
            DeleteOutcome::AbsentAfterRetry,
            "{deletes:?}"
        );
        assert_eq!(response.attempts as usize, deletes.len());
        assert_eq!(response.user_id, "id-1");
        let read = setup.requests_of(Step::Read);
        assert_eq!(read.len(), reads.len(), "{deletes:?} {reads:?}");
        assert!(
            read.iter()
                .all(|request| request.target == "/api/users/id-1")
        );
        setup.app.assert_recorded(&response);
    }))
    .await;
}

/// Responses to the read that do not prove absence, and the expected `observed`.
const OTHER_READS: [(ScriptedReply, &str); 10] = [
    (Default, "present"),
    (
        Json(
            200,
            "pattern-based",
            r#"{"name":"alice","type":"pattern-based"}"#,
        ),
        "present",
    ),
    (
        Json(
            200,
            "another user",
            r#"{"object-id":"id-2","name":"alice"}"#,
        ),
        "",
    ),
    (Json(200, "no name", "{}"), ""),
    (Html(404), ""),
    (Hmc(404, 2), ""),
    (Hmc(403, 1), ""),
    (Hmc(403, 5), ""),
    (Html(401), ""),
    (Reset, ""),
];

#[tokio::test]
async fn other_reads_leave_outcome_unknown() {
    join_all(OTHER_READS.map(|(read, observed)| async move {
        let deletes = [Reset, Reset, Reset];
        let setup = HmcSetup::with_replies(script(&deletes, slice::from_ref(&read))).await;
        let mut request = delete_by_name("alice");
        request.allow_missing = true;
        let failure = setup.fail(request).await;
        failure.expect(Unavailable, "OUTCOME_UNKNOWN");
        assert_eq!(failure.metadata_value("outcome"), "unknown");
        assert_eq!(failure.metadata_value("observed"), observed, "{read}");
        assert_eq!(setup.count(Step::Delete), 3);
        setup.app.assert_recorded(&failure);
    }))
    .await;
}

/// The read is sent only if the effect is unknown.
#[tokio::test]
async fn certain_outcome_needs_no_read() {
    let cases: [&[ScriptedReply]; 4] = [
        &[Default],
        &[Hmc(403, 1)],
        &[Hmc(404, 1)],
        &[Hmc(503, 1), Hmc(429, 1), Hmc(503, 1)],
    ];
    join_all(cases.map(|deletes| async move {
        let setup = HmcSetup::with_replies(script(deletes, &[Default])).await;
        let _ended = setup.app.delete_hmc_user(delete_by_name("alice")).await;
        assert_eq!(setup.count(Step::Delete), deletes.len());
        assert_eq!(setup.count(Step::Read), 0, "{deletes:?}");
    }))
    .await;
}

/// A read without a response does not delay the call beyond its deadline, and no read starts without time for it.
#[tokio::test]
async fn read_ends_with_the_deadline() {
    let cases: [(&[ScriptedReply], usize); 2] = [(&[Html(404)], 1), (&[Hang], 0)];
    join_all(cases.map(|(deletes, reads)| async move {
        let setup = HmcSetup::with_replies(script(deletes, &[Hang])).await;
        let (failure, took) = setup.fail_in_time(delete_by_name("alice"), 1_500).await;
        assert!(took < Duration::from_millis(1_500));
        assert_eq!(failure.metadata_value("outcome"), "unknown", "{failure:?}");
        assert_eq!(failure.metadata_value("observed"), "");
        assert_eq!(setup.count(Step::Read), reads);
    }))
    .await;
}

/// A DELETE without a response leaves time for the read.
#[tokio::test]
async fn missing_response_leaves_time_for_the_read() {
    for (reads, observed) in [(Hmc(404, 1), None), (Default, Some("present"))] {
        let setup = HmcSetup::with_replies(script(&[Hang], &[reads])).await;
        let request = with_timeout(delete_by_name("alice"), 3_000);
        let response = setup.app.client().delete_hmc_user(request).await;
        match observed {
            None => {
                let response = response.unwrap().into_inner();
                assert_eq!(response.outcome(), DeleteOutcome::AbsentAfterRetry);
            }
            Some(observed) => {
                let failure = CallFailure::from(response.unwrap_err());
                failure.expect(DeadlineExceeded, "OUTCOME_UNKNOWN");
                assert_eq!(failure.metadata_value("observed"), observed);
            }
        }
        assert_eq!(setup.count(Step::Delete), 1);
    }
}

/// A refusal that follows an unknown outcome keeps its reason.
#[tokio::test]
async fn present_user_keeps_reason_of_last_response() {
    let setup = HmcSetup::with_replies(vec![(Step::Delete, vec![Reset, Hmc(409, 320)])]).await;
    let failure = setup.fail(delete_by_id("id-1")).await;
    failure.expect(FailedPrecondition, "AUTOMATIC_LOGON_USER");
    assert_eq!(failure.metadata_value("observed"), "present");
    assert_eq!(setup.count(Step::Read), 2);
}

/// Without a permission or a session, a missing user may be one that the service cannot see.
#[tokio::test]
async fn refused_service_does_not_read_again() {
    let rows = [
        (
            vec![Reset, Hmc(403, 1)],
            PermissionDenied,
            "UPSTREAM_PERMISSION_DENIED",
        ),
        (
            vec![Reset, Hmc(403, 5), Hmc(403, 5)],
            Internal,
            "UPSTREAM_CREDENTIALS_REJECTED",
        ),
    ];
    for (deletes, code, reason) in rows {
        let setup = HmcSetup::with_replies(script(&deletes, &[Hmc(404, 1)])).await;
        let failure = setup.fail(delete_by_name("alice")).await;
        failure.expect(code, reason);
        assert_eq!(failure.metadata_value("outcome"), "unknown");
        assert_eq!(setup.count(Step::Read), 0);
    }
}

/// The read has a separate time limit, so that it does not keep a slot of a failing HMC.
#[tokio::test]
async fn hung_read_is_abandoned() {
    let setup = HmcSetup::with_replies(script(&[Html(404)], &[Hang])).await;
    let started = Instant::now();
    let failure = setup
        .fail(with_timeout(delete_by_name("alice"), 30_000))
        .await;
    failure.expect(Unavailable, "UPSTREAM_PROTOCOL_ERROR");
    assert!(started.elapsed() < Duration::from_secs(15));
}
