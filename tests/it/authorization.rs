//! Permissions and quotas of callers.

use tonic::Code;
use useradmin::{config, proto::DeleteBatchNodeUserRequest};
use useradmin_testkit::{
    App, Reply, Upstream, batch_deleted, batch_request, batch_section, delete_by_name,
    hmc_reply_or, hmc_section, token_reply_or,
};

/// Starts a server with these `[[callers]]`.
pub async fn app(callers: &str, upstream: &Upstream) -> App {
    let folder = App::folder();
    let text = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nadmin_listen = \"\"\n{callers}{}{}",
        batch_section(&folder, &upstream.url),
        hmc_section(&folder, &upstream.url)
    );
    let config = config::parse(&folder.join("useradmin.toml"), &text);
    let config = config.unwrap_or_else(|errors| panic!("{errors}"));
    App::run(folder, &config).await
}

pub async fn upstream() -> Upstream {
    Upstream::start(|request| {
        token_reply_or(request, || {
            hmc_reply_or(request, || {
                if request.target.contains("/pools/") {
                    batch_deleted()
                } else {
                    Reply::empty(204)
                }
            })
        })
    })
    .await
}

#[tokio::test]
async fn unlisted_calls_are_denied_without_an_upstream_request() {
    let only = |identity: &str, allow: &str| {
        format!("[[callers]]\nidentity = \"{identity}\"\nallow = [{allow}]\n")
    };
    let batch = r#"{ rpc = "DeleteBatchNodeUser", targets = ["batch"], pools = ["pool-*"] }"#;
    let other_pool =
        r#"{ rpc = "DeleteBatchNodeUser", targets = ["*"], pools = ["POOL-1", "pool-2"] }"#;
    let other_target = r#"{ rpc = "DeleteBatchNodeUser", targets = ["prod", "Batch", "batc"] }"#;
    let hmc = r#"{ rpc = "DeleteHmcUser", targets = ["h*c"] }"#;
    // Callers, whether the Batch call is allowed, whether the HMC call is allowed.
    let cells = [
        (String::new(), false, false),
        (only("somebody", &format!("{batch}, {hmc}")), false, false),
        (only("anonymous", ""), false, false),
        (only("anonymous", batch), true, false),
        (only("anonymous", other_pool), false, false),
        (only("anonymous", other_target), false, false),
        (only("anonymous", hmc), false, true),
        (only("anonymous", &format!("{batch}, {hmc}")), true, true),
    ];
    for (callers, batch, hmc) in cells {
        let upstream = upstream().await;
        let app = app(&callers, &upstream).await;
        let results = [
            (
                batch,
                app.delete_batch_node_user(batch_request("alice"))
                    .await
                    .err(),
            ),
            (
                hmc,
                app.delete_hmc_user(delete_by_name("alice")).await.err(),
            ),
        ];
        for (allowed, failure) in results {
            match failure {
                None => assert!(allowed, "{callers}"),
                Some(failure) => {
                    assert!(!allowed, "{callers} {failure:?}");
                    failure.expect(Code::PermissionDenied, "CALLER_NOT_AUTHORIZED");
                }
            }
        }
        assert_eq!(upstream.received().is_empty(), !batch && !hmc, "{callers}");
    }
}

#[tokio::test]
async fn denied_caller_cannot_detect_targets_or_users() {
    let upstream = upstream().await;
    let none = app("", &upstream).await;
    let allowed = r#"
[[callers]]
identity = "anonymous"
allow = [{ rpc = "DeleteBatchNodeUser", targets = ["*"] }]
"#;
    let some = app(allowed, &upstream).await;
    let unknown = DeleteBatchNodeUserRequest {
        account: "nobody".to_owned(),
        ..batch_request("alice")
    };
    let failure = none
        .delete_batch_node_user(unknown.clone())
        .await
        .unwrap_err();
    failure.expect(Code::PermissionDenied, "CALLER_NOT_AUTHORIZED");
    let failure = some.delete_batch_node_user(unknown).await.unwrap_err();
    failure.expect(Code::NotFound, "UNKNOWN_TARGET");
    let resource = (
        "useradmin/BatchAccount".to_owned(),
        "batchAccounts/nobody".to_owned(),
    );
    assert_eq!(failure.resource, Some(resource));
    assert!(upstream.received().is_empty());
}

