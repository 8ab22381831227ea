//! Behaviour of a call after a failed attempt: retried responses, the number of attempts, and the result if the effect
//! of a DELETE is unknown.

use std::time::Duration;

use futures_util::future::join_all;
use tonic::Code::{
    self, Cancelled, DeadlineExceeded, FailedPrecondition, Internal, NotFound, ResourceExhausted,
    Unavailable,
};
use useradmin::proto::{
    DeleteBatchNodeUserRequest,
    DeleteOutcome::{self, AbsentAfterRetry, AlreadyAbsent, Deleted},
};
use useradmin_testkit::{
    Reply, batch_deleted, batch_error, batch_request, batch_with_timeout, in_sequence, start_batch,
};

/// Returns the replies of the upstream, one for each word of the script.
fn replies(script: &str) -> Vec<Reply> {
    let reply = |word: &str| match word {
        "reset" => Reply::Close,
        "half" => Reply::Raw(b"HTTP/1.1 20".to_vec()),
        "hang" => Reply::Hang,
        "deleted" => batch_deleted(),
        "proxy-404" => Reply::html(404),
        "user" => batch_error(404, "NodeUserNotFound"),
        "node" => batch_error(404, "NodeNotFound"),
        "pool" => batch_error(404, "PoolNotFound"),
        "resource" => batch_error(404, "ResourceNotFound"),
        "nameless" => batch_error(404, "Nameless"),
        "unusable" => batch_error(409, "NodeStateUnusable"),
        "timed-out" => batch_error(500, "OperationTimedOut"),
        "refused" => batch_error(401, "AuthenticationFailed"),
        status => Reply::html(status.parse().unwrap()),
    };
    script.split(' ').map(reply).collect()
}

enum Expected {
    Done(DeleteOutcome),
    CallFailure(Code, &'static str, &'static str),
}

use Expected::{CallFailure, Done};

/// Script (one word for each attempt), `allow_missing`, and the expected result.
#[rustfmt::skip]
const ROWS: &[(&str, bool, Expected)] = &[
    ("deleted", false, Done(Deleted)),
    ("reset deleted", false, Done(Deleted)),
    ("half deleted", false, Done(Deleted)),
    ("refused reset deleted", false, Done(Deleted)),
    ("reset refused deleted", false, Done(Deleted)),
    ("429 503 deleted", false, Done(Deleted)),
    ("500 502 deleted", false, Done(Deleted)),
    // A 404 for the user after an attempt that may have deleted it.
    ("reset user", false, Done(AbsentAfterRetry)),
    ("reset user", true, Done(AbsentAfterRetry)),
    ("half user", false, Done(AbsentAfterRetry)),
    ("408 user", false, Done(AbsentAfterRetry)),
    ("500 user", false, Done(AbsentAfterRetry)),
    ("502 user", false, Done(AbsentAfterRetry)),
    ("504 user", false, Done(AbsentAfterRetry)),
    ("timed-out user", false, Done(AbsentAfterRetry)),
    ("reset 503 user", false, Done(AbsentAfterRetry)),
    ("429 500 user", true, Done(AbsentAfterRetry)),
    // A 404 for the user after attempts that certainly did not delete it.
    ("user", false, CallFailure(NotFound, "USER_NOT_FOUND", "not_deleted")),
    ("user", true, Done(AlreadyAbsent)),
    ("429 user", false, CallFailure(NotFound, "USER_NOT_FOUND", "not_deleted")),
    ("429 user", true, Done(AlreadyAbsent)),
    ("503 user", false, CallFailure(NotFound, "USER_NOT_FOUND", "not_deleted")),
    ("503 503 user", true, Done(AlreadyAbsent)),
    ("refused user", false, CallFailure(NotFound, "USER_NOT_FOUND", "not_deleted")),
    ("refused user", true, Done(AlreadyAbsent)),
    // No other 404 is a success.
    ("node", true, CallFailure(NotFound, "NODE_NOT_FOUND", "not_deleted")),
    ("pool", true, CallFailure(NotFound, "POOL_NOT_FOUND", "not_deleted")),
    ("resource", true, CallFailure(NotFound, "UPSTREAM_RESOURCE_NOT_FOUND", "not_deleted")),
    ("nameless", true, CallFailure(NotFound, "UPSTREAM_RESOURCE_NOT_FOUND", "not_deleted")),
    ("proxy-404", true, CallFailure(Unavailable, "UPSTREAM_PROTOCOL_ERROR", "unknown")),
    ("reset node", true, CallFailure(NotFound, "NODE_NOT_FOUND", "unknown")),
    ("500 pool", true, CallFailure(NotFound, "POOL_NOT_FOUND", "unknown")),
    ("reset resource", true, CallFailure(NotFound, "UPSTREAM_RESOURCE_NOT_FOUND", "unknown")),
    ("reset proxy-404", true, CallFailure(Unavailable, "UPSTREAM_PROTOCOL_ERROR", "unknown")),
    // The reason is that of the last response; the outcome covers all attempts.
    ("reset unusable", false, CallFailure(FailedPrecondition, "NODE_UNUSABLE", "unknown")),
    ("503 unusable", false, CallFailure(FailedPrecondition, "NODE_UNUSABLE", "not_deleted")),
    ("reset reset reset", false, CallFailure(Unavailable, "OUTCOME_UNKNOWN", "unknown")),
    ("503 429 reset", false, CallFailure(Unavailable, "OUTCOME_UNKNOWN", "unknown")),
    ("reset reset 503", false, CallFailure(Unavailable, "UPSTREAM_UNAVAILABLE", "unknown")),
    ("reset reset 429", false, CallFailure(ResourceExhausted, "UPSTREAM_THROTTLED", "unknown")),
    ("503 503 503", false, CallFailure(Unavailable, "UPSTREAM_UNAVAILABLE", "not_deleted")),
    ("503 503 500", false, CallFailure(Unavailable, "UPSTREAM_UNAVAILABLE", "unknown")),
    ("500 500 timed-out", false, CallFailure(DeadlineExceeded, "UPSTREAM_TIMED_OUT", "unknown")),
    ("500 502 refused", false, CallFailure(Internal, "UPSTREAM_CREDENTIALS_REJECTED", "unknown")),
    ("refused refused", false, CallFailure(Internal, "UPSTREAM_CREDENTIALS_REJECTED", "not_deleted")),
    ("refused 500 refused", false, CallFailure(Internal, "UPSTREAM_CREDENTIALS_REJECTED", "unknown")),
];

