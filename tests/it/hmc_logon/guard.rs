//! The lock-out guard: an HMC disables a user after a few wrong passwords, so the service stops sending the password
//! before that.

use std::fs;

use futures_util::future::join_all;
use tonic::Code::{Internal, Unavailable};
use useradmin::proto::DeleteOutcome;
use useradmin_testkit::{
    HmcSetup, Reply,
    ScriptedReply::{self, Custom, Default, Empty, Hmc, Html, Json},
    Step, delete_by_id,
};

fn new_password(setup: &HmcSetup, text: &str) {
    fs::write(setup.app.folder.join("hmc.password"), text).unwrap();
}

async fn expect_refused(setup: &HmcSetup) {
    let failure = setup.fail(delete_by_id("id-1")).await;
    failure.expect(Internal, "UPSTREAM_CREDENTIALS_REJECTED");
    assert_eq!(
        (
            failure.metadata_value("attempts"),
            failure.metadata_value("outcome")
        ),
        ("0", "not_sent")
    );
}

#[tokio::test]
async fn logons_are_suspended_after_two_refusals() {
    let partial = r#"{"api-session":"kanari-session-partial-1"}"#;
    let foreign = r#"{"error":"no"}"#;
    let refusals = [
        Hmc(403, 0),
        Hmc(403, 1),
        Hmc(403, 5),
        Html(403),
        Empty(403),
        Json(403, "foreign JSON", foreign),
        Hmc(401, 0),
        Html(401),
        Empty(401),
        Json(401, "foreign JSON", foreign),
        Hmc(409, 50),
        Hmc(409, 51),
        Json(201, "partial", partial),
        Empty(201),
        Html(201),
        // Successful status, but no session.
        Empty(200),
        Html(200),
        Json(200, "no session", r#"{"api-major-version":4}"#),
        Json(200, "empty session", r#"{"api-session":""}"#),
        Json(200, "number", r#"{"api-session":7}"#),
        Json(200, "null", r#"{"api-session":null}"#),
        Json(200, "array", r#"["kanari-session-1"]"#),
        Json(200, "incomplete JSON", r#"{"api-session":"kanari-se"#),
        Custom(200, "cut", |_| {
            let text =
                "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{\"api-session\":\"kanari-1\"}";
            Reply::Raw(text.into())
        }),
    ];
    let guarded = |reply: ScriptedReply| async move {
        let case = format!("{reply:?}");
        let without_session = reply
            .status_and_reason()
            .is_some_and(|(status, _)| status == 200);
        let setup =
            HmcSetup::with_replies(vec![(Step::Logon, vec![reply.clone(), reply, Default])]).await;
        for logons in [1, 2, 2, 2] {
            if logons == setup.count(Step::Logon) || !without_session {
                expect_refused(&setup).await;
            } else {
                let failure = setup.fail(delete_by_id("id-1")).await;
                failure.expect(Unavailable, "UPSTREAM_PROTOCOL_ERROR");
            }
            assert_eq!(setup.count(Step::Logon), logons, "{case}");
        }
        join_all((0..10).map(|_| expect_refused(&setup))).await;
        // The file was rewritten with the same password, which does not count as a new one.
        new_password(&setup, "kanari-password-1\r\n");
        expect_refused(&setup).await;
        assert_eq!(setup.count(Step::Logon), 2);

        new_password(&setup, "kanari-password-2");
        let request = delete_by_id("id-1");
        let response = setup.app.delete_hmc_user(request).await.unwrap();
        assert_eq!(response.outcome(), DeleteOutcome::Deleted);
        assert_eq!(setup.count(Step::Logon), 3);
    };
    join_all(refusals.map(guarded)).await;
}

#[tokio::test]
async fn changed_password_is_tried_at_most_twice() {
    let setup = HmcSetup::with_replies(vec![(Step::Logon, vec![Hmc(403, 0)])]).await;
    for _ in 0..3 {
        expect_refused(&setup).await;
    }
    new_password(&setup, "kanari-password-2");
    expect_refused(&setup).await;
    assert_eq!(setup.count(Step::Logon), 3);
    for _ in 0..3 {
        expect_refused(&setup).await;
    }
    assert_eq!(setup.count(Step::Logon), 4);
}

#[tokio::test]
async fn successful_logon_resets_the_count() {
    let script = vec![
        (
            Step::Logon,
            vec![Hmc(403, 0), Default, Hmc(403, 0), Default],
        ),
        (Step::Read, vec![Default, Hmc(403, 5), Default]),
    ];
    let setup = HmcSetup::with_replies(script).await;
    expect_refused(&setup).await;
    setup
        .app
        .delete_hmc_user(delete_by_id("id-1"))
        .await
        .unwrap();
    expect_refused(&setup).await;
    setup
        .app
        .delete_hmc_user(delete_by_id("id-1"))
        .await
        .unwrap();
    assert_eq!(setup.count(Step::Logon), 4);
}

#[tokio::test]
async fn hmc_failures_do_not_count_as_refusals() {
    let replies = vec![Hmc(500, 12), Html(500), Html(503), Default];
    let setup = HmcSetup::with_replies(vec![(Step::Logon, replies)]).await;
    let failure = setup.fail(delete_by_id("id-1")).await;
    failure.expect(Unavailable, "UPSTREAM_UNAVAILABLE");
    assert_eq!(setup.count(Step::Logon), 3);
    // Calls wait for a pause of up to a second.
    setup
        .app
        .delete_hmc_user(delete_by_id("id-1"))
        .await
        .unwrap();
    assert_eq!(setup.count(Step::Logon), 4);
}

#[tokio::test]
async fn concurrent_calls_share_one_refused_logon() {
    let setup = HmcSetup::with_replies(vec![(Step::Logon, vec![Hmc(403, 0)])]).await;
    join_all((0..30).map(|_| expect_refused(&setup))).await;
    // Callers that arrive after the first response may cause the second logon, but never a third.
    assert!((1..=2).contains(&setup.count(Step::Logon)));
}
