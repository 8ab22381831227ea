//! What is counted where there is no answer: callers who go away, targets that are left alone, scrapes at the same time.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::join_all;
use http::{HeaderName, Request as HttpRequest};
use tokio::{net::TcpStream, sync::Notify};
use tonic::{Code, Request};

use super::{BATCH, HMC, count, serving, value};
use crate::support::{
    App, Reply, Upstream, ask, batch_deleted, batch_request, hmc_or, refusal, token_or, until,
};

async fn with_account(account: &Upstream) -> App {
    let hmc = Upstream::start(|seen| hmc_or(seen, || refusal(seen, 409, 317))).await;
    serving(account, &hmc).await
}

const CANCELED: &str = "grpc_code=\"Canceled\",reason=\"\"} 1";

async fn until_canceled(app: &App) {
    until("a call is counted as given up", async || {
        let lines = app.metrics("grpc_server_handled_total").await;
        lines.iter().any(|line| line.contains(CANCELED))
    })
    .await;
    let others = ["DeadlineExceeded", "Unknown", "InvalidArgument"];
    let lines = app.metrics("grpc_server_handled_total").await;
    let counted = |line: &&String| others.iter().any(|other| line.contains(other));
    assert_eq!(lines.iter().find(counted), None);
}

/// While a token is waited for: nothing was sent.
#[tokio::test]
async fn a_caller_who_goes_before_anything_is_sent() {
    let hang = Arc::new(Notify::new());
    let told = Arc::clone(&hang);
    let account = Upstream::start(move |_| {
        told.notify_one();
        Reply::Hang
    })
    .await;
    let app = with_account(&account).await;
    let mut request = Request::new(batch_request("alice"));
    request.set_timeout(Duration::from_secs(20));
    let mut client = app.client();
    let mut call = Box::pin(client.delete_batch_node_user(request));
    tokio::select! {
        _ = &mut call => panic!("no token came"),
        () = hang.notified() => {}
    }
    drop(call);
    until_canceled(&app).await;
}

/// Headers, and then nothing: the stream is reset, or the connection ends.
#[tokio::test]
async fn a_caller_who_goes_before_its_message_comes() {
    let account = Upstream::start(|seen| token_or(seen, batch_deleted)).await;
    for reset in [true, false] {
        let app = with_account(&account).await;
        let stream = TcpStream::connect(app.address).await.unwrap();
        let (client, connection) = h2::client::handshake(stream).await.unwrap();
        let connection = tokio::spawn(connection);
        let uri = "http://localhost/useradmin.v1.UserAdmin/DeleteBatchNodeUser";
        let content_type = HeaderName::from_static("content-type");
        let request = HttpRequest::post(uri).header(content_type, "application/grpc");
        let mut client = client.ready().await.unwrap();
        let sent = client.send_request(request.body(()).unwrap(), false);
        let (_answer, mut body) = sent.unwrap();
        // A part of the prefix of a message.
        body.send_data(Bytes::from_static(b"\0\0"), false).unwrap();
        until("the call has begun", async || {
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
async fn an_open_breaker_is_told() {
    let account = Upstream::start(|seen| token_or(seen, || Reply::empty(501))).await;
    let app = with_account(&account).await;
    let name = "useradmin_upstream_breaker_open";
    assert_eq!(count(&app, name, &[BATCH]).await, 0);
    for _ in 0..20 {
        let failed = app.delete_batch_node_user(batch_request("alice")).await;
        failed
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
    let app = with_account(&account).await;
    let failed = app.delete_batch_node_user(batch_request("alice")).await;
    failed
        .unwrap_err()
        .expect(Code::Internal, "UPSTREAM_CREDENTIALS_REJECTED");
    let name = "useradmin_upstream_credential_renewals_total";
    assert!(value(&app, name, &[BATCH, "result=\"failed\""]).await >= 1.0);
}

/// Two Prometheus servers do not take anything from each other.
#[tokio::test(flavor = "multi_thread")]
async fn scrapes_at_the_same_time_are_whole() {
    let account = Upstream::start(|seen| token_or(seen, batch_deleted)).await;
    let app = with_account(&account).await;
    let done = app.delete_batch_node_user(batch_request("alice")).await;
    assert!(done.is_ok());
    for _ in 0..25 {
        let scrapes = (0..8).map(|_| ask(app.admin.unwrap(), "/metrics"));
        for text in join_all(scrapes).await {
            assert!(
                text.contains("useradmin_upstream_credential_age_seconds{"),
                "{text}"
            );
        }
    }
}
