//! The audit log in the database: the same records as in a file, one chain for all replicas, quotas, and rights.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use futures_util::future::join_all;
use serde_json::Value;
use useradmin::proto::DeleteBatchNodeUserRequest;
use useradmin_testkit::{
    App, Postgres, ReceivedRequest, Reply, STORE_USER, Store, Upstream, batch_deleted, batch_error,
    batch_request, batch_response, token_reply_or, values_of, verify,
};

use super::replica::configuration;

const EXCEEDED: &str = "ERROR_REASON_DELETE_QUOTA_EXCEEDED";

/// Starts a replica with the account `batch` and this quota.
async fn start_replica(store: &Store<'_>, upstream: &str, quota: Option<u32>) -> App {
    let folder = App::folder();
    let section = store.section(&folder, "");
    start_server(folder, upstream, &section, quota).await
}

async fn start_server(folder: PathBuf, upstream: &str, store: &str, quota: Option<u32>) -> App {
    let quota = quota.map(|quota| format!("deletes_per_minute = {quota}"));
    let quota = quota.unwrap_or_default();
    let text = configuration(&folder, 0, upstream, store, &quota);
    App::start_with_text(folder, &text).await
}

async fn batch_upstream() -> Upstream {
    Upstream::start(move |seen| token_reply_or(seen, batch_deleted)).await
}

/// Returns the number of intents and outcomes of each call.
fn events(records: &[Value]) -> BTreeMap<String, (usize, usize)> {
    let mut calls = BTreeMap::<_, (usize, usize)>::new();
    for record in records {
        let id = record["request_id"].as_str().unwrap().to_owned();
        let call = calls.entry(id).or_default();
        match record["event"].as_str() {
            Some("intent") => call.0 += 1,
            Some("outcome") => call.1 += 1,
            _ => {}
        }
    }
    calls
}

/// Calls, each with the event, outcome and reason of its records. The quota is 5.
const CALLS: [(&str, &[[&str; 3]]); 7] = [
    ("alice", &[["intent", "", ""], ["outcome", "deleted", ""]]),
    (
        "absent",
        &[
            ["intent", "", ""],
            ["outcome", "not_deleted", "USER_NOT_FOUND"],
        ],
    ),
    (
        "cut",
        &[
            ["intent", "", ""],
            ["outcome", "unknown", "OUTCOME_UNKNOWN"],
        ],
    ),
    ("validate", &[["outcome", "validated", ""]]),
    (
        "user.1_x",
        &[["intent", "", ""], ["outcome", "deleted", ""]],
    ),
    ("bob", &[["intent", "", ""], ["outcome", "deleted", ""]]),
    ("over", &[["outcome", "not_sent", "DELETE_QUOTA_EXCEEDED"]]),
];

fn request(user: &str) -> DeleteBatchNodeUserRequest {
    DeleteBatchNodeUserRequest {
        validate_only: user == "validate",
        ..batch_request(user)
    }
}

/// Replies according to the name of the user.
fn reply_by_user(user: &str) -> Reply {
    match user {
        "absent" => batch_error(404, "NodeUserNotFound"),
        "cut" => Reply::Close,
        _ => batch_deleted(),
    }
}

