//! The drain as its participants see it: connected callers, new callers, probes, and the call in progress.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};
use tonic::Code;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use useradmin_testkit::{App, SecureClient, batch_request, batch_section, http_get, wait_until};

use crate::bulkhead::gated_upstream;

/// Starts a proxy that drops the frames PING and GOAWAY (RFC 9113, sections 6.7 and 6.8) of the server. Its client does
/// not learn that the connection is being closed, like a client whose calls cross the GOAWAY in flight.
async fn dropping_proxy(server: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (client, _) = listener.accept().await.unwrap();
        let server = TcpStream::connect(server).await.unwrap();
        let (mut asks, responses) = client.into_split();
        let (from, mut to) = server.into_split();
        tokio::spawn(async move { tokio::io::copy(&mut asks, &mut to).await });
        filter(from, responses).await;
    });
    address
}

/// Forwards frames until the connection is closed.
async fn filter(mut from: OwnedReadHalf, mut to: OwnedWriteHalf) -> Option<()> {
    loop {
        let mut head = [0; 9];
        from.read_exact(&mut head).await.ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut frame = head.to_vec();
        frame.resize(9 + length as usize, 0);
        from.read_exact(&mut frame[9..]).await.ok()?;
        // The acknowledgement of a PING of the client must pass.
        let is_answer = head[4] & 1 == 1;
        if head[3] == 7 || (head[3] == 6 && !is_answer) {
            continue;
        }
        to.write_all(&frame).await.ok()?;
    }
}

async fn health(client: &SecureClient) -> ServingStatus {
    let mut health = HealthClient::new(client.channel());
    let request = HealthCheckRequest {
        service: "useradmin.v1.UserAdmin".to_owned(),
    };
    health.check(request).await.unwrap().get_ref().status()
}

#[tokio::test]
async fn draining_server_reports_shutdown_to_all_callers() {
    let (upstream, arrived, gate) = gated_upstream().await;
    let folder = App::folder();
    let text = "[server]\nlisten = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"\n[[callers]]\n\
        identity = \"anonymous\"\nallow = [{ rpc = \"DeleteBatchNodeUser\", targets = [\"*\"] }]\n";
    let section = batch_section(&folder, &upstream.url);
    let app = App::start_with_text(folder, &format!("{text}{section}")).await;
    let (address, admin) = (app.address, app.admin.unwrap());
    let client = SecureClient::plain(dropping_proxy(address).await);
    assert_eq!(health(&client).await, ServingStatus::Serving);
    let mut pending_call = app.client();
    let pending_call = tokio::spawn(async move {
        pending_call
            .delete_batch_node_user(batch_request("alice"))
            .await
    });
    arrived.notified().await;

    let stop_task = tokio::spawn(app.stop());
    wait_until("draining", async || {
        let response = http_get(admin, "/readyz").await;
        response.starts_with("HTTP/1.1 503 ") && response.ends_with("\r\ndraining\n")
    })
    .await;
    assert!(http_get(admin, "/livez").await.starts_with("HTTP/1.1 200 "));
    wait_until("a new connection is refused", async || {
        TcpStream::connect(address).await.is_err()
    })
    .await;
    let failure = client.delete_batch_node_user(batch_request("bob")).await;
    let failure = failure.unwrap_err();
    failure.expect(Code::Unavailable, "SHUTTING_DOWN");
    assert!(failure.retry_delay.is_some());
    let actual = (
        failure.metadata_value("attempts"),
        failure.metadata_value("outcome"),
    );
    assert_eq!(actual, ("0", "not_sent"));
    assert_eq!(health(&client).await, ServingStatus::NotServing);
    // An idle client would keep its connection open for as long as possible.
    drop(client);

    assert!(!pending_call.is_finished() && !stop_task.is_finished());
    gate.notify_one();
    assert_eq!(pending_call.await.unwrap().unwrap().get_ref().attempts, 1);
    stop_task.await.unwrap();
    assert_eq!(upstream.requests("DELETE", "").len(), 1);
}