#[tokio::test]
async fn attempts_are_combined_into_one_result() {
    let calls = ROWS
        .iter()
        .map(|(script, allow_missing, expected)| async move {
            let replies = replies(script);
            let attempts = u32::try_from(replies.len()).unwrap();
            let (app, upstream) = start_batch(in_sequence(replies)).await;
            let request = DeleteBatchNodeUserRequest {
                allow_missing: *allow_missing,
                ..batch_request("alice")
            };
            match (app.delete_batch_node_user(request).await, expected) {
                (Ok(result), Done(outcome)) => {
                    app.assert_recorded(&result);
                    assert_eq!(
                        (result.outcome(), result.attempts),
                        (*outcome, attempts),
                        "{script}"
                    );
                }
                (Err(failure), CallFailure(code, reason, outcome)) => {
                    failure.expect(*code, reason);
                    app.assert_recorded(&failure);
                    assert_eq!(
                        failure.metadata_value("attempts"),
                        attempts.to_string(),
                        "{script}"
                    );
                    assert_eq!(failure.metadata_value("outcome"), *outcome, "{script}");
                }
                (response, _) => panic!("{script}: {response:?}"),
            }
            let sent = upstream.requests("DELETE", "/pools/pool-1/nodes/node-1/users/alice?");
            assert_eq!(sent.len(), attempts as usize, "{script}");
        });
    join_all(calls).await;
}

/// Makes a call that lasts until its deadline. On a busy machine the client may cancel it before the answer arrives.
async fn failure_at_deadline(script: &'static str) -> useradmin_testkit::CallFailure {
    for _ in 0..5 {
        let (app, _upstream) = start_batch(in_sequence(replies(script))).await;
        let timeout = Duration::from_millis(1_100);
        let failure = batch_with_timeout(&app, batch_request("alice"), timeout).await;
        let failure = failure.unwrap_err();
        if failure.code != Cancelled {
            return failure;
        }
    }
    panic!("no answer before the deadline");
}

#[tokio::test]
async fn last_attempt_may_use_all_remaining_time() {
    let calls = ["hang", "reset hang", "503 hang"].map(|script| async move {
        let failure = failure_at_deadline(script).await;
        failure.expect(DeadlineExceeded, "OUTCOME_UNKNOWN");
        let attempts = replies(script).len();
        assert_eq!(
            failure.metadata_value("attempts"),
            attempts.to_string(),
            "{script}"
        );
        assert_eq!(failure.metadata_value("outcome"), "unknown", "{script}");
    });
    join_all(calls).await;
}
