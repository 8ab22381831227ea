//! The limit of connections, and silent peers that must not exclude others.

use std::time::{Duration, Instant};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use useradmin::proto::DeleteOutcome;
use useradmin_testkit::{App, Upstream, batch_request, batch_section};

use crate::authorization::upstream;

/// The connection preface and an empty SETTINGS frame.
pub const HTTP2_START: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

async fn start_with_connection_limit() -> (App, Upstream) {
    let (upstream, folder) = (upstream().await, App::folder());
    let text = "[server]\nlisten = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"\n\
        [server.limits]\nmax_connections = 3\n[[callers]]\nidentity = \"anonymous\"\n\
        allow = [{ rpc = \"DeleteBatchNodeUser\", targets = [\"*\"] }]\n";
    let section = batch_section(&folder, &upstream.url);
    let app = App::start_with_text(folder, &format!("{text}{section}")).await;
    (app, upstream)
}

/// Opens a connection and waits for the settings of the server. Returns `None` if the connection is closed.
async fn open_connection(app: &App) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(app.address).await.unwrap();
    stream.write_all(HTTP2_START).await.unwrap();
    let first_byte = stream.read_u8().await;
    first_byte.ok().map(|_| stream)
}

#[tokio::test]
async fn connections_are_limited() {
    let (app, _upstream) = start_with_connection_limit().await;
    let mut open_connections = Vec::new();
    for _ in 0..3 {
        open_connections.push(open_connection(&app).await.unwrap());
    }
    for count in 1..3 {
        assert!(open_connection(&app).await.is_none());
        let limit = "useradmin_connections_refused_total{limit=\"max_connections\"}";
        app.await_metric(&format!("{limit} {count}")).await;
    }
    // A connection that ends frees its slot as soon as the server detects the end.
    open_connections.pop();
    while open_connection(&app).await.is_none() {}
}

#[tokio::test]
async fn connection_without_calls_is_closed() {
    let (upstream, folder) = (upstream().await, App::folder());
    let section = batch_section(&folder, &upstream.url);
    let limits = "[server.limits]\nmax_connection_idle_seconds = 1\n";
    let app = App::start_in(folder, &format!("{section}{limits}")).await;
    let stream = TcpStream::connect(app.address).await.unwrap();
    let started = Instant::now();
    let (_client, connection) = h2::client::handshake(stream).await.unwrap();
    // The connection answers pings and the GOAWAY of the server, but makes no calls.
    connection.await.unwrap();
    assert!(started.elapsed() >= Duration::from_secs(1));
}

#[tokio::test]
async fn protocol_violations_are_counted() {
    let (app, _upstream) = start_with_connection_limit().await;
    let mut stream = open_connection(&app).await.unwrap();
    // DATA must belong to a stream (RFC 9113, section 6.1), and stream 0 is not one.
    let frame = [0, 0, 0, 0, 0, 0, 0, 0, 0];
    stream.write_all(&frame).await.unwrap();
    let mut response = Vec::new();
    stream.read_to_end(&mut response).await.unwrap();
    let metric = "useradmin_connections_aborted_total{error=\"PROTOCOL_ERROR\"} 1";
    app.await_metric(metric).await;
}

#[tokio::test]
async fn silent_peers_do_not_block_new_connections() {
    let (app, _upstream) = start_with_connection_limit().await;
    let mut silent_peers = Vec::new();
    for part in [0, 1, 24, 32].into_iter().cycle().take(80) {
        let mut stream = TcpStream::connect(app.address).await.unwrap();
        stream.write_all(&HTTP2_START[..part]).await.unwrap();
        silent_peers.push(stream);
    }
    let response = app.delete_batch_node_user(batch_request("alice")).await;
    assert_eq!(response.unwrap().outcome(), DeleteOutcome::Deleted);
    // The connections that had been silent for the longest time were closed for new ones.
    let mut first = silent_peers.remove(0);
    let ended = first.read(&mut [0]).await;
    assert!(ended.is_err() || ended.unwrap() == 0);
}
