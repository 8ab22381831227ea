//! An expired session is renewed once in a call, and once for all calls.

use std::{collections::BTreeMap, sync::Arc};

use futures_util::future::join_all;
use tokio::sync::Barrier;
use tonic::Code::{Internal, PermissionDenied};
use useradmin::proto::DeleteOutcome;
use useradmin_testkit::{
    HmcSetup, ReceivedRequest, Reply,
    ScriptedReply::{Default, Empty, Hmc, Html},
    Step, default_reply, delete_by_id, delete_by_name, error_reply,
};

/// A call that finds the session expired at each of these steps in turn, with the number of DELETEs started, or the
/// final error.
#[tokio::test]
async fn session_is_renewed_once_per_call() {
    let rows = [
        (Step::Read, vec![Hmc(403, 4), Default], Ok(1)),
        (Step::Read, vec![Hmc(403, 5), Default], Ok(1)),
        (Step::Delete, vec![Hmc(403, 4), Default], Ok(2)),
        (Step::Delete, vec![Hmc(403, 5), Default], Ok(2)),
        (Step::Read, vec![Hmc(401, 0), Default], Ok(1)),
        (Step::Read, vec![Html(401), Default], Ok(1)),
        (Step::Read, vec![Empty(401), Default], Ok(1)),
        (Step::Delete, vec![Hmc(401, 0), Default], Ok(2)),
        (Step::Delete, vec![Html(401), Default], Ok(2)),
        (Step::Delete, vec![Empty(401), Default], Ok(2)),
        (Step::Read, vec![Html(401)], Err(0)),
        (Step::Read, vec![Hmc(403, 5), Empty(401)], Err(0)),
        (Step::Delete, vec![Empty(401)], Err(2)),
        (Step::Delete, vec![Html(401), Hmc(403, 4)], Err(2)),
        (Step::Read, vec![Hmc(403, 5)], Err(0)),
        (Step::Read, vec![Hmc(403, 4), Hmc(403, 5)], Err(0)),
        (Step::Delete, vec![Hmc(403, 5)], Err(2)),
        (Step::Delete, vec![Hmc(403, 5), Hmc(403, 4)], Err(2)),
    ];
    join_all(rows.map(|(step, replies, expected)| async move {
        let case = format!("{step:?} {replies:?}");
        let setup = HmcSetup::with_replies(vec![(step, replies)]).await;
        let got = match setup.app.delete_hmc_user(delete_by_id("id-1")).await {
            Ok(response) => Ok(response.attempts as usize),
            Err(failure) => {
                failure.expect(Internal, "UPSTREAM_CREDENTIALS_REJECTED");
                assert!(failure.retry_delay.is_none(), "{case}");
                let outcome = if step == Step::Read {
                    "not_sent"
                } else {
                    "not_deleted"
                };
                assert_eq!(failure.metadata_value("outcome"), outcome, "{case}");
                Err(failure.metadata_value("attempts").parse().unwrap())
            }
        };
        assert_eq!(got, expected, "{case}");
        assert_eq!(setup.count(Step::Logon), 2, "{case}");
        let (Ok(deletes) | Err(deletes)) = expected;
        assert_eq!(setup.count(Step::Delete), deletes, "{case}");
        let last = setup.requests_of(step).pop().unwrap();
        assert_eq!(
            last.header("x-api-session"),
            Some("kanari-session-2"),
            "{case}"
        );
    }))
    .await;
}

#[tokio::test]
async fn session_expired_at_lookup_is_renewed() {
    let setup = HmcSetup::with_replies(vec![(Step::List, vec![Hmc(403, 5), Default])]).await;
    let response = setup
        .app
        .delete_hmc_user(delete_by_name("alice"))
        .await
        .unwrap();
    assert_eq!(
        (response.outcome(), response.attempts),
        (DeleteOutcome::Deleted, 1)
    );
    assert_eq!((setup.count(Step::Logon), setup.count(Step::List)), (2, 2));
}

