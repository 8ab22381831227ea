//! Metrics where there is no response: callers that disconnect, targets behind an open circuit breaker, concurrent
//! scrapes.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::join_all;
use http::{HeaderName, Request as HttpRequest};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::Notify,
};
use tonic::{Code, Request};
use useradmin_testkit::{
    App, Reply, Upstream, batch_deleted, batch_request, error_reply, hmc_reply_or, http_get,
    token_reply_or, wait_until,
};

use super::{BATCH, HMC, count, metric_value, start_app};

async fn start_app_with_account(account: &Upstream) -> App {
    let hmc =
        Upstream::start(|request| hmc_reply_or(request, || error_reply(request, 409, 317))).await;
    start_app(account, &hmc).await
}

const CANCELED: &str = "grpc_code=\"Canceled\",reason=\"\"} 1";

async fn until_canceled(app: &App) {
    wait_until("a call is counted as given up", async || {
        let lines = app.metrics("grpc_server_handled_total").await;
        lines.iter().any(|line| line.contains(CANCELED))
    })
    .await;
    let others = ["DeadlineExceeded", "Unknown", "InvalidArgument"];
    let lines = app.metrics("grpc_server_handled_total").await;
    let is_listed = |line: &&String| others.iter().any(|other| line.contains(other));
    assert_eq!(lines.iter().find(is_listed), None);
}

/// The caller disconnects during the token request: no deletion was sent.
#[tokio::test]
async fn call_canceled_before_request_is_counted() {
    let hang = Arc::new(Notify::new());
    let actual = Arc::clone(&hang);
    let account = Upstream::start(move |_| {
        actual.notify_one();
        Reply::Hang
    })
    .await;
    let app = start_app_with_account(&account).await;
    let mut request = Request::new(batch_request("alice"));
    request.set_timeout(Duration::from_secs(20));
    let mut client = app.client();
    let mut call = Box::pin(client.delete_batch_node_user(request));
    tokio::select! {
        _ = &mut call => panic!("the call ended without a token"),
        () = hang.notified() => {}
    }
    drop(call);
    until_canceled(&app).await;
}

/// Headers without a message: the stream is reset, or the connection is closed.
#[tokio::test]
async fn call_canceled_before_message_is_counted() {
    let account = Upstream::start(|received| token_reply_or(received, batch_deleted)).await;
    for reset in [true, false] {
        let app = start_app_with_account(&account).await;
        let stream = TcpStream::connect(app.address).await.unwrap();
        let (client, connection) = h2::client::handshake(stream).await.unwrap();
        let connection = tokio::spawn(connection);
        let uri = "http://localhost/useradmin.v1.UserAdmin/DeleteBatchNodeUser";
        let content_type = HeaderName::from_static("content-type");
        let request = HttpRequest::post(uri).header(content_type, "application/grpc");
        let mut client = client.ready().await.unwrap();
        let sent = client.send_request(request.body(()).unwrap(), false);
        let (_answer, mut body) = sent.unwrap();
        // An incomplete prefix of a message.
        body.send_data(Bytes::from_static(b"\0\0"), false).unwrap();
        wait_until("the call has begun", async || {
            let name = "grpc_server_started_total";
            count(&app, name, &["DeleteBatchNodeUser"]).await == 1
        })
        .await;
        if reset {
            body.send_reset(h2::Reason::CANCEL);
        } else {
            connection.abort();
        }
        until_canceled(&app).await;
    }
}

#[tokio::test]
async fn open_breaker_is_exported() {
    let account = Upstream::start(|request| token_reply_or(request, || Reply::empty(501))).await;
    let app = start_app_with_account(&account).await;
    let name = "useradmin_upstream_breaker_open";
    assert_eq!(count(&app, name, &[BATCH]).await, 0);
    for _ in 0..20 {
        let failure = app.delete_batch_node_user(batch_request("alice")).await;
        failure
            .unwrap_err()
            .expect(Code::Internal, "UPSTREAM_REJECTED_REQUEST");
    }
    assert_eq!(count(&app, name, &[BATCH]).await, 1);
    let openings = "useradmin_upstream_breaker_openings_total";
    assert_eq!(count(&app, openings, &[BATCH]).await, 1);
    assert_eq!(count(&app, openings, &[HMC]).await, 0);
}

#[tokio::test]
async fn failed_renewals_are_counted() {
    let account = Upstream::start(|_| Reply::empty(401)).await;
    let app = start_app_with_account(&account).await;
    let failure = app.delete_batch_node_user(batch_request("alice")).await;
    failure
        .unwrap_err()
        .expect(Code::Internal, "UPSTREAM_CREDENTIALS_REJECTED");
    let name = "useradmin_upstream_credential_renewals_total";
    assert!(metric_value(&app, name, &[BATCH, "result=\"failed\""]).await >= 1.0);
}

