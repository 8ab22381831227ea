//! How long a call waits for a missing response, and for an HMC that asks for a pause.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tonic::Code::{DeadlineExceeded, ResourceExhausted, Unavailable};
use useradmin::proto::DeleteOutcome;
use useradmin_testkit::{
    HmcSetup,
    ScriptedReply::{Default, Hang, RetryAfter},
    Step, delete_by_id, with_timeout,
};

#[tokio::test]
async fn hung_request_ends_before_callers_deadline() {
    let rows = [
        (Step::Read, "DEADLINE_EXCEEDED", "0", "not_sent"),
        (Step::Delete, "OUTCOME_UNKNOWN", "1", "unknown"),
    ];
    join_all(rows.map(|(step, reason, attempts, outcome)| async move {
        let setup = HmcSetup::with_replies(vec![(step, vec![Hang])]).await;
        let (failure, elapsed) = setup.fail_in_time(delete_by_id("id-1"), 2_000).await;
        failure.expect(DeadlineExceeded, reason);
        assert_eq!(
            (
                failure.metadata_value("attempts"),
                failure.metadata_value("outcome")
            ),
            (attempts, outcome)
        );
        assert!(
            failure.retry_delay.is_some() && failure.hmc.is_none(),
            "{failure:?}"
        );
        assert!(elapsed >= Duration::from_millis(1_500), "{elapsed:?}");
    }))
    .await;
}

/// The service obeys a `Retry-After` that fits the deadline, and otherwise passes it on to the caller.
#[tokio::test]
async fn long_retry_after_is_returned_to_caller() {
    let rows = [
        (
            RetryAfter(429, 1, "7"),
            ResourceExhausted,
            "UPSTREAM_THROTTLED",
            7,
        ),
        (
            RetryAfter(503, 1, "7"),
            Unavailable,
            "UPSTREAM_UNAVAILABLE",
            7,
        ),
        (
            RetryAfter(503, 1, "0"),
            Unavailable,
            "UPSTREAM_UNAVAILABLE",
            1,
        ),
        (
            RetryAfter(503, 1, "Mon, 01 Jan 2001 00:00:00 GMT"),
            Unavailable,
            "UPSTREAM_UNAVAILABLE",
            1,
        ),
    ];
    join_all(rows.map(|(reply, code, reason, seconds)| async move {
        let setup = HmcSetup::with_replies(vec![(Step::Delete, vec![reply])]).await;
        let failure = setup.fail(with_timeout(delete_by_id("id-1"), 1_200)).await;
        failure.expect(code, reason);
        assert_eq!(failure.retry_delay.unwrap(), Duration::from_secs(seconds));
        assert_eq!(setup.count(Step::Delete), 1);
    }))
    .await;
}

#[tokio::test]
async fn retry_after_within_deadline_is_obeyed() {
    let setup =
        HmcSetup::with_replies(vec![(Step::Delete, vec![RetryAfter(503, 1, "1"), Default])]).await;
    let began = Instant::now();
    let response = setup
        .app
        .delete_hmc_user(delete_by_id("id-1"))
        .await
        .unwrap();
    assert_eq!(
        (response.outcome(), response.attempts),
        (DeleteOutcome::Deleted, 2)
    );
    assert!(began.elapsed() >= Duration::from_secs(1));
}
