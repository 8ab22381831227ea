use bytes::Bytes;
use http::{Method, Uri, uri::PathAndQuery};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::{Duration, Instant, advance, timeout},
};
use url::Url;

use super::{Client, HTTP_1, pool::IDLE_TIMEOUT, request};
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
pub(super) async fn upstream() -> (Client, TcpListener) {
    upstream_with_scheme("http").await
}

pub(super) async fn upstream_with_scheme(scheme: &str) -> (Client, TcpListener) {
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

pub(super) async fn send(client: &Client) -> Result<Response, RequestError> {
    let limits = Deadline::after(Duration::from_secs(5)).into();
    let request = request(Method::GET, PathAndQuery::from_static("/"));
    client.send(&READ, request, None, &limits).await
}

/// Accepts a connection, and reads the head of one request.
pub(super) async fn accept_request(listener: &TcpListener) -> (TcpStream, String) {
    let Ok((mut stream, _)) = listener.accept().await else {
        unreachable!("the client connects")
    };
    let head = read_head(&mut stream).await;
    (stream, head)
}

/// Accepts a connection and answers one request.
pub(super) async fn accept(listener: &TcpListener) -> TcpStream {
    let (mut stream, _) = accept_request(listener).await;
    assert!(stream.write_all(RESPONSE).await.is_ok());
    stream
}

/// Reads the next request of a connection, and returns its head.
async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        assert!(stream.read_buf(&mut head).await.is_ok_and(|read| read > 0));
    }
    String::from_utf8_lossy(&head).into_owned()
}

/// Answers the next request of a connection.
pub(super) async fn respond(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) {
    read_head(stream).await;
    assert!(stream.write_all(RESPONSE).await.is_ok());
}

pub(super) fn body(sent: Result<Response, RequestError>) -> Option<Bytes> {
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

#[tokio::test]
async fn request_to_another_host_uses_a_connection_of_its_own() {
    let (client, _listener) = upstream().await;
    let (_, other) = upstream().await;
    let Ok(address) = other.local_addr() else {
        unreachable!("the listener has an address")
    };
    let limits = Deadline::after(Duration::from_secs(5)).into();
    for _ in 0..2 {
        let uri = Uri::try_from(format!("http://{address}/path?a=1")).unwrap_or_default();
        let sent = client.send(&READ, request(Method::GET, uri), None, &limits);
        let answer = async {
            let (mut stream, head) = accept_request(&other).await;
            assert!(stream.write_all(RESPONSE).await.is_ok());
            (stream, head)
        };
        let (sent, (mut stream, head)) = tokio::join!(sent, answer);
        assert_eq!(body(sent).as_deref(), Some(&b"ok"[..]));
        assert!(head.starts_with("GET /path?a=1 HTTP/1.1\r\n"), "{head}");
        assert!(head.contains(&format!("\r\nhost: {address}\r\n")), "{head}");
        let closed = timeout(Duration::from_secs(5), stream.read(&mut [0])).await;
        assert!(matches!(closed, Ok(Ok(0))), "the connection was kept");
    }
}
