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
    HmcSetup,
    ScriptedReply::{Default, Hang, Hmc, Reset},
    Step, canary, delete_by_id, delete_by_name,
};

#[tokio::test]
async fn concurrent_first_calls_share_one_logon() {
    let setup = HmcSetup::with_replies(Vec::new()).await;
    let calls = (0..50).map(|_| setup.app.delete_hmc_user(delete_by_id("id-1")));
    for response in join_all(calls).await {
        let response = response.unwrap();
        assert_eq!(
            (response.outcome(), response.attempts),
            (DeleteOutcome::Deleted, 1)
        );
    }
    assert_eq!(
        (setup.count(Step::Logon), setup.count(Step::Delete)),
        (1, 50)
    );
}

#[tokio::test]
async fn requests_have_documented_format() {
    let setup = HmcSetup::with_replies(Vec::new()).await;
    let response = setup
        .app
        .client()
        .delete_hmc_user(delete_by_id("id-1"))
        .await
        .unwrap();
    let request_id = response
        .metadata()
        .get("x-request-id")
        .unwrap()
        .to_str()
        .unwrap();

    let logon = &setup.requests_of(Step::Logon)[0];
    let body: serde_json::Value = serde_json::from_str(&logon.body).unwrap();
    let expected = serde_json::json!({"userid": "svc-useradmin", "password": "kanari-password-1"});
    assert_eq!(body, expected);
    assert_eq!(logon.header("content-type"), Some("application/json"));
    assert_eq!(logon.header("accept"), Some("application/json"));
    assert_eq!(logon.header("x-api-session"), None);
    assert_eq!(logon.header("accept-encoding"), None);

    for (step, target) in [
        (Step::Read, "/api/users/id-1"),
        (Step::Delete, "/api/users/id-1"),
    ] {
        let [request] = setup.requests_of(step).try_into().unwrap();
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
    assert_eq!(setup.upstream.received().len(), 3);
}

#[tokio::test]
async fn session_is_closed_at_shutdown() {
    let setup = HmcSetup::with_replies(Vec::new()).await;
    setup
        .app
        .delete_hmc_user(delete_by_name("alice"))
        .await
        .unwrap();
    let HmcSetup { app, upstream } = setup;
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
    let setup = HmcSetup::with_replies(Vec::new()).await;
    let HmcSetup { app, upstream } = setup;
    app.stop().await;
    assert!(upstream.received().is_empty());
}

/// The log-off is best effort: an unexpected response neither delays the shutdown nor causes another logon.
#[tokio::test]
async fn shutdown_does_not_wait_for_hung_logoff() {
    join_all(
        [Hang, Reset, Hmc(403, 5), Hmc(403, 4), Hmc(500, 12)].map(|reply| async move {
            let setup = HmcSetup::with_replies(vec![(Step::Logoff, vec![reply])]).await;
            setup
                .app
                .delete_hmc_user(delete_by_id("id-1"))
                .await
                .unwrap();
            let HmcSetup { app, upstream } = setup;
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
    let setup =
        HmcSetup::with_replies(vec![(Step::Read, vec![Default, Hmc(403, 5), Default])]).await;
    setup
        .app
        .delete_hmc_user(delete_by_id("id-1"))
        .await
        .unwrap();
    fs::write(setup.app.folder.join("hmc.password"), "rotated \"ü\"\r\n").unwrap();
    setup
        .app
        .delete_hmc_user(delete_by_id("id-1"))
        .await
        .unwrap();
    let sent = setup.requests_of(Step::Logon).into_iter().map(|logon| {
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
        let setup = HmcSetup::with_replies(Vec::new()).await;
        let file = setup.app.folder.join("hmc.password");
        match bad {
            Some(bad) => fs::write(&file, bad).unwrap(),
            None => fs::remove_file(&file).unwrap(),
        }
        let response = setup
            .app
            .delete_hmc_user(delete_by_id("id-1"))
            .await
            .unwrap();
        assert_eq!(response.outcome(), DeleteOutcome::Deleted);
        let logon = &setup.upstream.requests("POST", "/api/sessions")[0];
        assert!(logon.body.contains(canary::PASSWORD), "{}", logon.body);
    }
}
