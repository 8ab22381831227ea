//! Two callers delete the same user at the same time: one call deletes it, the other reports that it does not exist,
//! and the audit records agree.

use std::{collections::BTreeSet, sync::Arc};

use tokio::sync::Barrier;
use tonic::Code;
use useradmin::proto::{DeleteBatchNodeUserRequest, DeleteOutcome};
use useradmin_testkit::{
    App, CallFailure, HmcSetup, Reply, Step, batch_deleted, batch_error, batch_request,
    default_reply, delete_by_id, error_reply, start_batch,
};

/// `allow_missing`, the result of the second call, and the recorded outcomes of both calls, each with one attempt.
const ROWS: [(bool, &str, [&str; 2]); 2] = [
    (false, "USER_NOT_FOUND", ["deleted", "not_deleted"]),
    (true, "AlreadyAbsent", ["already_absent", "deleted"]),
];

/// Returns the result of one of the calls.
fn describe_result<T>(
    response: Result<T, CallFailure>,
    outcome: impl Fn(&T) -> (DeleteOutcome, u32),
) -> String {
    match response {
        Ok(result) => {
            let (outcome, attempts) = outcome(&result);
            assert_eq!(attempts, 1);
            format!("{outcome:?}")
        }
        Err(failure) => {
            failure.expect(Code::NotFound, "USER_NOT_FOUND");
            let describe = (
                failure.metadata_value("attempts"),
                failure.metadata_value("outcome"),
            );
            assert_eq!(describe, ("1", "not_deleted"));
            "USER_NOT_FOUND".to_owned()
        }
    }
}

/// Asserts that the audit log has an intent and one outcome for each of the two calls.
#[track_caller]
fn expect_records(app: &App, expected: [&str; 2]) {
    let records = app.audit();
    let ids = records
        .iter()
        .map(|record| record["request_id"].to_string());
    let ids: BTreeSet<_> = ids.collect();
    assert_eq!((ids.len(), records.len()), (2, 4), "{records:?}");
    let mut outcomes: Vec<_> = records
        .iter()
        .filter(|record| record["event"] == "outcome")
        .map(|record| {
            assert_eq!(record["attempts"], 1);
            record["outcome"].as_str().unwrap()
        })
        .collect();
    outcomes.sort_unstable();
    assert_eq!(outcomes, expected);
}

#[tokio::test]
async fn one_of_two_concurrent_calls_deletes_batch_user() {
    for (allow_missing, of_the_other, recorded) in ROWS {
        let both = Arc::new(Barrier::new(2));
        let mut responses = vec![batch_error(404, "NodeUserNotFound"), batch_deleted()];
        let (app, upstream) = start_batch(move |_| {
            let response = responses.pop().unwrap();
            Reply::AtBarrier(Arc::clone(&both), Box::new(response))
        })
        .await;
        let request = DeleteBatchNodeUserRequest {
            allow_missing,
            ..batch_request("alice")
        };
        let call = async || {
            let response = app.delete_batch_node_user(request.clone()).await;
            describe_result(response, |result| (result.outcome(), result.attempts))
        };
        let describe = tokio::join!(call(), call());
        let expected = BTreeSet::from(["Deleted".to_owned(), of_the_other.to_owned()]);
        assert_eq!(BTreeSet::from([describe.0, describe.1]), expected);
        assert_eq!(upstream.requests("DELETE", "").len(), 2);
        expect_records(&app, recorded);
    }
}

#[tokio::test]
async fn one_of_two_concurrent_calls_deletes_hmc_user() {
    for (allow_missing, of_the_other, recorded) in ROWS {
        let (both, mut deletes) = (Arc::new(Barrier::new(2)), 0);
        let setup = HmcSetup::start(move |received| match Step::of(received) {
            Step::Delete => {
                deletes += 1;
                let response = if deletes == 1 {
                    Reply::empty(204)
                } else {
                    error_reply(received, 404, 1)
                };
                Reply::AtBarrier(Arc::clone(&both), Box::new(response))
            }
            _ => default_reply(received, 1),
        })
        .await;
        let mut request = delete_by_id("id-1");
        request.allow_missing = allow_missing;
        let call = async || {
            let response = setup.app.delete_hmc_user(request.clone()).await;
            describe_result(response, |result| (result.outcome(), result.attempts))
        };
        let describe = tokio::join!(call(), call());
        let expected = BTreeSet::from(["Deleted".to_owned(), of_the_other.to_owned()]);
        assert_eq!(BTreeSet::from([describe.0, describe.1]), expected);
        assert_eq!(setup.count(Step::Delete), 2);
        expect_records(&setup.app, recorded);
    }
}
