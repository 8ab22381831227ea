//! Deadlines that expire while connecting: no request was sent, and the failure reports this.

use std::{
    fs,
    time::{Duration, Instant},
};

use tokio::{io::AsyncReadExt as _, net::TcpListener};
use tonic::{Code, Request, Response};
use useradmin_testkit::{
    App, CallFailure, Reply, Upstream, batch_deleted, batch_request, batch_section, token_reply_or,
    wait_until,
};

/// Starts a Batch account behind a server that accepts connections but never starts the TLS handshake.
async fn start_with_silent_upstream(authority: &Upstream) -> (App, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let folder = App::folder();
    let ca = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(folder.join("ca.pem"), ca.cert.pem()).unwrap();
    let port = listener.local_addr().unwrap().port();
    let section = batch_section(&folder, &authority.url);
    let section = section.replacen(
        &format!("url = \"{}\"", authority.url),
        &format!("url = \"https://127.0.0.1:{port}\"\nca_file = \"ca.pem\""),
        1,
    );
    (App::start_in(folder, &section).await, listener)
}

#[tokio::test]
async fn unfinished_handshake_reports_not_sent() {
    let authority =
        Upstream::start(|received| token_reply_or(received, || Reply::empty(500))).await;
    let (app, _listener) = start_with_silent_upstream(&authority).await;
    // Two concurrent calls: neither may mistake the connection attempt of the other for a response.
    let calls = (0..2).map(|_| async {
        let mut request = Request::new(batch_request("alice"));
        request.set_timeout(Duration::from_millis(700));
        let response = app.client().delete_batch_node_user(request).await;
        CallFailure::from(response.map(Response::into_inner).unwrap_err())
    });
    for failure in futures_util::future::join_all(calls).await {
        failure.expect(Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
        assert_eq!(
            (
                failure.metadata_value("attempts"),
                failure.metadata_value("outcome")
            ),
            ("1", "not_sent")
        );
    }
}

#[tokio::test]
async fn disconnect_while_connecting_ends_the_call() {
    let authority = Upstream::start(|request| token_reply_or(request, || Reply::empty(500))).await;
    let (app, listener) = start_with_silent_upstream(&authority).await;
    let call = app.delete_batch_node_user(batch_request("alice"));
    // The handshake starts but never completes.
    let _connection = tokio::select! {
        response = call => panic!("{response:?}"),
        accepted = listener.accept() => {
            let (mut connection, _) = accepted.unwrap();
            connection.read_u8().await.unwrap();
            connection
        }
    };
    let started = Instant::now();
    wait_until("an outcome", async || app.audit().len() == 2).await;
    // The call ends before the connection timeout of 5 seconds.
    assert!(started.elapsed() < Duration::from_secs(4));
    let record = &app.audit()[1];
    assert_eq!(record["outcome"], "not_sent");
    assert_eq!(record["caller_gone"], true);
}

#[tokio::test]
async fn request_on_closed_idle_connection_has_unknown_outcome() {
    let mut responses = vec![Reply::Hang, batch_deleted()];
    let upstream =
        Upstream::start(move |received| token_reply_or(received, || responses.pop().unwrap()))
            .await;
    let folder = App::folder();
    let section = batch_section(&folder, &upstream.url);
    let app = App::start_in(folder, &section).await;
    app.delete_batch_node_user(batch_request("alice"))
        .await
        .unwrap();
    let mut request = Request::new(batch_request("bob"));
    request.set_timeout(Duration::from_millis(700));
    let response = app.client().delete_batch_node_user(request).await;
    let failure = CallFailure::from(response.unwrap_err());
    failure.expect(Code::DeadlineExceeded, "OUTCOME_UNKNOWN");
    assert_eq!(failure.metadata_value("outcome"), "unknown");
}
