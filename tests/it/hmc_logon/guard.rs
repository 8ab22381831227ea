//! The lock-out guard: an HMC disables a user after a few wrong passwords, so the service stops sending the password
//! before that.

use std::fs;

use futures_util::future::join_all;
use tonic::Code::{Internal, Unavailable};
use useradmin::proto::DeleteOutcome;
use useradmin_testkit::{
    Console, Reply,
    Say::{self, Empty, Hmc, Html, Json, Made, Usual},
    Step, by_id,
};

fn new_password(console: &Console, text: &str) {
    fs::write(console.app.folder.join("hmc.password"), text).unwrap();
}

async fn expect_refused(console: &Console) {
    let failed = console.fail(by_id("id-1")).await;
    failed.expect(Internal, "UPSTREAM_CREDENTIALS_REJECTED");
    assert_eq!(
        (failed.meta("attempts"), failed.meta("outcome")),
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
        Made(200, "cut", |_| {
            let text =
                "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{\"api-session\":\"kanari-1\"}";
            Reply::Raw(text.into())
        }),
    ];
    let guarded = |say: Say| async move {
        let what = format!("{say:?}");
        let without_session = say.told().is_some_and(|(status, _)| status == 200);
        let console = Console::saying(vec![(Step::Logon, vec![say.clone(), say, Usual])]).await;
        for logons in [1, 2, 2, 2] {
            if logons == console.count(Step::Logon) || !without_session {
                expect_refused(&console).await;
            } else {
                let failed = console.fail(by_id("id-1")).await;
                failed.expect(Unavailable, "UPSTREAM_PROTOCOL_ERROR");
            }
            assert_eq!(console.count(Step::Logon), logons, "{what}");
        }
        join_all((0..10).map(|_| expect_refused(&console))).await;
        // The file was rewritten with the same password, which does not count as a new one.
        new_password(&console, "kanari-password-1\r\n");
        expect_refused(&console).await;
        assert_eq!(console.count(Step::Logon), 2);

        new_password(&console, "kanari-password-2");
        let done = console.app.delete_hmc_user(by_id("id-1")).await.unwrap();
        assert_eq!(done.outcome(), DeleteOutcome::Deleted);
        assert_eq!(console.count(Step::Logon), 3);
    };
    join_all(refusals.map(guarded)).await;
}

#[tokio::test]
async fn changed_password_is_tried_at_most_twice() {
    let console = Console::saying(vec![(Step::Logon, vec![Hmc(403, 0)])]).await;
    for _ in 0..3 {
        expect_refused(&console).await;
    }
    new_password(&console, "kanari-password-2");
    expect_refused(&console).await;
    assert_eq!(console.count(Step::Logon), 3);
    for _ in 0..3 {
        expect_refused(&console).await;
    }
    assert_eq!(console.count(Step::Logon), 4);
}

#[tokio::test]
async fn successful_logon_resets_the_count() {
    let script = vec![
        (Step::Logon, vec![Hmc(403, 0), Usual, Hmc(403, 0), Usual]),
        (Step::Read, vec![Usual, Hmc(403, 5), Usual]),
    ];
    let console = Console::saying(script).await;
    expect_refused(&console).await;
    console.app.delete_hmc_user(by_id("id-1")).await.unwrap();
    expect_refused(&console).await;
    console.app.delete_hmc_user(by_id("id-1")).await.unwrap();
    assert_eq!(console.count(Step::Logon), 4);
}

#[tokio::test]
async fn hmc_failures_do_not_count_as_refusals() {
    let says = vec![Hmc(500, 12), Html(500), Html(503), Usual];
    let console = Console::saying(vec![(Step::Logon, says)]).await;
    let failed = console.fail(by_id("id-1")).await;
    failed.expect(Unavailable, "UPSTREAM_UNAVAILABLE");
    assert_eq!(console.count(Step::Logon), 3);
    // Calls wait for a pause of up to a second.
    console.app.delete_hmc_user(by_id("id-1")).await.unwrap();
    assert_eq!(console.count(Step::Logon), 4);
}

#[tokio::test]
async fn concurrent_calls_share_one_refused_logon() {
    let console = Console::saying(vec![(Step::Logon, vec![Hmc(403, 0)])]).await;
    join_all((0..30).map(|_| expect_refused(&console))).await;
    // Callers that arrive after the first response may cause the second logon, but never a third.
    assert!((1..=2).contains(&console.count(Step::Logon)));
}
