//! Deadlines and disconnects of Azure Batch callers, and requests that were never sent.

use std::{
    fs,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    net::TcpListener,
    sync::{Notify, mpsc},
};
use tonic::Code;
use useradmin_testkit::{
    App, CallFailure, Reply, Upstream, batch_deleted, batch_error, batch_request, batch_section,
    batch_with_timeout, start_batch, token_reply_or,
};

#[tokio::test]
async fn too_short_deadline_sends_no_request() {
    let (app, upstream) = start_batch(|_| batch_deleted()).await;
    for milliseconds in [60, 99, 100, 200, 340] {
        let timeout = Duration::from_millis(milliseconds);
        let failure = batch_with_timeout(&app, batch_request("alice"), timeout)
            .await
            .unwrap_err();
        failure.expect(Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
        assert_eq!(
            (
                failure.metadata_value("attempts"),
                failure.metadata_value("outcome")
            ),
            ("0", "not_sent")
        );
        assert!(failure.retry_delay.is_some());
    }
    assert_eq!(upstream.received().len(), 0);
}

#[tokio::test]
async fn response_is_sent_before_callers_deadline() {
    // In one case the response to the DELETE is missing, in the other the response to the token request.
    let silent = Upstream::start(|_| Reply::Hang).await;
    let (hanging_app, _upstream) = start_batch(|_| Reply::Hang).await;
    let app_without_token = app_with_account(&silent.url, &silent.url).await;
    let rows = [
        (hanging_app, "OUTCOME_UNKNOWN", "1", "unknown"),
        (app_without_token, "DEADLINE_EXCEEDED", "0", "not_sent"),
    ];
    for (app, reason, attempts, outcome) in rows {
        let started = Instant::now();
        let timeout = Duration::from_millis(500);
        let failure = batch_with_timeout(&app, batch_request("alice"), timeout)
            .await
            .unwrap_err();
        let elapsed = started.elapsed();
        failure.expect(Code::DeadlineExceeded, reason);
        assert_eq!(
            (
                failure.metadata_value("attempts"),
                failure.metadata_value("outcome")
            ),
            (attempts, outcome)
        );
        assert!(
            elapsed < timeout && elapsed >= Duration::from_millis(350),
            "{elapsed:?}"
        );
    }
}

/// Starts a server with an account at this URL and a token endpoint at another URL.
async fn app_with_account(url: &str, authority: &str) -> App {
    let folder = App::folder();
    let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(folder.join("ca.pem"), key.cert.pem()).unwrap();
    let section = batch_section(&folder, authority);
    let account = format!("url = \"{url}\"\nca_file = \"ca.pem\"");
    let section = section.replacen(&format!("url = \"{authority}\""), &account, 1);
    App::start_in(folder, &section).await
}

async fn assert_never_sent(url: &str) -> CallFailure {
    let authority = Upstream::start(|request| token_reply_or(request, || Reply::Hang)).await;
    let app = app_with_account(url, &authority.url).await;
    let failure = app
        .delete_batch_node_user(batch_request("alice"))
        .await
        .unwrap_err();
    failure.expect(Code::Unavailable, "UPSTREAM_UNREACHABLE");
    assert_eq!(
        (
            failure.metadata_value("attempts"),
            failure.metadata_value("outcome")
        ),
        ("3", "not_sent")
    );
    assert_eq!(failure.retry_delay, Some(Duration::from_secs(5)));
    assert_eq!(authority.requests("DELETE", "").len(), 0);
    let records = app.audit();
    assert_eq!(records.last().unwrap()["outcome"], "not_sent");
    failure
}

#[tokio::test]
async fn failed_connection_reports_not_sent() {
    let unused = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = unused.local_addr().unwrap();
    drop(unused);
    let plaintext_server = Upstream::start_raw(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    let plaintext_url = plaintext_server.url.replace("http:", "https:");
    let refusing_url = format!("http://{address}");
    tokio::join!(
        assert_never_sent(&refusing_url),
        assert_never_sent(&plaintext_url)
    );
}

/// Disconnects the caller while the upstream processes the DELETE, to which it then sends this reply. Returns the
/// number of DELETEs and the last record.
async fn disconnect_during_delete(reply: Reply) -> (usize, serde_json::Value) {
    let (arrived, mut arrivals) = mpsc::unbounded_channel();
    let gate = Arc::new(Notify::new());
    let gated = Reply::Gated(Arc::clone(&gate), Box::new(reply));
    let (mut app, upstream) = start_batch(move |_| {
        arrived.send(()).unwrap();
        gated.clone()
    })
    .await;
    let mut client = app.client();
    let call =
        tokio::spawn(async move { client.delete_batch_node_user(batch_request("alice")).await });
    arrivals.recv().await.unwrap();
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    // Makes another call on the same connection. When it ends, the server has processed the cancellation of the first
    // one.
    let unrelated_call = app
        .delete_batch_node_user(batch_request(""))
        .await
        .unwrap_err();
    unrelated_call.expect(Code::InvalidArgument, "INVALID_REQUEST");
    gate.notify_one();
    app.drain().await;
    let outcome = app.audit().pop().unwrap();
    assert_eq!(outcome["event"], "outcome");
    assert_eq!(outcome["caller_gone"], true);
    (upstream.requests("DELETE", "").len(), outcome)
}

#[tokio::test]
async fn delete_continues_and_is_recorded_after_caller_disconnects() {
    let rows = [
        (batch_deleted(), "deleted", ""),
        (
            batch_error(404, "NodeUserNotFound"),
            "not_deleted",
            "ERROR_REASON_USER_NOT_FOUND",
        ),
        // A request is not retried after its caller has disconnected.
        (
            batch_error(503, "ServerBusy"),
            "not_deleted",
            "ERROR_REASON_UPSTREAM_UNAVAILABLE",
        ),
        (
            batch_error(401, "AuthenticationFailed"),
            "not_deleted",
            "ERROR_REASON_UPSTREAM_CREDENTIALS_REJECTED",
        ),
        (Reply::Close, "unknown", "ERROR_REASON_OUTCOME_UNKNOWN"),
    ];
    for (reply, outcome, reason) in rows {
        let (sent, record) = disconnect_during_delete(reply).await;
        assert_eq!(sent, 1, "{reason}");
        assert_eq!(record["outcome"], outcome, "{record}");
        assert_eq!(
            record["reason"].as_str().unwrap_or_default(),
            reason,
            "{record}"
        );
        assert_eq!(record["attempts"], 1, "{record}");
    }
}
