//! One request at a time over HTTP/1.1. The connection has no task of its own: whoever has a request on it drives it, and
//! an idle one is looked at when it is taken out.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::Instant,
};

use super::{
    Request,
    exchange::{Terms, failed},
};
use crate::upstream::http::{Answer, NoAnswer};

/// The bytes of a connection.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A connection.
pub struct Http1 {
    sender: SendRequest<Full<Bytes>>,
    driver: Driver,
    /// A byte of the present request may have left.
    left: Arc<AtomicBool>,
    /// When it was used last.
    pub used: Instant,
}

type Connection = http1::Connection<TokioIo<Box<dyn Io>>, Full<Bytes>>;

/// `None` when the connection has ended: dropping it tells those who have a request on it.
struct Driver(Option<Connection>);

impl Driver {
    fn drive(&mut self, cx: &mut Context<'_>) {
        let connection = self.0.as_mut();
        if connection.is_some_and(|connection| Pin::new(connection).poll(cx).is_ready()) {
            self.0 = None;
        }
    }

    /// Drives the connection for as long as `work` needs it.
    async fn with<T>(&mut self, mut work: Pin<&mut impl Future<Output = T>>) -> T {
        poll_fn(|cx| {
            if let Poll::Ready(done) = work.as_mut().poll(cx) {
                return Poll::Ready(done);
            }
            self.drive(cx);
            work.as_mut().poll(cx)
        })
        .await
    }
}

impl Http1 {
    /// Over these bytes, of which `left` tells when one goes out. Nothing is sent yet.
    #[allow(clippy::disallowed_methods, reason = "this is the place")]
    pub async fn begin(io: Box<dyn Io>, left: Arc<AtomicBool>) -> hyper::Result<Self> {
        let io = TokioIo::new(io);
        let (sender, connection) = http1::handshake(io).await?;
        Ok(Self {
            sender,
            driver: Driver(Some(connection)),
            left,
            used: Instant::now(),
        })
    }

    /// Is it ready for a request, now? One that the other side has closed is not.
    pub async fn is_ready(&mut self) -> bool {
        poll_fn(|cx| {
            self.driver.drive(cx);
            let ready = self.sender.poll_ready(cx);
            Poll::Ready(matches!(ready, Poll::Ready(Ok(()))))
        })
        .await
    }

    /// Sends a request and reads the answer. Afterwards the connection may be used again, or not.
    pub async fn send(
        &mut self,
        request: Request,
        terms: &Terms<'_>,
    ) -> (Result<Answer, NoAnswer>, bool) {
        self.left.store(false, Ordering::Relaxed);
        let left = || self.left.load(Ordering::Relaxed);
        let head = pin!(self.sender.send_request(request.map(Full::new)));
        let head = pin!(terms.head(head, left));
        let head = self.driver.with(head).await;
        let response = match head {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return (Err(failed(&error, left())), false),
            Err(no_answer) => return (Err(no_answer), false),
        };
        let answer = pin!(terms.answer(response));
        let (answer, whole) = self.driver.with(answer).await;
        self.used = Instant::now();
        let again = whole && self.driver.0.is_some() && !self.sender.is_closed();
        (Ok(answer), again)
    }
}