/// Makes all calls one after the other, and asserts that their records in `read` are the expected ones.
async fn assert_records_of_calls(app: &App, read: impl Fn() -> Vec<Value>) {
    for (user, _) in CALLS {
        let _result = app.delete_batch_node_user(request(user)).await;
    }
    let records = read();
    let found = records.iter().map(|record| {
        let text = |key: &str| record[key].as_str().unwrap().to_owned();
        let reason = text("reason");
        let reason = reason.strip_prefix("ERROR_REASON_").unwrap_or_default();
        (
            text("user"),
            [text("event"), text("outcome"), reason.to_owned()],
        )
    });
    let expected = CALLS.iter().flat_map(|(user, records)| {
        let texts = records.iter().map(|record| record.map(ToOwned::to_owned));
        texts.map(|record| ((*user).to_owned(), record))
    });
    assert_eq!(found.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
}

/// Each kind of store has the same records of the same calls.
#[tokio::test(flavor = "multi_thread")]
async fn records_of_each_outcome_are_the_same_in_both_stores() {
    let reply = |seen: &ReceivedRequest| {
        let node = r#"{"id":"node-1","state":"idle"}"#;
        token_reply_or(seen, || match seen.method.as_str() {
            "GET" => batch_response(200, node),
            _ => reply_by_user(&seen.user()),
        })
    };
    let upstream = Upstream::start(reply).await;
    let folder = App::folder();
    let app = start_server(folder.clone(), &upstream.url, "", Some(5)).await;
    assert_records_of_calls(&app, || app.audit()).await;
    assert_eq!(verify([folder.join("audit.jsonl")]).0, 0);
    app.stop().await;
    let Some(postgres) = Postgres::shared() else {
        return;
    };
    let store = Store::create(postgres, "audit_outcomes");
    let app = start_replica(&store, &upstream.url, Some(5)).await;
    assert_records_of_calls(&app, || store.records()).await;
    assert_eq!(store.verify().0, 0);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn records_of_all_replicas_are_one_chain() {
    let Some(postgres) = Postgres::shared() else {
        return;
    };
    let store = Store::create(postgres, "audit_chain");
    let upstream = batch_upstream().await;
    let mut replicas = Vec::new();
    for _ in 0..3 {
        replicas.push(start_replica(&store, &upstream.url, None).await);
    }
    let calls = replicas.iter().flat_map(|app| {
        (0..20)
            .map(move |number| app.delete_batch_node_user(batch_request(&format!("user-{number}"))))
    });
    for response in join_all(calls).await {
        response.unwrap();
    }
    for replica in replicas {
        replica.stop().await;
    }
    let records = store.records();
    assert_eq!(records.len(), 120);
    assert!(events(&records).values().all(|events| *events == (1, 1)));
    let mut writers = values_of(&records, "replica");
    writers.sort();
    writers.dedup();
    assert_eq!(writers.len(), 3);
    let (code, stdout, stderr) = store.verify();
    assert_eq!((code, stderr.as_str()), (0, ""), "{stdout}");
    assert!(
        stdout.contains("120 records, seq 1 to 120, 0 open intents"),
        "{stdout}"
    );
    assert_eq!(
        store
            .database
            .sql("SELECT count(*) FROM useradmin.open_intent")
            .unwrap(),
        "0"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn quota_counts_deletions_of_all_replicas_and_survives_restart() {
    let Some(postgres) = Postgres::shared() else {
        return;
    };
    let store = Store::create(postgres, "audit_quota");
    let upstream = batch_upstream().await;
    let mut deleted = 0;
    for round in 0..3 {
        let mut replicas = Vec::new();
        for _ in 0..3 {
            replicas.push(start_replica(&store, &upstream.url, Some(20)).await);
        }
        let calls = replicas.iter().flat_map(|app| {
            (0..10).map(move |_| app.delete_batch_node_user(batch_request("alice")))
        });
        for response in join_all(calls).await {
            match response {
                Ok(_) => deleted += 1,
                Err(failure) => {
                    assert_eq!(failure.reason, EXCEEDED);
                    let delay = failure.retry_delay.unwrap();
                    assert!((Duration::from_secs(1)..=Duration::from_secs(61)).contains(&delay));
                }
            }
        }
        assert_eq!(deleted, 20, "{round}");
        for replica in replicas {
            replica.stop().await;
        }
    }
    assert_eq!(upstream.requests("DELETE", "").len(), 20);
    let records = store.records();
    let intents = records.iter().filter(|record| record["event"] == "intent");
    assert_eq!(intents.count(), 20);
    assert_eq!(store.verify().0, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_send_nothing_do_not_count() {
    let Some(postgres) = Postgres::shared() else {
        return;
    };
    let store = Store::create(postgres, "audit_refund");
    let app = start_replica(&store, "http://127.0.0.1:9", Some(1)).await;
    for _ in 0..3 {
        let failure = app
            .delete_batch_node_user(batch_request("alice"))
            .await
            .unwrap_err();
        assert_eq!(failure.metadata_value("outcome"), "not_sent", "{failure:?}");
        assert_ne!(failure.reason, EXCEEDED);
    }
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn server_has_no_right_to_change_records() {
    let Some(postgres) = Postgres::shared() else {
        return;
    };
    let store = Store::create(postgres, "audit_rights");
    let upstream = batch_upstream().await;
    let app = start_replica(&store, &upstream.url, None).await;
    app.delete_batch_node_user(batch_request("alice"))
        .await
        .unwrap();
    app.stop().await;
    let url = store.database.url(STORE_USER);
    for (statement, allowed) in [
        ("SELECT count(*) FROM useradmin.audit_record", true),
        ("DELETE FROM useradmin.audit_record", false),
        ("UPDATE useradmin.audit_record SET line = ''", false),
        ("TRUNCATE useradmin.audit_record", false),
        (
            "INSERT INTO useradmin.audit_record SELECT * FROM useradmin.audit_record",
            false,
        ),
        ("UPDATE useradmin.audit_head SET seq = 0", false),
        ("DELETE FROM useradmin.open_intent", false),
        ("DELETE FROM useradmin.deletion_count", false),
        ("DELETE FROM useradmin.hmc_logon", false),
        ("DROP SCHEMA useradmin CASCADE", false),
        ("CREATE TABLE useradmin.t (id int)", false),
    ] {
        let result = super::rig::psql(&url, &[statement]);
        assert_eq!(result.is_ok(), allowed, "{statement}: {result:?}");
    }
}