#[tokio::test]
async fn call_does_not_renew_session_twice() {
    let script = vec![
        (Step::Read, vec![Hmc(403, 5), Default]),
        (Step::Delete, vec![Hmc(403, 5)]),
    ];
    let setup = HmcSetup::with_replies(script).await;
    let failure = setup.fail(delete_by_id("id-1")).await;
    failure.expect(Internal, "UPSTREAM_CREDENTIALS_REJECTED");
    assert_eq!(
        (
            failure.metadata_value("attempts"),
            failure.metadata_value("outcome")
        ),
        ("1", "not_deleted")
    );
    assert_eq!(setup.count(Step::Logon), 2);
}

#[tokio::test]
async fn missing_permission_does_not_renew_session() {
    let setup = HmcSetup::with_replies(vec![(Step::Delete, vec![Hmc(403, 1)])]).await;
    for _ in 0..3 {
        let failure = setup.fail(delete_by_id("id-1")).await;
        failure.expect(PermissionDenied, "UPSTREAM_PERMISSION_DENIED");
    }
    assert_eq!(
        (setup.count(Step::Logon), setup.count(Step::Logoff)),
        (1, 0)
    );
}

#[tokio::test]
async fn replaced_session_is_closed() {
    let setup = HmcSetup::with_replies(vec![(Step::Delete, vec![Hmc(403, 5), Default])]).await;
    setup
        .app
        .delete_hmc_user(delete_by_id("id-1"))
        .await
        .unwrap();
    setup
        .upstream
        .wait_for_requests("DELETE", "/api/sessions/this-session", 1)
        .await;
    let HmcSetup { app, upstream } = setup;
    app.stop().await;
    let ended = upstream.requests("DELETE", "/api/sessions/this-session");
    let ended: Vec<_> = ended
        .iter()
        .map(|off| off.header("x-api-session").unwrap())
        .collect();
    assert_eq!(ended, ["kanari-session-1", "kanari-session-2"]);
}

/// Simulates an HMC whose first session expires as soon as `calls` requests of this step wait for a response.
fn hmc_with_expiring_session(
    step: Step,
    reason: u32,
    calls: usize,
) -> impl FnMut(&ReceivedRequest) -> Reply + Send + 'static {
    let together = Arc::new(Barrier::new(calls));
    let mut counts: BTreeMap<bool, usize> = BTreeMap::new();
    move |request| {
        let is_logon = Step::of(request) == Step::Logon;
        let nth = counts.entry(is_logon).or_default();
        *nth += 1;
        let has_old_credential = request.header("x-api-session") == Some("kanari-session-1");
        if has_old_credential && Step::of(request) == step {
            let refusal = Box::new(error_reply(request, 403, reason));
            return Reply::AtBarrier(Arc::clone(&together), refusal);
        }
        default_reply(request, *nth)
    }
}

#[tokio::test]
async fn concurrent_calls_share_one_renewal_logon() {
    const CALLS: usize = 100;
    let rows = [
        (Step::Delete, 4, 2),
        (Step::Delete, 5, 2),
        (Step::Read, 4, 1),
        (Step::Read, 5, 1),
    ];
    join_all(rows.map(|(step, reason, attempts)| async move {
        let limits = format!("max_in_flight = {CALLS}\n");
        let setup = HmcSetup::with(&limits, hmc_with_expiring_session(step, reason, CALLS)).await;
        let calls = (0..CALLS).map(|_| setup.app.delete_hmc_user(delete_by_id("id-1")));
        for response in join_all(calls).await {
            let response = response.unwrap();
            assert_eq!(
                (response.outcome(), response.attempts),
                (DeleteOutcome::Deleted, attempts)
            );
        }
        let deletes = CALLS * attempts as usize;
        assert_eq!(
            (setup.count(Step::Logon), setup.count(Step::Delete)),
            (2, deletes)
        );
        setup
            .upstream
            .wait_for_requests("DELETE", "/api/sessions/this-session", 1)
            .await;
        assert_eq!(setup.count(Step::Logoff), 1);
    }))
    .await;
}