/// Two Prometheus servers receive the same metrics.
#[tokio::test(flavor = "multi_thread")]
async fn concurrent_scrapes_are_complete() {
    let account = Upstream::start(|request| token_reply_or(request, batch_deleted)).await;
    let app = start_app_with_account(&account).await;
    let response = app.delete_batch_node_user(batch_request("alice")).await;
    assert!(response.is_ok());
    for _ in 0..25 {
        let scrapes = (0..8).map(|_| http_get(app.admin.unwrap(), "/metrics"));
        for text in join_all(scrapes).await {
            assert!(
                text.contains("useradmin_upstream_credential_age_seconds{"),
                "{text}"
            );
        }
    }
}

/// Returns the body and the content type of `/metrics` for a scraper that sends these headers.
async fn scrape(app: &App, headers: &str) -> (String, String) {
    let mut stream = TcpStream::connect(app.admin.unwrap()).await.unwrap();
    let request = format!("GET /metrics HTTP/1.1\r\nHost: x\r\n{headers}Connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let content_type = |line: &str| line.strip_prefix("content-type: ").map(str::to_owned);
    let content_type = head.lines().find_map(content_type).unwrap();
    (content_type, body.to_owned())
}

/// Checks the rules of the text format: every sample follows the `# TYPE` line of its metric family.
fn check_text(text: &str) {
    let (mut name, mut kind) = ("", "");
    let mut families = BTreeSet::new();
    for line in text.lines() {
        if let Some(family) = line.strip_prefix("# TYPE ") {
            (name, kind) = family.split_once(' ').unwrap();
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert!(families.insert(name), "{line}");
        } else if !line.starts_with("# HELP ") {
            let sample = line.split(['{', ' ']).next().unwrap();
            let suffix = sample
                .strip_prefix(name)
                .unwrap_or_else(|| panic!("{name}: {line}"));
            let suffixes: &[&str] = match kind {
                "histogram" => &["_bucket", "_sum", "_count"],
                _ => &[""],
            };
            assert!(suffixes.contains(&suffix), "{name}: {line}");
            assert!(!line.contains(" # "), "an exemplar: {line}");
        }
    }
    assert!(families.len() > 30, "{families:?}");
    for name in [
        "useradmin_build_info",
        "grpc_server_started_total",
        "grpc_server_handling_seconds",
    ] {
        assert!(families.contains(name), "{families:?}");
    }
}

#[tokio::test]
async fn scrape_format_follows_accept_header() {
    const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
    const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let account = Upstream::start(|request| token_reply_or(request, batch_deleted)).await;
    let app = start_app_with_account(&account).await;
    let response = app.delete_batch_node_user(batch_request("alice")).await;
    assert!(response.is_ok());
    for (headers, expected) in [
        ("", TEXT),
        ("Accept: */*\r\n", TEXT),
        ("Accept: text/plain;version=0.0.4\r\n", TEXT),
        ("Accept: \u{FF}\r\n", TEXT),
        ("Accept: ;;,=,;q=1\r\n", TEXT),
        (
            "Accept: application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2,*/*;q=0.1\r\n",
            OPEN_METRICS,
        ),
        (
            "Accept: text/plain;q=0.2\r\nAccept: application/openmetrics-text;q=0.5\r\n",
            OPEN_METRICS,
        ),
        (
            "Accept: APPLICATION/OpenMetrics-Text; Version=\"0.0.1\"\r\n",
            OPEN_METRICS,
        ),
        (
            "Accept: application/openmetrics-text;q=0.5,text/plain;version=1.0.0\r\n",
            OPEN_METRICS,
        ),
        (
            "Accept: application/openmetrics-text;version=0.0.4\r\n",
            TEXT,
        ),
        (
            "Accept: application/openmetrics-text; version=2.0.0\r\n",
            TEXT,
        ),
        ("Accept: application/openmetrics-text, text/plain\r\n", TEXT),
        (
            "Accept: application/openmetrics-text; q=0.5, text/*\r\n",
            TEXT,
        ),
        ("Accept: application/openmetrics-text; q=7\r\n", TEXT),
        ("Accept: application/openmetrics-text; q=x\r\n", TEXT),
        // The most specific media range applies, not a wider one.
        (
            "Accept: application/openmetrics-text; q=0.5, */*, text/plain; q=0.1\r\n",
            OPEN_METRICS,
        ),
    ] {
        let (content_type, body) = scrape(&app, headers).await;
        assert_eq!(content_type, expected, "{headers}");
        if expected == TEXT {
            check_text(&body);
            assert!(body.contains("# HELP useradmin_build_info Version of the program.\n"));
        } else {
            assert!(body.ends_with("# EOF\n"));
            assert!(body.contains("# TYPE useradmin_build info\n"));
        }
    }
}
