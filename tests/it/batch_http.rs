//! Responses with an unexpected status or an invalid form: redirects, successes other than 200, truncated and endless
//! responses, and bytes that are not HTTP.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tonic::Code;
use useradmin::proto::DeleteOutcome;
use useradmin_testkit::{
    CANARY, CallFailure, REQUEST_ID, Reply, Upstream, assert_not_disclosed, batch_document,
    batch_request, batch_response, start_batch,
};

#[tokio::test]
async fn redirects_are_not_followed() {
    let elsewhere = Upstream::start(|_| Reply::empty(200)).await;
    let calls = [300, 301, 302, 303, 304, 307, 308].map(|status| {
        let location = format!("{}/elsewhere", elsewhere.url);
        async move {
            let (app, upstream) =
                start_batch(move |_| Reply::html(status).with_header("Location", &location)).await;
            let call = app
                .client()
                .delete_batch_node_user(batch_request("alice"))
                .await;
            let response = call.unwrap_err();
            assert_not_disclosed(&response, &upstream);
            let failure = CallFailure::from(response);
            failure.expect(Code::Unavailable, "UPSTREAM_PROTOCOL_ERROR");
            assert_eq!(
                (
                    failure.metadata_value("attempts"),
                    failure.metadata_value("outcome")
                ),
                ("1", "unknown")
            );
            assert_eq!(failure.retry_delay, None);
            assert_eq!(upstream.requests("DELETE", "").len(), 1);
        }
    });
    join_all(calls).await;
    assert_eq!(elsewhere.received().len(), 0);
}

#[tokio::test]
async fn only_status_200_means_deleted() {
    let other_statuses = [101, 201, 202, 203, 204, 205, 206, 226, 299, 600, 999];
    let calls = other_statuses.map(|status| async move {
        let (app, upstream) = start_batch(move |_| Reply::html(status)).await;
        let call = app
            .client()
            .delete_batch_node_user(batch_request("alice"))
            .await;
        let response = call.unwrap_err();
        assert_not_disclosed(&response, &upstream);
        let failure = CallFailure::from(response);
        failure.expect(Code::Unavailable, "UPSTREAM_PROTOCOL_ERROR");
        assert_eq!(
            failure.metadata_value("upstream_http_status"),
            status.to_string()
        );
        assert_eq!(
            (
                failure.metadata_value("attempts"),
                failure.metadata_value("outcome")
            ),
            ("1", "unknown"),
            "{status}"
        );
    });
    join_all(calls).await;
}

#[tokio::test]
async fn status_200_is_success_before_body_ends() {
    let response_head = format!("HTTP/1.1 200 OK\r\nrequest-id: {REQUEST_ID}\r\n");
    let rows = [
        Reply::html(200).with_header("request-id", REQUEST_ID),
        batch_response(200, &batch_document("NodeUserNotFound", CANARY, &[])),
        Reply::Raw(format!("{response_head}Content-Length: 100\r\n\r\n{{").into_bytes()),
        Reply::Raw(format!("{response_head}Transfer-Encoding: chunked\r\n\r\nzz").into_bytes()),
        Reply::Endless(response_head.clone(), Duration::ZERO),
        Reply::Endless(response_head, Duration::from_millis(10)),
    ];
    let calls = rows.map(|reply| async move {
        let text = format!("{reply:?}");
        let (app, upstream) = start_batch(move |_| reply.clone()).await;
        let started = Instant::now();
        let response = app
            .delete_batch_node_user(batch_request("alice"))
            .await
            .unwrap();
        assert_eq!(
            (response.outcome(), response.attempts),
            (DeleteOutcome::Deleted, 1),
            "{text}"
        );
        assert!(started.elapsed() < Duration::from_secs(1), "{text}");
        assert_eq!(upstream.requests("DELETE", "").len(), 1, "{text}");
    });
    join_all(calls).await;
}

#[tokio::test]
async fn invalid_http_is_not_a_response() {
    let many = |count: usize, size: usize| {
        let line = format!("X-{CANARY}: {}\r\n", "x".repeat(size));
        format!("HTTP/1.1 404 Not Found\r\n{}\r\n", line.repeat(count))
    };
    let rows = [
        format!("{CANARY}\r\n\r\n"),
        "HTTP/1.1 20".to_owned(),
        format!("HTTP/1.1 099 {CANARY}\r\n\r\n"),
        format!("HTTP/3.7 200 {CANARY}\r\n\r\n"),
        format!("HTTP/1.1 200 OK\r\n{CANARY}\r\n\r\n"),
        many(1_000, 10),
        many(2, 1_000_000),
        "\u{16}\u{3}\u{1}".to_owned(),
    ];
    let calls = rows.map(|bytes| async move {
        let text: String = bytes.chars().take(40).collect();
        let (app, upstream) = start_batch(move |_| Reply::Raw(bytes.clone().into_bytes())).await;
        let call = app
            .client()
            .delete_batch_node_user(batch_request("alice"))
            .await;
        let response = call.unwrap_err();
        assert_not_disclosed(&response, &upstream);
        let failure = CallFailure::from(response);
        failure.expect(Code::Unavailable, "OUTCOME_UNKNOWN");
        assert_eq!(
            (
                failure.metadata_value("attempts"),
                failure.metadata_value("outcome")
            ),
            ("3", "unknown"),
            "{text}"
        );
    });
    join_all(calls).await;
}
