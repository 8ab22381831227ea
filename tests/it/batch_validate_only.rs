//! `validate_only` with Azure Batch: the node and its pool are read, and no DELETE is sent.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::json;
use tonic::Code::{
    self, DeadlineExceeded, FailedPrecondition, Internal, NotFound, PermissionDenied,
    ResourceExhausted, Unavailable,
};
use useradmin::proto::{BatchNodeUserValidation, DeleteBatchNodeUserRequest, DeleteOutcome};
use useradmin_testkit::{
    REQUEST_ID, ReceivedRequest, Reply, batch_deleted, batch_error, batch_request, batch_response,
    batch_with_timeout, in_sequence, start_batch,
};

fn validate(user_name: &str) -> DeleteBatchNodeUserRequest {
    DeleteBatchNodeUserRequest {
        validate_only: true,
        allow_missing: true,
        ..batch_request(user_name)
    }
}

/// Returns a node with this state, in the format of Azure Batch.
fn node_reply(state: &str) -> Reply {
    batch_response(
        200,
        &format!(
            "{{\r\n  \"odata.metadata\":\"https://account.region.batch.azure.com/$metadata#nodes/@Element\",\
             \"id\":\"node-1\",\"url\":\"https://account.region.batch.azure.com/pools/pool-1/nodes/node-1\",\
             \"state\":\"{state}\",\"schedulingState\":\"enabled\",\"isDedicated\":true,\"nodeAgentInfo\":{{\r\n    \"version\":\"1.12.2.0\"\r\n  }}\r\n}}"
        ),
    )
}

/// Returns a pool that defines users with these names.
fn pool_reply(id: &str, names: &[&str]) -> Reply {
    let users = names
        .iter()
        .map(|name| json!({"name": name, "elevationLevel": "nonadmin"}));
    let users: Vec<_> = users.collect();
    batch_response(200, &json!({"id": id, "userAccounts": users}).to_string())
}

/// Returns whether the request reads the pool.
fn reads_pool(request: &ReceivedRequest) -> bool {
    request.target.starts_with("/pools/pool-1?")
}

