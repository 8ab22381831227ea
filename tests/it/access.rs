//! Who may do what, how often, and what is on record.

use std::fs;

use serde_json::Value;
use tonic::Code;
use useradmin::{config, proto::DeleteBatchNodeUserRequest};

use crate::support::{
    App, Reply, Upstream, batch_request, batch_section, by_id, by_name, hmc_or, hmc_section,
    token_or,
};

/// A server whose `[[callers]]` are the test's.
async fn app(callers: &str, upstream: &Upstream) -> App {
    let folder = App::folder();
    let text = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nadmin_listen = \"\"\n{callers}{}{}",
        batch_section(&folder, &upstream.url),
        hmc_section(&folder, &upstream.url)
    );
    let config = config::parse(&folder.join("useradmin.toml"), &text);
    let config = config.unwrap_or_else(|faults| panic!("{faults}"));
    App::run(folder, &config).await
}

async fn upstream() -> Upstream {
    Upstream::start(|seen| {
        token_or(seen, || {
            hmc_or(seen, || {
                Reply::empty(if seen.target.contains("/pools/") {
                    200
                } else {
                    204
                })
            })
        })
    })
    .await
}

#[tokio::test]
async fn what_is_not_listed_is_refused_without_a_request() {
    let only = |identity: &str, allow: &str| {
        format!("[[callers]]\nidentity = \"{identity}\"\nallow = [{allow}]\n")
    };
    let batch = r#"{ rpc = "DeleteBatchNodeUser", targets = ["batch"], pools = ["pool-*"] }"#;
    let other_pool =
        r#"{ rpc = "DeleteBatchNodeUser", targets = ["*"], pools = ["POOL-1", "pool-2"] }"#;
    let other_target = r#"{ rpc = "DeleteBatchNodeUser", targets = ["prod", "Batch", "batc"] }"#;
    let hmc = r#"{ rpc = "DeleteHmcUser", targets = ["h*c"] }"#;
    // Callers, is the Batch call allowed, is the HMC call allowed.
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
            (hmc, app.delete_hmc_user(by_name("alice")).await.err()),
        ];
        for (allowed, failed) in results {
            match failed {
                None => assert!(allowed, "{callers}"),
                Some(failed) => {
                    assert!(!allowed, "{callers} {failed:?}");
                    failed.expect(Code::PermissionDenied, "CALLER_NOT_AUTHORIZED");
                }
            }
        }
        assert_eq!(upstream.seen().is_empty(), !batch && !hmc, "{callers}");
    }
}

#[tokio::test]
async fn a_caller_without_rights_learns_nothing_of_what_exists() {
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
    let failed = none
        .delete_batch_node_user(unknown.clone())
        .await
        .unwrap_err();
    failed.expect(Code::PermissionDenied, "CALLER_NOT_AUTHORIZED");
    let failed = some.delete_batch_node_user(unknown).await.unwrap_err();
    failed.expect(Code::NotFound, "UNKNOWN_TARGET");
    let resource = (
        "useradmin/BatchAccount".to_owned(),
        "batchAccounts/nobody".to_owned(),
    );
    assert_eq!(failed.resource, Some(resource));
    assert!(upstream.seen().is_empty());
}

#[tokio::test]
async fn a_quota_counts_deletions_of_all_targets_and_no_validations() {
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
        // The scripted node has no state, which is not what counts here.
        let failed = app
            .delete_batch_node_user(validate.clone())
            .await
            .unwrap_err();
        failed.expect(Code::Unavailable, "UPSTREAM_PROTOCOL_ERROR");
    }
    app.delete_batch_node_user(batch_request("alice"))
        .await
        .unwrap();
    app.delete_hmc_user(by_name("alice")).await.unwrap();
    let before = upstream.seen().len();
    let failed = app.delete_hmc_user(by_name("alice")).await.unwrap_err();
    failed.expect(Code::ResourceExhausted, "DELETE_QUOTA_EXCEEDED");
    assert_eq!(failed.quota.len(), 1);
    let delay = failed.retry_delay.unwrap().as_secs();
    assert!((1..=60).contains(&delay), "{delay}");
    assert_eq!(upstream.seen().len(), before);
}

#[tokio::test]
async fn intent_and_outcome_are_on_record_in_this_order() {
    let upstream = upstream().await;
    let folder = App::folder();
    let section = hmc_section(&folder, &upstream.url);
    let app = App::start_in(folder, &section).await;
    let done = app.client().delete_hmc_user(by_id("id-1")).await.unwrap();
    assert_eq!(done.get_ref().user_name, "alice");
    let records = app.audit();
    let fields = |key: &str| -> Vec<Value> { records.iter().map(|r| r[key].clone()).collect() };
    assert_eq!(fields("event"), ["intent", "outcome"]);
    assert_eq!(fields("seq"), [1, 2]);
    assert_eq!(fields("v"), [1, 1]);
    assert_eq!(fields("caller"), ["anonymous", "anonymous"]);
    assert_eq!(fields("rpc"), ["DeleteHmcUser", "DeleteHmcUser"]);
    assert_eq!(fields("target"), ["hmc", "hmc"]);
    // The name is known only after the HMC has told it.
    assert_eq!(fields("user"), ["id-1", "alice"]);
    assert_eq!(records[1]["identifiers"]["user_id"], "id-1");
    assert_eq!(records[1]["outcome"], "deleted");
    assert_eq!(records[1]["attempts"], 1);
    for record in &records {
        for key in ["ts", "outcome", "reason", "peer"] {
            assert!(record[key].is_string(), "{key}: {record}");
        }
    }
    assert_eq!(records[0]["prev"], "");
    assert_eq!(records[1]["prev"].as_str().unwrap().len(), 64);
    assert_eq!(records[0]["request_id"], records[1]["request_id"]);
}

