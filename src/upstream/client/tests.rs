use std::pin::pin;

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{Method, Uri, uri::PathAndQuery};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, duplex},
    net::{TcpListener, TcpStream},
    time::{Duration, Instant, advance, timeout},
};
use url::Url;

use super::{Client, HTTP_1, connection::Connection, pool::IDLE_TIMEOUT, request};
use crate::{
    client_tls::Trust,
    config::Roots,
    metrics::Metrics,
    upstream::{
        deadline::Deadline,
        instrument::Operation,
        response::{RequestError, Response},
    },
};

const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const READ: Operation = Operation::new("read", "/");

/// Starts a listener and returns a client for it.
async fn upstream() -> (Client, TcpListener) {
    upstream_with_scheme("http").await
}

async fn upstream_with_scheme(scheme: &str) -> (Client, TcpListener) {
    let Ok(listener) = TcpListener::bind("127.0.0.1:0").await else {
        unreachable!("there is a free port")
    };
    let address = listener.local_addr();
    let address = address.map(|address| format!("{scheme}://{address}"));
    let url = Url::parse(&address.unwrap_or_default());
    let metrics = Metrics::default().upstreams.requests("test", "test");
    let client =
        url.map(|url| Client::new(&url, Trust::AddToSystem, &Roots::default(), HTTP_1, metrics));
    let Ok(Ok(client)) = client else {
        unreachable!("the URL is valid")
    };
    (client, listener)
}

async fn send(client: &Client) -> Result<Response, RequestError> {
    let limits = Deadline::after(Duration::from_secs(5)).into();
    let request = request(Method::GET, PathAndQuery::from_static("/"));
    client.send(&READ, request, None, &limits).await
}

/// Accepts a connection and answers one request.
async fn accept(listener: &TcpListener) -> TcpStream {
    let Ok((mut stream, _)) = listener.accept().await else {
        unreachable!("the client connects")
    };
    respond(&mut stream).await;
    stream
}

/// Answers the next request of a connection.
async fn respond(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        assert!(stream.read_buf(&mut head).await.is_ok_and(|read| read > 0));
    }
    assert!(stream.write_all(RESPONSE).await.is_ok());
}

fn body(sent: Result<Response, RequestError>) -> Option<Bytes> {
    sent.ok()?.body
}

#[test]
fn debug_output_hides_sensitive_headers() {
    let shown = super::sensitive_header("Bearer token-1").map(|value| format!("{value:?}"));
    assert_eq!(shown.ok().as_deref(), Some("Sensitive"));
}

#[tokio::test]
async fn connection_is_reused_until_peer_closes_it() {
    let (client, listener) = upstream().await;
    let (sent, mut stream) = tokio::join!(send(&client), accept(&listener));
    assert_eq!(body(sent).as_deref(), Some(&b"ok"[..]));
    let (sent, ()) = tokio::join!(send(&client), respond(&mut stream));
    assert_eq!(body(sent).as_deref(), Some(&b"ok"[..]));
    // A closed connection is found before anything is sent on it, once the runtime has been notified.
    drop(stream);
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    let (sent, _stream) = tokio::join!(send(&client), accept(&listener));
    assert_eq!(body(sent).as_deref(), Some(&b"ok"[..]));
}

#[tokio::test]
async fn sequential_requests_use_one_connection() {
    let (client, listener) = upstream().await;
    let server = tokio::spawn(async move {
        let mut stream = accept(&listener).await;
        for _ in 0..9 {
            respond(&mut stream).await;
        }
        let another = timeout(Duration::from_millis(50), listener.accept()).await;
        assert!(another.is_err(), "there is a second connection");
    });
    for _ in 0..10 {
        assert_eq!(body(send(&client).await).as_deref(), Some(&b"ok"[..]));
    }
    assert!(server.await.is_ok());
}

#[tokio::test]
async fn idle_connection_is_closed() {
    let (client, listener) = upstream().await;
    let (sent, mut stream) = tokio::join!(send(&client), accept(&listener));
    assert!(sent.is_ok());
    tokio::time::pause();
    let start = Instant::now();
    advance(IDLE_TIMEOUT.saturating_sub(Duration::from_secs(1))).await;
    let mut read = [0];
    let early = timeout(Duration::from_millis(1), stream.read(&mut read)).await;
    assert!(early.is_err(), "it was closed too early");
    assert_eq!(stream.read(&mut read).await.ok(), Some(0));
    assert!(start.elapsed() <= IDLE_TIMEOUT * 2);
}

/// Creates a connection without a network, and returns it with its peer.
#[allow(clippy::disallowed_methods, reason = "this is a test of connections")]
async fn connection_in_memory() -> (Connection, DuplexStream) {
    let (stream, peer) = duplex(1024);
    let Ok((sender, task)) = http1::handshake(TokioIo::new(stream)).await else {
        unreachable!("the handshake sends nothing")
    };
    tokio::spawn(task);
    (Connection::Http1(sender), peer)
}

#[tokio::test]
async fn request_that_waits_for_a_handshake_takes_a_connection_that_becomes_idle() {
    // The listener does not answer the TLS handshake.
    let (client, _listener) = upstream_with_scheme("https").await;
    let mut sent = pin!(send(&client));
    assert!(sent.as_mut().now_or_never().is_none());
    let (mut connection, mut peer) = connection_in_memory().await;
    assert!(connection.ready().await.is_ok());
    let pool = client.pools.pool(&Uri::from_static("/"));
    let put = pool.map(|pool| pool.put(connection));
    assert!(put.is_ok());
    let (sent, ()) = tokio::join!(sent, respond(&mut peer));
    assert_eq!(body(sent).as_deref(), Some(&b"ok"[..]));
}

#[tokio::test]
async fn failed_requests_do_not_wait_any_more() {
    let (client, listener) = upstream().await;
    drop(listener);
    for _ in 0..3 {
        let sent = send(&client).await;
        assert!(matches!(sent, Err(RequestError::Unreachable(_))));
    }
    let pool = client.pools.pool(&Uri::from_static("/"));
    assert!(pool.is_ok_and(|pool| pool.waiting() <= 1));
}

#[tokio::test]
async fn request_to_another_host_uses_a_separate_connection() {
    let (client, _listener) = upstream().await;
    let (_, other) = upstream().await;
    let Ok(address) = other.local_addr() else {
        unreachable!("the listener has an address")
    };
    let limits = Deadline::after(Duration::from_secs(5)).into();
    for _ in 0..2 {
        let uri = Uri::try_from(format!("http://{address}/path")).unwrap_or_default();
        let sent = client.send(&READ, request(Method::GET, uri), None, &limits);
        let (sent, mut stream) = tokio::join!(sent, accept(&other));
        assert_eq!(body(sent).as_deref(), Some(&b"ok"[..]));
        assert_eq!(
            stream.read(&mut [0]).await.ok(),
            Some(0),
            "it is not closed"
        );
    }
}
