//! The exact request to Azure Batch, and the parsed response.

use std::{
    collections::BTreeSet,
    time::{Duration, SystemTime},
};

use tonic::{Code, Request};
use useradmin::proto::{DeleteBatchNodeUserRequest, DeleteOutcome};
use useradmin_testkit::{
    App, REQUEST_ID, ReceivedRequest, Reply, Upstream, batch_deleted, batch_error, batch_request,
    batch_with_timeout, in_sequence, start_batch,
};

const OWN_ID: &str = "9C4D50EE-2d56-4cd3-8152-34347DC9F2B0";

fn request_with_own_id() -> DeleteBatchNodeUserRequest {
    DeleteBatchNodeUserRequest {
        client_request_id: OWN_ID.to_owned(),
        ..batch_request("alice")
    }
}

async fn delete_request(
    app: &App,
    upstream: &Upstream,
    request: DeleteBatchNodeUserRequest,
) -> ReceivedRequest {
    let requests_before = upstream.requests("DELETE", "").len();
    app.delete_batch_node_user(request).await.unwrap();
    let mut received = upstream.requests("DELETE", "").split_off(requests_before);
    assert_eq!(received.len(), 1);
    received.remove(0)
}

#[tokio::test]
async fn user_name_is_always_one_path_segment() {
    let (app, upstream) = start_batch(|_| batch_deleted()).await;
    let long = ("x".repeat(256), "x".repeat(256));
    let wide = ("\u{1F4A9}".repeat(64), "%F0%9F%92%A9".repeat(64));
    let rows = [
        ("alice", "alice"),
        ("-._~", "-._~"),
        ("...", "..."),
        ("jos\u{e9}", "jos%C3%A9"),
        ("\u{540d}\u{524d}", "%E5%90%8D%E5%89%8D"),
        ("a/b", "a%2Fb"),
        ("../../pools", "..%2F..%2Fpools"),
        ("q?timeout=1#f", "q%3Ftimeout%3D1%23f"),
        ("100%", "100%25"),
        ("%2e%2e", "%252e%252e"),
        ("user name", "user%20name"),
        ("a+b", "a%2Bb"),
        ("a;b=c", "a%3Bb%3Dc"),
        ("a:b@c", "a%3Ab%40c"),
        ("a\\b", "a%5Cb"),
        ("<'\"&,$!()*>", "%3C%27%22%26%2C%24%21%28%29%2A%3E"),
        (&long.0, &long.1),
        (&wide.0, &wide.1),
    ];
    for (name, encoded) in rows {
        let request = delete_request(&app, &upstream, batch_request(name)).await;
        let target = format!(
            "/pools/pool-1/nodes/node-1/users/{encoded}?timeout=29&api-version=2023-11-01.18.0"
        );
        assert_eq!(request.target, target);
    }
}

#[tokio::test]
async fn documented_example_request_is_sent() {
    let (app, upstream) = start_batch(|_| batch_deleted()).await;
    let request = DeleteBatchNodeUserRequest {
        pool_id: "poolId".to_owned(),
        node_id: "tvm-1695681911_1-20161121t182739z".to_owned(),
        ..batch_request("userName")
    };
    let response = batch_with_timeout(&app, request, Duration::from_mins(1)).await;
    assert_eq!(response.unwrap().outcome(), DeleteOutcome::Deleted);
    assert_eq!(
        upstream.requests("DELETE", "")[0].target,
        "/pools/poolId/nodes/tvm-1695681911_1-20161121t182739z/users/userName?api-version=2023-11-01.18.0"
    );
}

#[tokio::test]
async fn timeout_parameter_does_not_exceed_deadline() {
    let (app, upstream) = start_batch(|_| batch_deleted()).await;
    let rows = [
        (None, "?timeout=29&"),
        (Some(600), "?timeout=1&"),
        (Some(1_500), "?timeout=1&"),
        (Some(10_000), "?timeout=9&"),
        (Some(30_000), "?timeout=29&"),
        (Some(40_000), "?"),
        (Some(3_600_000), "?"),
    ];
    for (milliseconds, query) in rows {
        let mut request = Request::new(batch_request("alice"));
        if let Some(milliseconds) = milliseconds {
            request.set_timeout(Duration::from_millis(milliseconds));
        }
        app.client().delete_batch_node_user(request).await.unwrap();
        let received = upstream.requests("DELETE", "").pop().unwrap();
        let expected =
            format!("/pools/pool-1/nodes/node-1/users/alice{query}api-version=2023-11-01.18.0");
        assert_eq!(received.target, expected, "{milliseconds:?}");
    }
}

