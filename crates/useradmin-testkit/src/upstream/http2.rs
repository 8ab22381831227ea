//! HTTP/2, as served by Azure Batch: a stream receives a response or a reset, or the connection receives a GOAWAY.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::{
    Reason, SendStream,
    server::{Builder, Connection, SendResponse},
};
use http::Response;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    reply::{Handler, Reply},
    request::Request,
    stream::Io,
};
use crate::REQUEST_ID;

/// Bytes that are written before the next output of h2. They are set only while h2 has nothing to write.
type PendingFrames = Arc<Mutex<Vec<u8>>>;

/// Serves one HTTP/2 connection.
pub(super) async fn serve(
    stream: impl Io,
    max_streams: Option<u32>,
    handler: &Handler,
    number: usize,
) {
    let pending_frames = PendingFrames::default();
    let stream = InsertingStream {
        inner: stream,
        pending_frames: Arc::clone(&pending_frames),
    };
    let mut builder = Builder::new();
    if let Some(max) = max_streams {
        builder.max_concurrent_streams(max);
    }
    let Ok(mut connection) = builder.handshake(stream).await else {
        return;
    };
    while let Some(Ok((request, respond))) = connection.accept().await {
        let (head, mut body) = request.into_parts();
        // No other stream is read in the meantime. The bodies in these tests are small and arrive with their headers.
        let body = read_whole_body(&mut connection, &mut body).await;
        let request = received(&head, body, number);
        let reply = handler.lock().unwrap()(&request);
        match reply {
            Reply::GoAway(last, reason) => {
                *pending_frames.lock().unwrap() = go_away(last, reason);
                // The future completes when all pending input has been read and the frame has been sent.
                let sent = std::future::poll_fn(|cx| {
                    let _nothing = connection.poll_accept(cx);
                    if pending_frames.lock().unwrap().is_empty() {
                        Poll::Ready(())
                    } else {
                        Poll::Pending
                    }
                });
                return sent.await;
            }
            Reply::ResetInBody(status, reason) => {
                let incomplete = Reply::typed(status, "application/json", "{")
                    .with_header("request-id", REQUEST_ID);
                let mut body = send(respond, incomplete, false);
                // A reset discards data that has not been sent yet.
                let until_flushed = std::future::poll_fn(|cx| {
                    let _nothing = connection.poll_accept(cx);
                    Poll::Ready(())
                });
                until_flushed.await;
                body.send_reset(reason);
            }
            reply @ Reply::Http(..) => {
                send(respond, reply, true);
            }
            other => {
                tokio::spawn(respond_later(respond, other));
            }
        }
    }
}

fn received(head: &http::request::Parts, body: String, connection: usize) -> Request {
    let target = head.uri.path_and_query();
    let headers = head.headers.iter().map(|(name, value)| {
        let value = value.to_str().unwrap().to_owned();
        (name.to_string(), value)
    });
    Request {
        method: head.method.to_string(),
        target: target.map_or_else(String::new, ToString::to_string),
        headers: headers.collect(),
        body,
        connection,
    }
}

/// Reads the whole body while also driving the connection, and returns it as text.
async fn read_whole_body<S: AsyncRead + AsyncWrite + Unpin>(
    connection: &mut Connection<S, Bytes>,
    body: &mut h2::RecvStream,
) -> String {
    let mut bytes = Vec::new();
    while !body.is_end_stream() {
        let chunk = std::future::poll_fn(|cx| {
            let chunk = body.poll_data(cx);
            if chunk.is_pending() {
                let _other = connection.poll_closed(cx);
                return body.poll_data(cx);
            }
            chunk
        });
        match chunk.await {
            Some(Ok(chunk)) => bytes.extend_from_slice(&chunk),
            _ => break,
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Sends a response. Returns its body stream, which the caller must continue unless `end` is true.
fn send(mut respond: SendResponse<Bytes>, reply: Reply, end: bool) -> SendStream<Bytes> {
    let Reply::Http(status, headers, text) = reply else {
        panic!("{reply:?} over HTTP/2");
    };
    let mut head = Response::builder().status(status);
    for (name, value) in headers {
        head = head.header(name.to_lowercase(), value);
    }
    let head = head.body(()).unwrap();
    let mut body = respond.send_response(head, end && text.is_empty()).unwrap();
    if !text.is_empty() {
        body.send_data(text.into(), end).unwrap();
    }
    body
}

/// Sends a reply after the conditions that it waits for.
async fn respond_later(mut respond: SendResponse<Bytes>, reply: Reply) {
    match reply.wait_until_due().await {
        Reply::Reset(reason) => respond.send_reset(reason),
        // The stream stays open until the client resets it.
        Reply::Hang => {
            let _reset = std::future::poll_fn(|cx| respond.poll_reset(cx)).await;
        }
        reply => {
            send(respond, reply, true);
        }
    }
}

/// Returns the bytes of a GOAWAY frame (RFC 9113, section 6.8).
fn go_away(last: u32, reason: Reason) -> Vec<u8> {
    let mut frame = vec![0, 0, 8, 7, 0, 0, 0, 0, 0];
    frame.extend_from_slice(&last.to_be_bytes());
    frame.extend_from_slice(&u32::from(reason).to_be_bytes());
    frame
}

/// A stream that inserts the bytes in `pending_frames` into its output.
struct InsertingStream<S> {
    inner: S,
    pending_frames: PendingFrames,
}

impl<S: AsyncWrite + Unpin> InsertingStream<S> {
    fn write_inserted(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut pending_frames = self.pending_frames.lock().unwrap();
        while !pending_frames.is_empty() {
            let count = ready!(Pin::new(&mut self.inner).poll_write(cx, &pending_frames))?;
            pending_frames.drain(..count);
        }
        drop(pending_frames);
        Pin::new(&mut self.inner).poll_flush(cx)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for InsertingStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let _sent = self.write_inserted(cx)?;
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for InsertingStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.write_inserted(cx))?;
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.write_inserted(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
