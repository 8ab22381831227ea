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
pub const BEGIN: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

async fn small() -> (App, Upstream) {
    let (upstream, folder) = (upstream().await, App::folder());
    let text = "[server]\nlisten = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"\n\
        [server.limits]\nmax_connections = 3\n[[callers]]\nidentity = \"anonymous\"\n\
        allow = [{ rpc = \"DeleteBatchNodeUser\", targets = [\"*\"] }]\n";
    let section = batch_section(&folder, &upstream.url);
    let app = App::configured(folder, &format!("{text}{section}")).await;
    (app, upstream)
}

/// Opens a connection and waits for the settings of the server. Returns `None` if the connection is closed.
async fn begun(app: &App) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(app.address).await.unwrap();
    stream.write_all(BEGIN).await.unwrap();
    let answered = stream.read_u8().await;
    answered.ok().map(|_| stream)
}

#[tokio::test]
async fn connections_are_limited() {
    let (app, _upstream) = small().await;
    let mut open_connections = Vec::new();
    for _ in 0..3 {
        open_connections.push(begun(&app).await.unwrap());
    }
    for count in 1..3 {
        assert!(begun(&app).await.is_none());
        let limit = "useradmin_connections_refused_total{limit=\"max_connections\"}";
        app.await_metric(&format!("{limit} {count}")).await;
    }
    // A connection that ends frees its slot as soon as the server detects the end.
    open_connections.pop();
    while begun(&app).await.is_none() {}
}

#[tokio::test]
async fn connection_without_calls_is_closed() {
    let (upstream, folder) = (upstream().await, App::folder());
    let section = batch_section(&folder, &upstream.url);
    let limits = "[server.limits]\nmax_connection_idle_seconds = 1\n";
    let app = App::start_in(folder, &format!("{section}{limits}")).await;
    let stream = TcpStream::connect(app.address).await.unwrap();
    let begun = Instant::now();
    let (_client, connection) = h2::client::handshake(stream).await.unwrap();
    // The connection answers pings and the GOAWAY of the server, but makes no calls.
    connection.await.unwrap();
    assert!(begun.elapsed() >= Duration::from_secs(1));
}

#[tokio::test]
async fn protocol_violations_are_counted() {
    let (app, _upstream) = small().await;
    let mut stream = begun(&app).await.unwrap();
    // DATA must belong to a stream (RFC 9113, section 6.1), and stream 0 is not one.
    let frame = [0, 0, 0, 0, 0, 0, 0, 0, 0];
    stream.write_all(&frame).await.unwrap();
    let mut response = Vec::new();
    stream.read_to_end(&mut response).await.unwrap();
    let counted = "useradmin_connections_aborted_total{error=\"PROTOCOL_ERROR\"} 1";
    app.await_metric(counted).await;
}

#[tokio::test]
async fn silent_peers_do_not_block_new_connections() {
    let (app, _upstream) = small().await;
    let mut silent = Vec::new();
    for part in [0, 1, 24, 32].into_iter().cycle().take(80) {
        let mut stream = TcpStream::connect(app.address).await.unwrap();
        stream.write_all(&BEGIN[..part]).await.unwrap();
        silent.push(stream);
    }
    let done = app.delete_batch_node_user(batch_request("alice")).await;
    assert_eq!(done.unwrap().outcome(), DeleteOutcome::Deleted);
    // The connections that had been silent for the longest time were closed for new ones.
    let mut first = silent.remove(0);
    let ended = first.read(&mut [0]).await;
    assert!(ended.is_err() || ended.unwrap() == 0);
}