#[tokio::test]
async fn only_documented_headers_are_sent() {
    // Cookies that a server sets are discarded.
    let (app, upstream) =
        start_batch(|_| batch_deleted().with_header("Set-Cookie", "a=b; Path=/")).await;
    let _first = delete_request(&app, &upstream, request_with_own_id()).await;
    let request = delete_request(&app, &upstream, request_with_own_id()).await;
    let names: BTreeSet<_> = request
        .headers
        .iter()
        .map(|(name, _)| name.as_str())
        .collect();
    let expected = [
        "accept",
        "authorization",
        "client-request-id",
        "host",
        "ocp-date",
        "return-client-request-id",
        "user-agent",
    ];
    assert_eq!(names, BTreeSet::from(expected));
    assert_eq!(request.body, "");
    for (name, value) in [
        ("accept", "application/json; odata=minimalmetadata"),
        ("authorization", "Bearer kanari-token-1"),
        ("client-request-id", OWN_ID),
        ("host", upstream.url.strip_prefix("http://").unwrap()),
        ("return-client-request-id", "true"),
    ] {
        assert_eq!(request.header(name), Some(value));
    }
    let date = request.header("ocp-date").unwrap();
    let time = httpdate::parse_http_date(date).unwrap();
    assert_eq!(httpdate::fmt_http_date(time), date, "RFC 1123");
    let age = SystemTime::now().duration_since(time).unwrap();
    assert!(age < Duration::from_secs(10), "{date}");
}

#[tokio::test]
async fn client_request_id_is_the_same_on_retries() {
    let replies = vec![
        Reply::Close,
        batch_error(500, "InternalError"),
        batch_deleted(),
    ];
    let (app, upstream) = start_batch(in_sequence(replies)).await;
    let retried = app
        .delete_batch_node_user(batch_request("alice"))
        .await
        .unwrap();
    let other = app
        .delete_batch_node_user(batch_request("alice"))
        .await
        .unwrap();
    let ids: Vec<_> = upstream
        .requests("DELETE", "")
        .iter()
        .map(|request| request.header("client-request-id").unwrap().to_owned())
        .collect();
    let (first, second) = (&retried.client_request_id, &other.client_request_id);
    assert_eq!(ids, [first, first, first, second].map(String::clone));
    assert_ne!(first, second);
    for id in ids {
        assert_eq!(uuid::Uuid::parse_str(&id).unwrap().to_string(), id);
    }
    assert_eq!((retried.attempts, other.attempts), (3, 1));
}

#[tokio::test]
async fn returned_ids_are_reported() {
    let replies = vec![batch_deleted(), batch_error(409, "NodeStateUnusable")];
    let (app, _upstream) = start_batch(in_sequence(replies)).await;
    let response = app
        .delete_batch_node_user(request_with_own_id())
        .await
        .unwrap();
    assert_eq!(response.outcome(), DeleteOutcome::Deleted);
    assert_eq!(response.request_id, REQUEST_ID);
    assert_eq!(response.client_request_id, OWN_ID);

    let failure = app
        .delete_batch_node_user(request_with_own_id())
        .await
        .unwrap_err();
    failure.expect(Code::FailedPrecondition, "NODE_UNUSABLE");
    assert_eq!(failure.metadata_value("upstream_request_id"), REQUEST_ID);
    assert_eq!(failure.metadata_value("client_request_id"), OWN_ID);
    let error = failure.batch.unwrap();
    assert_eq!(
        (error.request_id.as_str(), error.client_request_id.as_str()),
        (REQUEST_ID, OWN_ID)
    );
}

#[tokio::test]
async fn successful_call_has_request_id_in_trailer_and_audit_log() {
    // A recorded response: chunked, without a body and `Content-Type`.
    let recorded = format!(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nServer: Microsoft-HTTPAPI/2.0\r\nrequest-id: {REQUEST_ID}\r\n\
         DataServiceVersion: 3.0\r\nConnection: close\r\n\r\n0\r\n\r\n"
    );
    let (app, _upstream) = start_batch(move |_| Reply::Raw(recorded.clone().into_bytes())).await;
    let mut ids = BTreeSet::new();
    for _ in 0..2 {
        let call = app
            .client()
            .delete_batch_node_user(batch_request("alice"))
            .await
            .unwrap();
        let id = call
            .metadata()
            .get("x-request-id")
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned();
        assert_eq!(call.into_inner().request_id, REQUEST_ID);
        let records = app.audit();
        let mut of_call = records
            .iter()
            .filter(|record| record["request_id"] == id.as_str());
        assert_eq!(of_call.next().unwrap()["event"], "intent");
        assert_eq!(of_call.next().unwrap()["outcome"], "deleted");
        ids.insert(id);
    }
    assert_eq!(ids.len(), 2);
}