#[tokio::test]
async fn quota_counts_deletions_on_all_targets_but_no_validations() {
    let upstream = upstream().await;
    let callers = r#"
[[callers]]
identity = "anonymous"
allow = [{ rpc = "DeleteBatchNodeUser", targets = ["*"] }, { rpc = "DeleteHmcUser", targets = ["*"] }]
deletes_per_minute = 2
"#;
    let app = app(callers, &upstream).await;
    let validate = DeleteBatchNodeUserRequest {
        validate_only: true,
        ..batch_request("alice")
    };
    for _ in 0..3 {
        // The scripted node has no state, which is irrelevant here.
        let failure = app
            .delete_batch_node_user(validate.clone())
            .await
            .unwrap_err();
        failure.expect(Code::Unavailable, "UPSTREAM_PROTOCOL_ERROR");
    }
    app.delete_batch_node_user(batch_request("alice"))
        .await
        .unwrap();
    app.delete_hmc_user(delete_by_name("alice")).await.unwrap();
    let requests_before = upstream.received().len();
    let failure = app
        .delete_hmc_user(delete_by_name("alice"))
        .await
        .unwrap_err();
    failure.expect(Code::ResourceExhausted, "DELETE_QUOTA_EXCEEDED");
    assert_eq!(failure.quota.len(), 1);
    let delay = failure.retry_delay.unwrap().as_secs();
    assert!((1..=60).contains(&delay), "{delay}");
    assert_eq!(upstream.received().len(), requests_before);
}

#[tokio::test]
async fn denied_caller_does_not_learn_the_default_target() {
    let upstream = upstream().await;
    let none = app("", &upstream).await;
    let failure = none
        .delete_batch_node_user(batch_request("alice"))
        .await
        .unwrap_err();
    failure.expect(Code::PermissionDenied, "CALLER_NOT_AUTHORIZED");
    assert_eq!(failure.metadata_value("account"), "");
    // The response does not reveal whether a guessed name exists. The audit record contains the guess.
    let guess = DeleteBatchNodeUserRequest {
        pool_id: "batch".to_owned(),
        ..batch_request("alice")
    };
    let failure = none.delete_batch_node_user(guess).await.unwrap_err();
    assert_eq!(
        (
            failure.metadata_value("account"),
            failure.metadata_value("pool_id")
        ),
        ("", "batch")
    );
    let records = none.audit();
    let identifiers = &records.last().unwrap()["identifiers"];
    assert_eq!(identifiers["account"], "batch");
    assert_eq!(identifiers["pool_id"], "batch");
    let failure = none
        .delete_batch_node_user(batch_request(".."))
        .await
        .unwrap_err();
    failure.expect(Code::InvalidArgument, "INVALID_REQUEST");
    assert_eq!(failure.metadata_value("account"), "");
}

/// A call that sent no DELETE is returned to the quota; all other calls count, regardless of their outcome.
#[tokio::test]
async fn call_that_sent_nothing_does_not_consume_quota() {
    let absent = Upstream::start(|request| {
        token_reply_or(request, || {
            if request.target.starts_with("/api/console/users?") {
                return Reply::json(200, r#"{"users":[]}"#);
            }
            hmc_reply_or(request, || Reply::empty(500))
        })
    })
    .await;
    let callers = r#"
[[callers]]
identity = "anonymous"
allow = [{ rpc = "DeleteBatchNodeUser", targets = ["*"] }, { rpc = "DeleteHmcUser", targets = ["*"] }]
deletes_per_minute = 2
"#;
    let app = app(callers, &absent).await;
    for _ in 0..5 {
        let failure = app
            .delete_hmc_user(delete_by_name("alice"))
            .await
            .unwrap_err();
        failure.expect(Code::NotFound, "USER_NOT_FOUND");
        assert_eq!(failure.metadata_value("outcome"), "not_sent");
    }
    for _ in 0..2 {
        let failure = app
            .delete_batch_node_user(batch_request("alice"))
            .await
            .unwrap_err();
        failure.expect(Code::Unavailable, "UPSTREAM_UNAVAILABLE");
        assert_eq!(failure.metadata_value("outcome"), "unknown");
    }
    let failure = app
        .delete_hmc_user(delete_by_name("alice"))
        .await
        .unwrap_err();
    failure.expect(Code::ResourceExhausted, "DELETE_QUOTA_EXCEEDED");
}
