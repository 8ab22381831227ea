//! The lock-out guard: an HMC disables a user after a few wrong passwords, so the service stops before.

use std::fs;

use futures_util::future::join_all;
use tonic::Code::{Internal, ResourceExhausted, Unavailable};
use useradmin::proto::DeleteOutcome;

use crate::support::{
    Console,
    Say::{self, Empty, Hmc, Html, Json, Usual},
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
async fn after_two_refused_logons_there_is_no_third() {
    let refusals = [
        Hmc(403, 0),
        Hmc(401, 0),
        Hmc(409, 50),
        Hmc(409, 51),
        Json(
            201,
            "partial",
            r#"{"api-session":"kanari-session-partial-1"}"#,
        ),
        Empty(201),
    ];
    let guarded = |say: Say| async move {
        let console = Console::saying(vec![(Step::Logon, vec![say.clone(), say, Usual])]).await;
        for logons in [1, 2, 2, 2] {
            expect_refused(&console).await;
            assert_eq!(console.count(Step::Logon), logons);
        }
        join_all((0..10).map(|_| expect_refused(&console))).await;
        // The same password, written once more, is no other password.
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
async fn another_wrong_password_is_tried_twice_and_no_more() {
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
async fn a_success_between_two_refusals_starts_the_count_again() {
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
async fn what_says_nothing_of_the_password_does_not_count() {
    let rows = [
        (Hmc(400, 13), ResourceExhausted, "UPSTREAM_SESSION_LIMIT"),
        (Html(403), Unavailable, "UPSTREAM_PROTOCOL_ERROR"),
        (Html(401), Internal, "UPSTREAM_CREDENTIALS_REJECTED"),
        (Html(409), Unavailable, "UPSTREAM_PROTOCOL_ERROR"),
        (Hmc(400, 5), Internal, "UPSTREAM_REJECTED_REQUEST"),
        (Hmc(501, 0), Internal, "UPSTREAM_REJECTED_REQUEST"),
    ];
    join_all(rows.map(|(say, code, reason)| async move {
        let console = Console::saying(vec![(Step::Logon, vec![say])]).await;
        for logons in 1..=4 {
            console.fail(by_id("id-1")).await.expect(code, reason);
            assert_eq!(console.count(Step::Logon), logons, "{reason}");
        }
    }))
    .await;
}

#[tokio::test]
async fn logons_that_failed_on_the_hmcs_side_do_not_count() {
    let says = vec![Hmc(500, 12), Html(500), Html(503), Usual];
    let console = Console::saying(vec![(Step::Logon, says)]).await;
    let failed = console.fail(by_id("id-1")).await;
    failed.expect(Unavailable, "UPSTREAM_UNAVAILABLE");
    assert_eq!(console.count(Step::Logon), 3);
    console.app.delete_hmc_user(by_id("id-1")).await.unwrap();
    assert_eq!(console.count(Step::Logon), 4);
}

#[tokio::test]
async fn many_calls_share_one_refused_logon() {
    let console = Console::saying(vec![(Step::Logon, vec![Hmc(403, 0)])]).await;
    join_all((0..30).map(|_| expect_refused(&console))).await;
    // Callers that come after the first answer may cause the second, but never a third.
    assert!((1..=2).contains(&console.count(Step::Logon)));
}