#[tokio::test]
async fn refusals_and_failures_are_on_record() {
    let upstream = Upstream::start(|seen| token_or(seen, || Reply::html(409))).await;
    let app = app("", &upstream).await;
    app.delete_hmc_user(by_name("alice")).await.unwrap_err();
    let records = app.audit();
    assert_eq!(records.len(), 1);
    assert_eq!(records[0]["outcome"], "denied");
    assert_eq!(records[0]["reason"], "ERROR_REASON_CALLER_NOT_AUTHORIZED");

    let folder = App::folder();
    let section = batch_section(&folder, &upstream.url);
    let app = App::start_in(folder, &section).await;
    app.delete_batch_node_user(batch_request("alice"))
        .await
        .unwrap_err();
    let records = app.audit();
    assert_eq!(records[1]["outcome"], "unknown");
    assert_eq!(records[1]["reason"], "ERROR_REASON_UPSTREAM_PROTOCOL_ERROR");
}

#[tokio::test]
async fn nothing_is_sent_that_cannot_be_recorded() {
    let upstream = upstream().await;
    let folder = App::folder();
    let section = batch_section(&folder, &upstream.url);
    // A folder stands where the file should be.
    fs::create_dir(folder.join("audit.jsonl")).unwrap();
    let app = App::start_in(folder, &section).await;
    let failed = app
        .delete_batch_node_user(batch_request("alice"))
        .await
        .unwrap_err();
    failed.expect(Code::Unavailable, "AUDIT_UNAVAILABLE");
    assert!(failed.retry_delay.is_some());
    assert!(upstream.seen().is_empty());
    // It recovers by itself, and tells what became of the call that it could not record.
    fs::remove_dir(app.folder.join("audit.jsonl")).unwrap();
    app.delete_batch_node_user(batch_request("alice"))
        .await
        .unwrap();
    let records = app.audit();
    let told: Vec<_> = records
        .iter()
        .map(|r| (r["event"].as_str(), r["outcome"].as_str()))
        .collect();
    let wanted = [
        ("outcome", "not_sent"),
        ("intent", ""),
        ("outcome", "deleted"),
    ];
    assert_eq!(
        told,
        wanted.map(|(event, outcome)| (Some(event), Some(outcome)))
    );
}

#[tokio::test]
async fn a_line_that_was_left_unfinished_is_ended_first() {
    let upstream = upstream().await;
    let folder = App::folder();
    let section = batch_section(&folder, &upstream.url);
    fs::write(folder.join("audit.jsonl"), "{\"v\":1,\"ts\":\"20").unwrap();
    let app = App::start_in(folder, &section).await;
    app.delete_batch_node_user(batch_request("alice"))
        .await
        .unwrap();
    let text = fs::read_to_string(app.folder.join("audit.jsonl")).unwrap();
    let whole = text.lines().skip(1).map(serde_json::from_str::<Value>);
    assert!(whole.into_iter().all(|line| line.is_ok()), "{text}");
    assert_eq!(text.lines().count(), 3, "{text}");
}

#[tokio::test]
async fn a_caller_without_rights_does_not_learn_the_only_target() {
    let upstream = upstream().await;
    let none = app("", &upstream).await;
    let failed = none
        .delete_batch_node_user(batch_request("alice"))
        .await
        .unwrap_err();
    failed.expect(Code::PermissionDenied, "CALLER_NOT_AUTHORIZED");
    assert_eq!(failed.meta("account"), "");
    let failed = none
        .delete_batch_node_user(batch_request(".."))
        .await
        .unwrap_err();
    failed.expect(Code::InvalidArgument, "INVALID_REQUEST");
    assert_eq!(failed.meta("account"), "");
}

#[tokio::test]
async fn what_finds_a_call_in_the_logs_of_azure_is_on_record() {
    let upstream =
        Upstream::start(|seen| token_or(seen, || Reply::empty(200).with("request-id", "azure-1")))
            .await;
    let folder = App::folder();
    let section = batch_section(&folder, &upstream.url);
    let app = App::start_in(folder, &section).await;
    let done = app
        .delete_batch_node_user(batch_request("alice"))
        .await
        .unwrap();
    let record = &app.audit()[1];
    assert_eq!(record["client_request_id"], done.client_request_id);
    assert_eq!(record["upstream_request_id"], "azure-1");
}
