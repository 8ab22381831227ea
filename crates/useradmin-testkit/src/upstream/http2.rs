//! An upstream over TLS and HTTP/2, as the real Azure Batch is one: for each stream the test decides whether it gets an
//! answer, a reset with some code, or whether the whole connection gets a GOAWAY.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::{
    Reason,
    server::{Connection, SendResponse},
};
use http::Response;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_rustls::TlsAcceptor;

use super::{Reply, Seen};
use crate::{REQUEST_ID, pki::Identity};

/// What becomes of a stream.
#[derive(Clone, Debug)]
pub enum Stream {
    /// An answer; `Reply::Hang` is none ever. The other kinds are of HTTP/1.1.
    Answer(Reply),
    /// `RST_STREAM` with this code.
    Reset(Reason),
    /// The status line, then `RST_STREAM` in the middle of the body.
    Torn(u16, Reason),
    /// GOAWAY with this last stream and this code, and nothing after it: the connection ends.
    GoAway(u32, Reason),
}

type Script = Box<dyn FnMut(&Seen) -> Stream + Send>;

struct State {
    script: Script,
    seen: Vec<(usize, Seen)>,
    connections: usize,
}

/// The upstream.
pub struct Http2 {
    /// `https://localhost:PORT`.
    pub url: String,
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

impl Http2 {
    /// Shows this certificate, and offers nothing but `h2`. The script is asked for each stream, in the order of
    /// their arrival.
    pub async fn start(
        shown: &Identity,
        script: impl FnMut(&Seen) -> Stream + Send + 'static,
    ) -> Self {
        let mut config = shown.server(rustls::ALL_VERSIONS);
        config.alpn_protocols = vec![b"h2".to_vec()];
        let tls = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!(
            "https://localhost:{}",
            listener.local_addr().unwrap().port()
        );
        let state = Arc::new(Mutex::new(State {
            script: Box::new(script),
            seen: Vec::new(),
            connections: 0,
        }));
        let shared = Arc::clone(&state);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, tls.clone(), Arc::clone(&shared)));
            }
        });
        Self { url, state, task }
    }

    /// Every request so far, with the number of its connection.
    pub fn seen(&self) -> Vec<(usize, Seen)> {
        self.state.lock().unwrap().seen.clone()
    }

    /// The DELETEs so far, with the numbers of their connections.
    pub fn deletes(&self) -> Vec<(usize, Seen)> {
        let mut seen = self.seen();
        seen.retain(|(_, request)| request.method == "DELETE");
        seen
    }
}

impl Drop for Http2 {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Bytes that go out before all that HTTP/2 has to say next. They are only put there when it has nothing to say.
type Before = Arc<Mutex<Vec<u8>>>;

async fn serve(stream: TcpStream, tls: TlsAcceptor, state: Arc<Mutex<State>>) {
    // A handshake that fails is the client's to tell.
    let Ok(inner) = tls.accept(stream).await else {
        return;
    };
    let number = {
        let mut state = state.lock().unwrap();
        state.connections += 1;
        state.connections
    };
    let before = Before::default();
    let stream = Spliced {
        inner,
        before: Arc::clone(&before),
    };
    let Ok(mut connection) = h2::server::handshake(stream).await else {
        return;
    };
    while let Some(Ok((request, respond))) = connection.accept().await {
        let (head, mut body) = request.into_parts();
        let target = head.uri.path_and_query();
        let mut seen = Seen {
            method: head.method.to_string(),
            target: target.map_or_else(String::new, ToString::to_string),
            ..Seen::default()
        };
        for (name, value) in &head.headers {
            let value = value.to_str().unwrap().to_owned();
            seen.headers.push((name.to_string(), value));
        }
        // Nobody else reads the connection meanwhile; the bodies here are small, and come with their heads.
        seen.body = whole(&mut connection, &mut body).await;
        let stream = {
            let mut state = state.lock().unwrap();
            state.seen.push((number, seen.clone()));
            (state.script)(&seen)
        };
        if let Stream::GoAway(last, reason) = stream {
            *before.lock().unwrap() = go_away(last, reason);
            // What is to be read is read, and then the frame is out.
            let sent = std::future::poll_fn(|cx| {
                let _nothing = connection.poll_accept(cx);
                if before.lock().unwrap().is_empty() {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                }
            });
            return sent.await;
        }
        let torn = answer(stream, respond);
        if let Some((mut body, reason)) = torn {
            // A reset takes back what has not left yet.
            let flushed = std::future::poll_fn(|cx| {
                let _nothing = connection.poll_accept(cx);
                Poll::Ready(())
            });
            flushed.await;
            body.send_reset(reason);
        }
    }
}

/// The whole body, while the connection goes on.
async fn whole<S: AsyncRead + AsyncWrite + Unpin>(
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
    String::from_utf8(bytes).unwrap()
}

/// Returns what is to be reset as soon as the head has left.
fn answer(
    stream: Stream,
    mut respond: SendResponse<Bytes>,
) -> Option<(h2::SendStream<Bytes>, Reason)> {
    match stream {
        Stream::Reset(reason) => respond.send_reset(reason),
        Stream::Torn(status, reason) => {
            let head = Response::builder()
                .status(status)
                .header("request-id", REQUEST_ID)
                .body(())
                .unwrap();
            let mut body = respond.send_response(head, false).unwrap();
            body.send_data(Bytes::from_static(b"{"), false).unwrap();
            return Some((body, reason));
        }
        Stream::Answer(Reply::Http(status, headers, text)) => {
            let mut head = Response::builder().status(status);
            for (name, value) in headers {
                head = head.header(name.to_lowercase(), value);
            }
            let head = head.body(()).unwrap();
            let mut body = respond.send_response(head, text.is_empty()).unwrap();
            if !text.is_empty() {
                body.send_data(text.into(), true).unwrap();
            }
        }
        // The stream lives as long as its answer is awaited.
        Stream::Answer(Reply::Hang) => {
            tokio::spawn(async move {
                let _gone = std::future::poll_fn(|cx| respond.poll_reset(cx)).await;
            });
        }
        Stream::Answer(other) => panic!("{other:?}"),
        Stream::GoAway(..) => unreachable!("it ends the connection"),
    }
    None
}

/// RFC 9113, section 6.8.
fn go_away(last: u32, reason: Reason) -> Vec<u8> {
    let mut frame = vec![0, 0, 8, 7, 0, 0, 0, 0, 0];
    frame.extend_from_slice(&last.to_be_bytes());
    frame.extend_from_slice(&u32::from(reason).to_be_bytes());
    frame
}

/// A stream with bytes of our own in what goes out.
struct Spliced<S> {
    inner: S,
    before: Before,
}

impl<S: AsyncWrite + Unpin> Spliced<S> {
    fn splice(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut before = self.before.lock().unwrap();
        while !before.is_empty() {
            let count = ready!(Pin::new(&mut self.inner).poll_write(cx, &before))?;
            before.drain(..count);
        }
        drop(before);
        Pin::new(&mut self.inner).poll_flush(cx)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Spliced<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let _sent = self.splice(cx)?;
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Spliced<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.splice(cx))?;
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.splice(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
