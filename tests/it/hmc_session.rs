//! The session that all calls share: one logon regardless of the number of calls, one renewal, and a log-off at
//! shutdown.

mod renewal;
mod replacement;

use std::{
    fs,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use useradmin::proto::DeleteOutcome;
use useradmin_testkit::{
    Console,
    Say::{Hang, Hmc, Reset, Usual},
    Step, by_id, by_name, canary,
};

#[tokio::test]
async fn concurrent_first_calls_share_one_logon() {
    let console = Console::saying(Vec::new()).await;
    let calls = (0..50).map(|_| console.app.delete_hmc_user(by_id("id-1")));
    for done in join_all(calls).await {
        let done = done.unwrap();
        assert_eq!((done.outcome(), done.attempts), (DeleteOutcome::Deleted, 1));
    }
    assert_eq!(
        (console.count(Step::Logon), console.count(Step::Delete)),
        (1, 50)
    );
}

#[tokio::test]
async fn requests_have_documented_format() {
    let console = Console::saying(Vec::new()).await;
    let answer = console
        .app
        .client()
        .delete_hmc_user(by_id("id-1"))
        .await
        .unwrap();
    let request_id = answer
        .metadata()
        .get("x-request-id")
        .unwrap()
        .to_str()
        .unwrap();

    let logon = &console.asked(Step::Logon)[0];
    let body: serde_json::Value = serde_json::from_str(&logon.body).unwrap();
    let wanted = serde_json::json!({"userid": "svc-useradmin", "password": "kanari-password-1"});
    assert_eq!(body, wanted);
    assert_eq!(logon.header("content-type"), Some("application/json"));
    assert_eq!(logon.header("accept"), Some("application/json"));
    assert_eq!(logon.header("x-api-session"), None);
    assert_eq!(logon.header("accept-encoding"), None);

    for (step, target) in [
        (Step::Read, "/api/users/id-1"),
        (Step::Delete, "/api/users/id-1"),
    ] {
        let [request] = console.asked(step).try_into().unwrap();
        assert_eq!(
            (request.target.as_str(), request.body.as_str()),
            (target, "")
        );
        assert_eq!(request.header("accept"), Some("application/json"));
        assert_eq!(request.header("x-api-session"), Some("kanari-session-1"));
        for absent in [
            "accept-encoding",
            "content-type",
            "content-length",
            "transfer-encoding",
            "authorization",
        ] {
            assert_eq!(request.header(absent), None, "{step:?} {absent}");
        }
        let audit_id = request.header("x-audit-id").unwrap();
        assert!(
            audit_id.len() <= 64 && audit_id.contains(request_id),
            "{audit_id}"
        );
    }
    assert_eq!(console.upstream.seen().len(), 3);
}

#[tokio::test]
async fn session_is_closed_at_shutdown() {
    let console = Console::saying(Vec::new()).await;
    console.app.delete_hmc_user(by_name("alice")).await.unwrap();
    let Console { app, upstream } = console;
    app.stop().await;
    let [logoff] = upstream
        .requests("DELETE", "/api/sessions/")
        .try_into()
        .unwrap();
    assert_eq!(logoff.target, "/api/sessions/this-session");
    assert_eq!(logoff.header("x-api-session"), Some("kanari-session-1"));
    assert_eq!(upstream.requests("POST", "/api/sessions").len(), 1);
}

#[tokio::test]
async fn no_logoff_without_session() {
    let console = Console::saying(Vec::new()).await;
    let Console { app, upstream } = console;
    app.stop().await;
    assert!(upstream.seen().is_empty());
}

/// The log-off is best effort: an unexpected response neither delays the shutdown nor causes another logon.
#[tokio::test]
async fn shutdown_does_not_wait_for_hung_logoff() {
    join_all(
        [Hang, Reset, Hmc(403, 5), Hmc(403, 4), Hmc(500, 12)].map(|say| async move {
            let console = Console::saying(vec![(Step::Logoff, vec![say])]).await;
            console.app.delete_hmc_user(by_id("id-1")).await.unwrap();
            let Console { app, upstream } = console;
            let began = Instant::now();
            app.stop().await;
            assert!(
                began.elapsed() < Duration::from_millis(2_500),
                "{:?}",
                began.elapsed()
            );
            assert_eq!(upstream.requests("DELETE", "/api/sessions/").len(), 1);
            assert_eq!(upstream.requests("POST", "/api/sessions").len(), 1);
        }),
    )
    .await;
}

#[tokio::test]
async fn password_file_is_read_at_each_logon() {
    let console = Console::saying(vec![(Step::Read, vec![Usual, Hmc(403, 5), Usual])]).await;
    console.app.delete_hmc_user(by_id("id-1")).await.unwrap();
    fs::write(console.app.folder.join("hmc.password"), "rotated \"ü\"\r\n").unwrap();
    console.app.delete_hmc_user(by_id("id-1")).await.unwrap();
    let sent = console.asked(Step::Logon).into_iter().map(|logon| {
        let body: serde_json::Value = serde_json::from_str(&logon.body).unwrap();
        body["password"].as_str().unwrap().to_owned()
    });
    assert_eq!(
        sent.collect::<Vec<_>>(),
        ["kanari-password-1", "rotated \"ü\""]
    );
}

#[tokio::test]
async fn last_valid_password_is_used_while_file_is_invalid() {
    for bad in [None, Some("\n"), Some("\u{0}".repeat(70_000).as_str())] {
        let console = Console::saying(Vec::new()).await;
        let file = console.app.folder.join("hmc.password");
        match bad {
            Some(bad) => fs::write(&file, bad).unwrap(),
            None => fs::remove_file(&file).unwrap(),
        }
        let done = console.app.delete_hmc_user(by_id("id-1")).await.unwrap();
        assert_eq!(done.outcome(), DeleteOutcome::Deleted);
        let logon = &console.upstream.requests("POST", "/api/sessions")[0];
        assert!(logon.body.contains(canary::PASSWORD), "{}", logon.body);
    }
}
