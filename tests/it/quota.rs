//! `deletes_per_minute`: which calls count, which are refunded, and how a change of the configuration affects the
//! count.

use std::{fs, os::unix::fs::symlink, time::Duration};

use futures_util::future::join_all;
use tonic::Code;
use useradmin::proto::DeleteBatchNodeUserRequest;
use useradmin_testkit::{
    App, CallFailure, ReceivedRequest, Reply, Upstream, batch_deleted, batch_error, batch_request,
    batch_section, batch_with_timeout, delete_by_id, delete_by_name, hmc_reply_or, hmc_section,
    token_reply_or,
};

use crate::{bulkhead::gated_upstream, callers::reload::await_reloads};

const EXCEEDED: &str = "ERROR_REASON_DELETE_QUOTA_EXCEEDED";

/// Starts a server with the account `batch` and the HMC `hmc`, and these keys of its caller and of both targets.
async fn start_app(upstream: &str, caller: &str, target: &str) -> App {
    let folder = App::folder();
    let text = configuration(&folder, upstream, caller, target);
    App::start_with_text(folder, &text).await
}

fn configuration(folder: &std::path::Path, url: &str, caller: &str, target: &str) -> String {
    let targets = batch_section(folder, url) + &hmc_section(folder, url);
    format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"\n\
         [audit]\nfile = \"audit.jsonl\"\nsync = false\n\
         [[callers]]\nidentity = \"anonymous\"\n{caller}\n\
         allow = [{{ rpc = \"DeleteBatchNodeUser\", targets = [\"batch\"], pools = [\"pool-*\"] }}, \
         {{ rpc = \"DeleteHmcUser\", targets = [\"*\"] }}]\n{}",
        targets.replace("\nurl =", &format!("\n{target}\nurl ="))
    )
}

/// Starts an upstream that responds according to the name of the user.
async fn upstream() -> Upstream {
    let reply = |seen: &ReceivedRequest| match seen.user().as_str() {
        "absent" => batch_error(404, "NodeUserNotFound"),
        "conflict" => batch_error(409, "NodeNotReady"),
        "cut" => Reply::Close,
        "id-2" => Reply::json(
            200,
            r#"{"object-id":"id-2","name":"root","type":"standard"}"#,
        ),
        _ if seen.target.starts_with("/api/") => Reply::empty(204),
        _ => batch_deleted(),
    };
    Upstream::start(move |seen| token_reply_or(seen, || hmc_reply_or(seen, || reply(seen)))).await
}

fn error_reason<T>(response: Result<T, CallFailure>) -> String {
    response
        .err()
        .map(|failure| failure.reason)
        .unwrap_or_default()
}

/// Makes this number of deletions, one after the other. Returns the number of those within the quota.
async fn deletions_within_quota(app: &App, calls: usize) -> usize {
    let mut count = 0;
    for _ in 0..calls {
        let reason = error_reason(app.delete_batch_node_user(batch_request("alice")).await);
        assert!(["", EXCEEDED].contains(&reason.as_str()), "{reason}");
        count += usize::from(reason.is_empty());
    }
    count
}

