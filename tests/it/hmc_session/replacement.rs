//! A session that a gateway in front of the HMC no longer accepts: the responses do not come from the HMC.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use futures_util::future::join_all;
use tonic::Code;
use useradmin::proto::DeleteHmcUserRequest;
use useradmin_testkit::{
    HmcSetup, ReceivedRequest, Reply,
    ScriptedReply::{self, Custom, Empty, Hmc, Html, Json},
    Step, default_reply, delete_by_id, delete_by_name,
};

/// Responses of a gateway, or of an HMC that no longer recognizes the session.
fn doubtful_replies() -> Vec<ScriptedReply> {
    vec![
        Hmc(403, 0),
        Hmc(403, 6),
        Hmc(403, 2),
        Empty(403),
        Html(403),
        Json(403, "foreign JSON", r#"{"error":"forbidden"}"#),
        Html(404),
        Empty(404),
        Html(400),
        Custom(302, "redirect", |_| {
            Reply::empty(302).with_header("Location", "/login")
        }),
        Custom(307, "redirect", |_| {
            Reply::empty(307).with_header("Location", "/login")
        }),
        Html(407),
        Empty(440),
        Html(440),
        Hmc(440, 0),
        Html(498),
        // A login page with a successful status.
        Html(200),
        Empty(202),
    ]
}

/// Starts a console whose first session is refused in this way from the second call on.
async fn setup_with_refused_session(reply: ScriptedReply, refusal: fn(Step) -> bool) -> HmcSetup {
    let (mut logons, mut deletes) = (0, 0);
    HmcSetup::start(move |request| {
        let step = Step::of(request);
        logons += usize::from(step == Step::Logon);
        let first = request.header("x-api-session") == Some("kanari-session-1");
        if first && deletes > 0 && refusal(step) {
            return reply.reply(request);
        }
        deletes += usize::from(step == Step::Delete);
        default_reply(request, logons)
    })
    .await
}

#[tokio::test]
async fn session_is_replaced_after_three_doubtful_responses() {
    let users: [fn() -> DeleteHmcUserRequest; 2] =
        [|| delete_by_id("id-1"), || delete_by_name("alice")];
    let all: fn(Step) -> bool = |step| step != Step::Logon && step != Step::Logoff;
    let deletions: fn(Step) -> bool = |step| step == Step::Delete;
    let rows = doubtful_replies().into_iter().flat_map(|reply| {
        users.into_iter().flat_map(move |user| {
            let reply = reply.clone();
            [all, deletions].map(move |refusal| (reply.clone(), user, refusal))
        })
    });
    let played = rows.map(|(reply, user, refusal)| async move {
        let case = reply.to_string();
        let setup = setup_with_refused_session(reply, refusal).await;
        setup.app.delete_hmc_user(user()).await.unwrap();
        for _ in 0..2 {
            setup.app.delete_hmc_user(user()).await.unwrap_err();
        }
        assert_eq!(setup.count(Step::Logon), 1, "{case}");
        let failure = setup.app.delete_hmc_user(user()).await.unwrap_err();
        // If its outcome is unknown, the call reads the user again, with the next session.
        let reads_again = failure.metadata_value("outcome") == "unknown";
        let logons = 1 + usize::from(reads_again);
        assert_eq!(setup.count(Step::Logon), logons, "{case}");
        setup.app.delete_hmc_user(user()).await.unwrap();
        assert_eq!(setup.count(Step::Logon), 2, "{case}");
        setup
            .upstream
            .wait_for_requests("DELETE", "/api/sessions/this-session", 1)
            .await;
    });
    join_all(played).await;
}

/// The error that the caller receives does not depend on whether the session is replaced because of it.
#[tokio::test]
async fn doubtful_responses_keep_their_reason() {
    let rows = [
        (
            Hmc(403, 6),
            Code::PermissionDenied,
            "UPSTREAM_PERMISSION_DENIED",
            "not_deleted",
        ),
        (
            Html(403),
            Code::Unavailable,
            "UPSTREAM_PROTOCOL_ERROR",
            "unknown",
        ),
        (
            Html(404),
            Code::Unavailable,
            "UPSTREAM_PROTOCOL_ERROR",
            "unknown",
        ),
        (
            Empty(440),
            Code::Unavailable,
            "UPSTREAM_PROTOCOL_ERROR",
            "unknown",
        ),
        (
            Empty(302),
            Code::Unavailable,
            "UPSTREAM_PROTOCOL_ERROR",
            "unknown",
        ),
    ];
    join_all(rows.map(|(reply, code, reason, outcome)| async move {
        let setup = HmcSetup::with_replies(vec![(Step::Delete, vec![reply])]).await;
        for calls in 1..=20 {
            let failure = setup.fail(delete_by_id("id-1")).await;
            failure.expect(code, reason);
            assert_eq!(failure.metadata_value("outcome"), outcome);
            assert_eq!(setup.count(Step::Delete), calls);
        }
        // The session is replaced once, and not again as long as the replacement is refused too.
        assert_eq!(setup.count(Step::Logon), 2, "{reason}");
    }))
    .await;
}

/// A missing permission, a failing HMC and errors about the user are no evidence against the session.
#[tokio::test]
async fn other_failures_do_not_replace_session() {
    let rows = [
        vec![Hmc(403, 1)],
        vec![Hmc(404, 1)],
        vec![Hmc(404, 9)],
        vec![Hmc(409, 317)],
        vec![Hmc(400, 99)],
        vec![Html(501)],
        // Never three refusals in a row.
        vec![[Html(403), Html(403), Hmc(403, 1)]; 7].concat(),
        vec![[Html(403), Html(404), Hmc(409, 2)]; 7].concat(),
    ];
    join_all(rows.map(|replies| async move {
        let case = format!("{replies:?}");
        let setup = HmcSetup::with_replies(vec![(Step::Delete, replies)]).await;
        for _ in 0..12 {
            setup.fail(delete_by_id("id-1")).await;
        }
        assert_eq!(setup.count(Step::Logon), 1, "{case}");
    }))
    .await;
}

/// After a successful call, the next invalid session is replaced as well.
#[tokio::test]
async fn every_session_that_worked_can_be_replaced() {
    let broken = Arc::new(AtomicUsize::new(usize::MAX));
    let (logons, valid) = (Arc::new(AtomicUsize::new(0)), Arc::clone(&broken));
    let setup = HmcSetup::start(move |request| {
        let step = Step::of(request);
        if step == Step::Logon {
            logons.fetch_add(1, Ordering::SeqCst);
        }
        let logons = logons.load(Ordering::SeqCst);
        match step {
            Step::Read | Step::Delete if logons == valid.load(Ordering::SeqCst) => Reply::html(403),
            _ => default_reply(request, logons),
        }
    })
    .await;
    for round in 1..=3 {
        setup
            .app
            .delete_hmc_user(delete_by_id("id-1"))
            .await
            .unwrap();
        assert_eq!(setup.count(Step::Logon), round);
        broken.store(round, Ordering::SeqCst);
        for _ in 0..3 {
            setup.fail(delete_by_id("id-1")).await;
        }
    }
    setup
        .app
        .delete_hmc_user(delete_by_id("id-1"))
        .await
        .unwrap();
    assert_eq!(setup.count(Step::Logon), 4);
}

/// The session is replaced once, regardless of the number of calls that are refused at the same time.
#[tokio::test]
async fn concurrently_refused_calls_replace_session_once() {
    let broken = Arc::new(AtomicBool::new(false));
    let refusing = Arc::clone(&broken);
    let mut logons = 0;
    let setup = HmcSetup::start(move |request: &ReceivedRequest| {
        let step = Step::of(request);
        logons += usize::from(step == Step::Logon);
        if step == Step::Read && refusing.load(Ordering::SeqCst) {
            return Reply::empty(403);
        }
        default_reply(request, logons)
    })
    .await;
    setup
        .app
        .delete_hmc_user(delete_by_id("id-1"))
        .await
        .unwrap();
    broken.store(true, Ordering::SeqCst);
    for _ in 0..5 {
        join_all((0..20).map(|_| setup.fail(delete_by_id("id-1")))).await;
    }
    assert_eq!(setup.count(Step::Logon), 2);
}