/// Responses to the read of the pool, and the value of `defined_by_pool` for the user `Alice`.
#[rustfmt::skip]
fn pools() -> Vec<(Reply, Option<bool>)> {
    vec![
        (pool_reply("pool-1", &[]), Some(false)),
        (pool_reply("pool-1", &["bob", "alicea"]), Some(false)),
        (pool_reply("pool-1", &["bob", "Alice"]), Some(true)),
        (pool_reply("POOL-1", &["ALICE"]), Some(true)),
        (batch_response(200, r#"{"id":"pool-1"}"#), Some(false)),
        (batch_response(200, r#"{"id":"pool-1","userAccounts":null}"#), Some(false)),
        (batch_response(200, r#"{"id":"pool-1","userAccounts":{"name":"alice"}}"#), None),
        (batch_response(200, r#"{"id":"pool-1","userAccounts":[{"name":"alice"},{"name":2}]}"#), None),
        (batch_response(200, r#"{"id":1,"userAccounts":[]}"#), None),
        (pool_reply("pool-2", &["alice"]), None),
        (batch_response(200, r#"{"userAccounts":[]}"#), None),
        (batch_response(200, "[]"), None),
        (Reply::json(200, r#"{"id":"pool-1"}"#), None),
        (batch_error(404, "PoolNotFound"), None),
        (batch_error(403, "AuthorizationFailure"), None),
        (batch_error(500, "InternalError"), None),
        (Reply::html(502), None),
        (Reply::Close, None),
    ]
}

/// The request is valid even if the pool cannot be read, which is not tried again.
#[tokio::test]
async fn response_reports_whether_pool_defines_user() {
    join_all(pools().into_iter().map(|(reply, expected)| async move {
        let case = format!("{reply:?}");
        let (app, upstream) = start_batch(move |request| {
            if reads_pool(request) {
                reply.clone()
            } else {
                node_reply("idle")
            }
        })
        .await;
        let response = app.delete_batch_node_user(validate("Alice")).await.unwrap();
        assert_eq!(response.outcome(), DeleteOutcome::Validated, "{case}");
        let validation = BatchNodeUserValidation {
            node_state: "idle".to_owned(),
            defined_by_pool: expected,
        };
        assert_eq!(response.validation, Some(validation), "{case}");
        assert_eq!(
            upstream.requests("GET", "/pools/pool-1?").len(),
            1,
            "{case}"
        );
    }))
    .await;
}

/// The read of the pool does not delay the response by more than two seconds.
#[tokio::test]
async fn hung_read_of_pool_is_abandoned() {
    let (app, _upstream) = start_batch(|request| {
        if reads_pool(request) {
            Reply::Hang
        } else {
            node_reply("idle")
        }
    })
    .await;
    let started = Instant::now();
    let response = app.delete_batch_node_user(validate("alice")).await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(8));
    assert_eq!(response.validation.unwrap().defined_by_pool, None);
}

#[tokio::test]
async fn deletion_has_no_validation() {
    let (app, upstream) = start_batch(|_| batch_deleted()).await;
    let response = app
        .delete_batch_node_user(batch_request("alice"))
        .await
        .unwrap();
    assert_eq!(response.validation, None);
    assert_eq!(upstream.requests("GET", "").len(), 0);
}

#[tokio::test]
async fn idle_or_running_node_is_valid() {
    for state in ["idle", "running"] {
        let (mut app, upstream) = start_batch(move |request| {
            if reads_pool(request) {
                pool_reply("pool-1", &[])
            } else {
                node_reply(state)
            }
        })
        .await;
        let response = app.delete_batch_node_user(validate("a/b")).await.unwrap();
        assert_eq!(
            (response.outcome(), response.attempts),
            (DeleteOutcome::Validated, 0)
        );
        assert_eq!(response.request_id, REQUEST_ID);
        let request = upstream.requests("GET", "");
        let targets: Vec<_> = request.iter().map(|request| &*request.target).collect();
        let expected = [
            "/pools/pool-1/nodes/node-1?timeout=29&api-version=2023-11-01.18.0",
            "/pools/pool-1?$select=id,userAccounts&timeout=1&api-version=2023-11-01.18.0",
        ];
        assert_eq!(targets, expected);
        assert_eq!(response.validation.unwrap().node_state, state);
        assert_eq!(
            request[0].header("client-request-id"),
            Some(&*response.client_request_id)
        );
        assert_eq!(
            request[0].header("accept"),
            Some("application/json; odata=minimalmetadata")
        );
        assert_eq!(upstream.requests("DELETE", "").len(), 0);
        app.drain().await;
        let records = app.audit();
        assert_eq!(records.len(), 1, "{records:?}");
        assert_eq!(records[0]["outcome"], "validated");
    }
}

/// Node states that prevent a deletion, and the reasons.
const STATES: [(&str, &str); 14] = [
    ("creating", "NODE_NOT_READY"),
    ("starting", "NODE_NOT_READY"),
    ("rebooting", "NODE_NOT_READY"),
    ("reimaging", "NODE_NOT_READY"),
    ("waitingforstarttask", "NODE_NOT_READY"),
    ("starttaskfailed", "NODE_NOT_READY"),
    ("unknown", "NODE_NOT_READY"),
    ("leavingpool", "NODE_NOT_READY"),
    ("offline", "NODE_NOT_READY"),
    ("preempted", "NODE_NOT_READY"),
    ("upgradingos", "NODE_NOT_READY"),
    ("deallocated", "NODE_NOT_READY"),
    ("a state of tomorrow", "NODE_NOT_READY"),
    ("unusable", "NODE_UNUSABLE"),
];

/// Returns the responses to the read of the node, the expected results, and the number of reads.
#[rustfmt::skip]
fn obstacles() -> Vec<(Reply, Code, &'static str, usize)> {
    let states = STATES.map(|(state, reason)| (node_reply(state), FailedPrecondition, reason, 1));
    let errors = [
        (batch_error(404, "PoolNotFound"), NotFound, "POOL_NOT_FOUND", 1),
        (batch_error(404, "NodeNotFound"), NotFound, "NODE_NOT_FOUND", 1),
        (batch_error(404, "ResourceNotFound"), NotFound, "UPSTREAM_RESOURCE_NOT_FOUND", 1),
        (batch_error(409, "NodeBeingRebooted"), FailedPrecondition, "NODE_NOT_READY", 1),
        (batch_error(403, "AuthorizationFailure"), PermissionDenied, "UPSTREAM_PERMISSION_DENIED", 1),
        (batch_error(401, "AuthenticationFailed"), Internal, "UPSTREAM_CREDENTIALS_REJECTED", 2),
        (batch_error(429, "TooManyRequests"), ResourceExhausted, "UPSTREAM_THROTTLED", 3),
        (batch_error(500, "InternalError"), Unavailable, "UPSTREAM_UNAVAILABLE", 3),
        (Reply::Close, Unavailable, "UPSTREAM_UNREACHABLE", 3),
    ];
    let garbage = [
        Reply::html(404),
        Reply::html(302).with_header("Location", "/"),
        Reply::html(200),
        Reply::empty(200),
        Reply::empty(204),
        Reply::json(202, r#"{"state":"idle"}"#),
        batch_response(200, "{}"),
        batch_response(200, r#"[{"state":"idle"}]"#),
        batch_response(200, r#"{"state":1}"#),
        batch_response(200, r#"{"state":"idle""#),
    ];
    let garbage = garbage.map(|reply| (reply, Unavailable, "UPSTREAM_PROTOCOL_ERROR", 1));
    states.into_iter().chain(errors).chain(garbage).collect()
}

#[tokio::test]
async fn validation_detects_obstacles_without_delete() {
    let calls = obstacles()
        .into_iter()
        .map(|(reply, code, reason, reads)| async move {
            let text = format!("{reply:?}");
            let (app, upstream) = start_batch(move |_| reply.clone()).await;
            let failure = app
                .delete_batch_node_user(validate("alice"))
                .await
                .unwrap_err();
            failure.expect(code, reason);
            assert_eq!(
                (
                    failure.metadata_value("attempts"),
                    failure.metadata_value("outcome")
                ),
                ("0", "not_sent"),
                "{text}"
            );
            assert_eq!(
                upstream
                    .requests("GET", "/pools/pool-1/nodes/node-1?")
                    .len(),
                reads,
                "{text}"
            );
            assert_eq!(upstream.requests("DELETE", "").len(), 0, "{text}");
            assert!(
                app.audit().iter().all(|record| record["event"] != "intent"),
                "{text}"
            );
        });
    join_all(calls).await;
}

#[tokio::test]
async fn failed_read_is_retried() {
    let replies = vec![
        Reply::Close,
        batch_error(503, "ServerBusy"),
        node_reply("idle"),
    ];
    let (app, upstream) = start_batch(in_sequence(replies)).await;
    let response = app.delete_batch_node_user(validate("alice")).await.unwrap();
    assert_eq!(
        (response.outcome(), response.attempts),
        (DeleteOutcome::Validated, 0)
    );
    assert_eq!(upstream.requests("GET", "/pools/pool-1/nodes/").len(), 3);
}

#[tokio::test]
async fn read_without_response_reports_not_sent() {
    let (app, upstream) = start_batch(|_| Reply::Hang).await;
    let timeout = Duration::from_millis(500);
    let failure = batch_with_timeout(&app, validate("alice"), timeout)
        .await
        .unwrap_err();
    failure.expect(DeadlineExceeded, "DEADLINE_EXCEEDED");
    assert_eq!(
        (
            failure.metadata_value("attempts"),
            failure.metadata_value("outcome")
        ),
        ("0", "not_sent")
    );
    assert_eq!(upstream.requests("GET", "").len(), 1);
}