/// Returns calls, each with its reason and whether it counts.
fn batch_calls() -> [(DeleteBatchNodeUserRequest, &'static str, bool); 10] {
    let batch = |user_name: &str, allow_missing, validate_only| DeleteBatchNodeUserRequest {
        allow_missing,
        validate_only,
        ..batch_request(user_name)
    };
    let other_pool = DeleteBatchNodeUserRequest {
        pool_id: "other".to_owned(),
        ..batch_request("alice")
    };
    let other_target = DeleteBatchNodeUserRequest {
        account: "other".to_owned(),
        ..batch_request("alice")
    };
    [
        (batch("alice", false, false), "", true),
        (batch("absent", true, false), "", true),
        (
            batch("absent", false, false),
            "ERROR_REASON_USER_NOT_FOUND",
            true,
        ),
        (
            batch("conflict", false, false),
            "ERROR_REASON_UPSTREAM_CONFLICT",
            true,
        ),
        (
            batch("cut", false, false),
            "ERROR_REASON_OUTCOME_UNKNOWN",
            true,
        ),
        (
            batch("alice", false, true),
            "ERROR_REASON_UPSTREAM_PROTOCOL_ERROR",
            false,
        ),
        (
            batch("..", false, false),
            "ERROR_REASON_INVALID_REQUEST",
            false,
        ),
        (
            batch("root", false, false),
            "ERROR_REASON_PROTECTED_USER",
            false,
        ),
        (other_pool, "ERROR_REASON_CALLER_NOT_AUTHORIZED", false),
        (other_target, "ERROR_REASON_CALLER_NOT_AUTHORIZED", false),
    ]
}

#[tokio::test]
async fn call_counts_if_delete_may_have_been_sent() {
    let upstream = upstream().await;
    let keys = ("deletes_per_minute = 1", "protected_users = [\"root\"]");
    for (request, expected, counts) in batch_calls() {
        let app = start_app(&upstream.url, keys.0, keys.1).await;
        assert_eq!(
            error_reason(app.delete_batch_node_user(request.clone()).await),
            expected
        );
        let left = usize::from(!counts);
        assert_eq!(deletions_within_quota(&app, 2).await, left, "{request:?}");
    }
    // The service knows the name of a protected user only after reading the user, that is, after the call was counted.
    let hmc = [
        (delete_by_name("alice"), "", 0),
        (delete_by_id("id-2"), "ERROR_REASON_PROTECTED_USER", 1),
    ];
    for (request, expected, left) in hmc {
        let app = start_app(&upstream.url, keys.0, keys.1).await;
        assert_eq!(error_reason(app.delete_hmc_user(request).await), expected);
        assert_eq!(deletions_within_quota(&app, 2).await, left, "{expected}");
    }
}

/// The upstream is unreachable, then its circuit breaker is open.
#[tokio::test]
async fn unreachable_upstream_refunds_quota() {
    let app = start_app("http://127.0.0.1:1", "deletes_per_minute = 10", "").await;
    let mut reasons = Vec::new();
    while !reasons
        .iter()
        .any(|reason| reason == "ERROR_REASON_CIRCUIT_OPEN")
    {
        let calls = (0..10).map(|_| app.delete_hmc_user(delete_by_id("id-1")));
        reasons.extend(join_all(calls).await.into_iter().map(error_reason));
    }
    assert!(
        reasons.len() > 10 && !reasons.contains(&EXCEEDED.to_owned()),
        "{reasons:?}"
    );
}

#[tokio::test]
async fn full_bulkhead_refunds_quota() {
    let (upstream, arrived, gate) = gated_upstream().await;
    let target = "max_in_flight = 1\nmax_queued = 0";
    let app = start_app(&upstream.url, "deletes_per_minute = 2", target).await;
    let mut first = Box::pin(app.delete_batch_node_user(batch_request("alice")));
    tokio::select! {
        _ = &mut first => panic!("its upstream holds it"),
        () = arrived.notified() => {}
    }
    for _ in 0..4 {
        let failure = app.delete_batch_node_user(batch_request("bob")).await;
        failure
            .unwrap_err()
            .expect(Code::ResourceExhausted, "OVERLOADED");
    }
    gate.notify_one();
    assert_eq!(error_reason(first.await), "");
    gate.notify_one();
    assert_eq!(deletions_within_quota(&app, 2).await, 1);
}

/// The token request hangs, so no deletion is sent before the deadline of the caller.
#[tokio::test]
async fn calls_without_delete_refund_quota() {
    let upstream = Upstream::start(|request| match request.target.as_str() {
        "/tenant-1/oauth2/v2.0/token" => Reply::Hang,
        _ => hmc_reply_or(request, || Reply::empty(204)),
    })
    .await;
    let app = start_app(&upstream.url, "deletes_per_minute = 1", "").await;
    for _ in 0..3 {
        let late =
            batch_with_timeout(&app, batch_request("alice"), Duration::from_millis(600)).await;
        let failure = late.unwrap_err();
        assert_ne!(failure.reason, EXCEEDED);
    }
    assert_eq!(
        error_reason(app.delete_hmc_user(delete_by_name("alice")).await),
        ""
    );
    assert_eq!(
        error_reason(app.delete_hmc_user(delete_by_name("alice")).await),
        EXCEEDED
    );
}

#[tokio::test]
async fn failed_intent_record_refunds_quota() {
    let upstream = upstream().await;
    let folder = App::folder();
    symlink("/dev/full", folder.join("audit.jsonl")).unwrap();
    let text = configuration(&folder, &upstream.url, "deletes_per_minute = 1", "");
    let app = App::start_with_text(folder, &text).await;
    for _ in 0..3 {
        let failure = app.delete_batch_node_user(batch_request("alice")).await;
        failure
            .unwrap_err()
            .expect(Code::Unavailable, "AUDIT_UNAVAILABLE");
    }
    fs::remove_file(app.folder.join("audit.jsonl")).unwrap();
    assert_eq!(deletions_within_quota(&app, 2).await, 1);
}

#[tokio::test]
async fn concurrent_calls_do_not_exceed_the_quota() {
    let upstream = upstream().await;
    let app = start_app(&upstream.url, "deletes_per_minute = 7", "").await;
    let calls = (0..50).map(|_| app.delete_batch_node_user(batch_request("alice")));
    let responses = join_all(calls).await;
    assert_eq!(
        responses.iter().filter(|response| response.is_ok()).count(),
        7
    );
    for failure in responses.into_iter().filter_map(Result::err) {
        failure.expect(Code::ResourceExhausted, "DELETE_QUOTA_EXCEEDED");
        let delay = failure.retry_delay.unwrap();
        assert!(
            delay > Duration::from_secs(50) && delay <= Duration::from_mins(1),
            "{delay:?}"
        );
    }
    assert_eq!(upstream.requests("DELETE", "").len(), 7);
}

/// Deletions before a change of the configuration still count after it.
#[tokio::test]
async fn reload_does_not_refill_quota() {
    let upstream = upstream().await;
    let app = start_app(&upstream.url, "deletes_per_minute = 3", "").await;
    assert_eq!(deletions_within_quota(&app, 4).await, 3);
    let other =
        "[[callers]]\nidentity = \"spiffe://corp/NAME\"\ndeletes_per_minute = 9\nallow = []\n";
    let (before, after) = (other.replace("NAME", "a"), other.replace("NAME", "b"));
    // The keys of the caller, the callers before and after it, and the number of four further calls that are within the
    // quota.
    let changes = [
        ("deletes_per_minute = 5", "", "", 2),
        ("deletes_per_minute = 2", "", "", 0),
        ("deletes_per_minute = 5", before.as_str(), after.as_str(), 0),
        ("deletes_per_minute = 6", after.as_str(), before.as_str(), 1),
        ("", "", after.as_str(), 4),
        ("deletes_per_minute = 6", "", "", 0),
        ("deletes_per_minute = 1000", "", "", 4),
    ];
    let file = app.folder.join("useradmin.toml");
    for (count, (caller, before, after, left)) in (1..).zip(changes) {
        let text = configuration(&app.folder, &upstream.url, caller, "");
        let text = text.replacen("[[callers]]", &format!("{before}[[callers]]"), 1);
        fs::write(&file, format!("{text}{after}")).unwrap();
        await_reloads(&app, "configuration", count, "ok").await;
        assert_eq!(
            deletions_within_quota(&app, 4).await,
            left,
            "{caller} {count}"
        );
    }
}
