use std::{pin::pin, sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use http::Uri;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex},
    net::TcpStream,
    time::{Instant, advance, pause, resume, timeout},
};

use super::{Connection, IDLE_TIMEOUT, Pool};
use crate::upstream::{
    client::{
        Client,
        tests::{accept, accept_request, body, respond, send, upstream, upstream_with_scheme},
    },
    response::RequestError,
};

/// Time after which a test fails that waits in vain.
const PATIENCE: Duration = Duration::from_secs(5);

fn pool(client: &Client) -> Arc<Pool> {
    let Ok(pool) = client.pools.pool(&Uri::from_static("/")) else {
        unreachable!("the URI has no authority")
    };
    pool
}

/// Creates a connection without a network, and returns it with its peer.
#[allow(clippy::disallowed_methods, reason = "this is a test of connections")]
async fn connection_in_memory() -> (Connection, DuplexStream) {
    let (stream, peer) = duplex(1024);
    let Ok((sender, task)) = http1::handshake(TokioIo::new(stream)).await else {
        unreachable!("the handshake sends nothing")
    };
    tokio::spawn(task);
    let mut connection = Connection::Http1(sender);
    assert!(connection.ready().await.is_ok());
    (connection, peer)
}

/// Returns whether the peer of a stream closes it.
async fn is_closed(mut stream: TcpStream) -> bool {
    let read = timeout(PATIENCE, stream.read(&mut [0])).await;
    matches!(read, Ok(Ok(0)))
}

/// Lets time pass. The clock runs afterwards, so that the time limits of the next request do not pass at once.
async fn wait(time: Duration) {
    pause();
    advance(time).await;
    resume();
}

#[tokio::test]
async fn request_that_waits_for_a_handshake_takes_a_connection_that_becomes_idle() {
    // The listener does not answer the TLS handshake.
    let (client, _listener) = upstream_with_scheme("https").await;
    let mut sent = pin!(send(&client));
    assert!(sent.as_mut().now_or_never().is_none());
    let (connection, mut peer) = connection_in_memory().await;
    pool(&client).put(connection);
    let (sent, ()) = tokio::join!(sent, respond(&mut peer));
    assert_eq!(body(sent).as_deref(), Some(&b"ok"[..]));
    // The connection is idle again.
    let both = async { tokio::join!(send(&client), respond(&mut peer)) };
    let Ok((sent, ())) = timeout(PATIENCE, both).await else {
        unreachable!("the request takes the connection")
    };
    assert_eq!(body(sent).as_deref(), Some(&b"ok"[..]));
}

#[tokio::test]
async fn queue_drops_requests_that_no_longer_wait() {
    let (client, listener) = upstream().await;
    drop(listener);
    for _ in 0..3 {
        let sent = send(&client).await;
        assert!(matches!(sent, Err(RequestError::Unreachable(_))));
        assert!(send(&client).now_or_never().is_none());
    }
    assert_eq!(pool(&client).lock().waiting.len(), 1);
}

#[tokio::test]
async fn late_response_is_not_that_of_the_next_request() {
    let (client, listener) = upstream().await;
    let mut sent = pin!(send(&client));
    let mut stream = tokio::select! {
        _ = &mut sent => unreachable!("there is no response"),
        (stream, _) = accept_request(&listener) => stream,
    };
    pause();
    assert!(matches!(sent.await, Err(RequestError::TimedOut)));
    resume();
    // The connection may be closed by now.
    let late = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nlate";
    let _ = stream.write_all(late).await;
    let (sent, _next) = tokio::join!(send(&client), accept(&listener));
    assert_eq!(body(sent).as_deref(), Some(&b"ok"[..]));
    assert!(is_closed(stream).await);
}

#[tokio::test]
async fn connection_with_an_unfinished_body_is_closed() {
    let (client, listener) = upstream().await;
    let mut sent = pin!(send(&client));
    let cut = async {
        let (mut stream, _) = accept_request(&listener).await;
        let part = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nok";
        assert!(stream.write_all(part).await.is_ok());
        stream
    };
    let stream = tokio::select! {
        _ = &mut sent => unreachable!("the body is not complete"),
        stream = cut => stream,
    };
    pause();
    assert!(body(sent.await).is_none());
    resume();
    let (sent, _next) = tokio::join!(send(&client), accept(&listener));
    assert_eq!(body(sent).as_deref(), Some(&b"ok"[..]));
    assert!(is_closed(stream).await);
}

#[tokio::test]
async fn request_on_a_connection_that_was_just_closed_uses_another_one() {
    let (client, listener) = upstream().await;
    let (connection, peer) = connection_in_memory().await;
    pool(&client).put(connection);
    drop(peer);
    let (sent, _stream) = tokio::join!(send(&client), accept(&listener));
    assert_eq!(body(sent).as_deref(), Some(&b"ok"[..]));
}

#[tokio::test]
async fn request_that_is_dropped_before_it_is_written_is_never_sent() {
    let (client, _listener) = upstream().await;
    let (connection, mut peer) = connection_in_memory().await;
    pool(&client).put(connection);
    // One poll queues the request. The task of the connection has not run since.
    assert!(send(&client).now_or_never().is_none());
    let mut received = Vec::new();
    let read = timeout(PATIENCE, peer.read_to_end(&mut received)).await;
    assert!(matches!(read, Ok(Ok(0))), "{received:?}");
}

#[tokio::test]
async fn old_connection_is_not_used_although_it_is_still_open() {
    let (client, listener) = upstream().await;
    let (sent, mut stream) = tokio::join!(send(&client), accept(&listener));
    assert!(sent.is_ok());
    // The task that closes idle connections runs every 30 s, and finds the connection 10 s old.
    wait(Duration::from_secs(20)).await;
    let (sent, ()) = tokio::join!(send(&client), respond(&mut stream));
    assert!(sent.is_ok());
    wait(IDLE_TIMEOUT).await;
    let mut next = pin!(async { tokio::join!(send(&client), accept(&listener)) });
    let Ok((sent, _)) = timeout(PATIENCE, &mut next).await else {
        unreachable!("a new connection is opened")
    };
    assert_eq!(body(sent).as_deref(), Some(&b"ok"[..]));
}

#[tokio::test]
#[allow(clippy::disallowed_methods, reason = "this is a test of connections")]
async fn shared_connection_is_used_only_while_it_is_young_and_open() {
    let (client, _listener) = upstream().await;
    let pool = pool(&client);
    for ends_early in [false, true] {
        let (stream, peer) = duplex(1024);
        let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
        let Ok((sender, task)) = handshake.await else {
            unreachable!("the peer need not answer")
        };
        let task = tokio::spawn(task);
        pool.lock().shared = Some((sender, Instant::now()));
        wait(IDLE_TIMEOUT / 2).await;
        assert!(pool.take().is_some());
        wait(IDLE_TIMEOUT / 2).await;
        assert!(pool.take().is_some(), "each use counts");
        if ends_early {
            drop(peer);
            assert!(task.await.is_ok());
        } else {
            wait(IDLE_TIMEOUT).await;
        }
        assert!(pool.take().is_none());
        assert!(pool.lock().shared.is_none());
    }
}
