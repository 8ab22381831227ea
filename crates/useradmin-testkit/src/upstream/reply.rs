//! Replies of an upstream, and the bytes of a response over HTTP/1.1.

use std::{
    fmt::Write as _,
    sync::{Arc, Mutex},
    time::Duration,
};

use h2::Reason;
use tokio::{
    io::{AsyncWrite, AsyncWriteExt as _, BufReader, copy, sink},
    sync::{Barrier, Notify},
    time::sleep,
};

use super::{request::Request, stream::Io};

/// Function that returns the reply to each request. It is called in the order of arrival.
pub(super) type Handler = Arc<Mutex<dyn FnMut(&Request) -> Reply + Send>>;

/// The way in which an upstream handles a request.
#[derive(Clone, Debug)]
pub enum Reply {
    /// Sends a response with this status, these headers and this body, and keeps the connection.
    Http(u16, Vec<(String, String)>, String),
    /// Sends these bytes, then closes the connection. HTTP/1.1 only.
    Raw(Vec<u8>),
    /// Sends these bytes, then closes the connection without the `close_notify` of TLS. HTTP/1.1 only.
    WithoutCloseNotify(Vec<u8>),
    /// Sends this head of a chunked response, then chunks until the client closes the connection, with this pause
    /// after each chunk. HTTP/1.1 only.
    Endless(String, Duration),
    /// Closes the connection without a response. HTTP/1.1 only.
    Close,
    /// Resets the TCP connection without a response. HTTP/1.1 only.
    Abort,
    /// Sends no response until the client disconnects.
    Hang,
    /// Replies when the test notifies this object.
    Gated(Arc<Notify>, Box<Self>),
    /// Replies when all parties have reached the barrier.
    AtBarrier(Arc<Barrier>, Box<Self>),
    /// Replies after this time.
    Delayed(Duration, Box<Self>),
    /// Resets the stream with this code. HTTP/2 only.
    Reset(Reason),
    /// Sends this status, then resets the stream in the middle of the body. HTTP/2 only.
    ResetInBody(u16, Reason),
    /// Sends GOAWAY with this last stream and this code, then closes the connection. HTTP/2 only.
    GoAway(u32, Reason),
}

impl Reply {
    /// Returns a response with a JSON body.
    pub fn json(status: u16, body: &str) -> Self {
        Self::typed(status, "application/json", body)
    }

    /// Returns a response with an HTML body, as sent by a gateway.
    pub fn html(status: u16) -> Self {
        Self::typed(status, "text/html", "<html><body>gateway</body></html>")
    }

    /// Returns a response without a body.
    pub const fn empty(status: u16) -> Self {
        Self::Http(status, Vec::new(), String::new())
    }

    pub fn typed(status: u16, media_type: &str, body: &str) -> Self {
        let headers = vec![("Content-Type".to_owned(), media_type.to_owned())];
        Self::Http(status, headers, body.to_owned())
    }

    /// Adds a header, if this is a response.
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        if let Self::Http(_, headers, _) = &mut self {
            headers.push((name.to_owned(), value.to_owned()));
        }
        self
    }

    /// Returns the bytes of a response over HTTP/1.1. They are empty for other replies.
    pub fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Raw(bytes) | Self::WithoutCloseNotify(bytes) => bytes.clone(),
            Self::Http(status, headers, body) => {
                let mut text = head(*status, headers);
                // RFC 9110, section 8.6: a 204 has no Content-Length.
                if *status != 204 {
                    let _ = write!(text, "Content-Length: {}\r\n", body.len());
                }
                text.push_str("\r\n");
                text.push_str(body);
                text.into_bytes()
            }
            _ => Vec::new(),
        }
    }

    /// Turns a response into one whose body never ends. Other replies are returned unchanged.
    pub fn endless(self, pause: Duration) -> Self {
        match self {
            Self::Http(status, headers, _) => Self::Endless(head(status, &headers), pause),
            other => other,
        }
    }

    /// Waits for the conditions of the reply (gate, barrier, delay). Returns the reply without them.
    pub(super) async fn wait_until_due(mut self) -> Self {
        loop {
            self = match self {
                Self::Gated(gate, then) => {
                    gate.notified().await;
                    *then
                }
                Self::AtBarrier(barrier, then) => {
                    barrier.wait().await;
                    *then
                }
                Self::Delayed(time, then) => {
                    sleep(time).await;
                    *then
                }
                ready => return ready,
            };
        }
    }

    /// Performs the reply over HTTP/1.1. Returns whether the connection can be used again.
    pub(super) async fn write_to(self, stream: &mut BufReader<impl Io>) -> bool {
        let reply = self.wait_until_due().await;
        match &reply {
            Self::Http(..) => return stream.write_all(&reply.bytes()).await.is_ok(),
            Self::Raw(bytes) => {
                let _ = stream.write_all(bytes).await;
                let _ = stream.shutdown().await;
            }
            Self::WithoutCloseNotify(bytes) => {
                let _ = stream.write_all(bytes).await;
            }
            Self::Endless(head, pause) => endless(stream, head, *pause).await,
            Self::Close => {
                let _ = stream.shutdown().await;
            }
            Self::Abort => {
                let _ = stream.get_ref().tcp().set_zero_linger();
            }
            Self::Hang => {
                let _ = copy(stream, &mut sink()).await;
            }
            other => panic!("{other:?} over HTTP/1.1"),
        }
        false
    }
}

fn head(status: u16, headers: &[(String, String)]) -> String {
    let mut text = format!("HTTP/1.1 {status} Scripted\r\n");
    for (name, value) in headers {
        let _ = write!(text, "{name}: {value}\r\n");
    }
    text
}

/// Sends chunks until the client closes the connection.
async fn endless(stream: &mut (impl AsyncWrite + Unpin), head: &str, pause: Duration) {
    let mut next = format!("{head}Transfer-Encoding: chunked\r\n\r\n").into_bytes();
    while stream.write_all(&next).await.is_ok() {
        let size = if pause.is_zero() { 4_096 } else { 1 };
        next = format!("{size:x}\r\n{:size$}\r\n", "").into_bytes();
        sleep(pause).await;
    }
}
