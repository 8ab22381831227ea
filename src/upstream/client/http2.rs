//! Many requests at a time over HTTP/2. The connection has a task of its own, which ends with the last user.

use std::pin::pin;

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::time::Instant;
use tokio_rustls::client::TlsStream;

use super::{
    Request,
    exchange::{Terms, failed},
    watched::Watched,
};
use crate::upstream::http::{Answer, NoAnswer};

/// A connection; clones share it.
#[derive(Clone)]
pub struct Http2 {
    sender: SendRequest<Full<Bytes>>,
    /// When it was used last.
    pub used: Instant,
}

impl Http2 {
    /// Over these bytes.
    #[allow(clippy::disallowed_methods, reason = "this is the place")]
    pub async fn begin(io: TokioIo<TlsStream<Watched>>) -> hyper::Result<Self> {
        let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
        // How it ended is told to those who have a request on it.
        tokio::spawn(async move { drop(connection.await) });
        Ok(Self {
            sender,
            used: Instant::now(),
        })
    }

    /// Can another request be begun?
    pub fn is_open(&self) -> bool {
        !self.sender.is_closed()
    }

    /// Sends a request and reads the answer. A request that could not be handed to the connection comes back.
    pub async fn send(
        &mut self,
        request: Request,
        terms: &Terms<'_>,
    ) -> Result<Result<Answer, NoAnswer>, Request> {
        let head = pin!(self.sender.try_send_request(request.map(Full::new)));
        // Once it is the connection's, nobody knows what of it has left.
        let head = match terms.head(head, || true).await {
            Ok(head) => head,
            Err(no_answer) => return Ok(Err(no_answer)),
        };
        match head {
            Ok(response) => Ok(Ok(terms.answer(response).await.0)),
            Err(mut error) => match error.take_message() {
                Some(request) => Err(request.map(|body| body.into_inner().unwrap_or_default())),
                None => Ok(Err(failed(error.error(), true))),
            },
        }
    }
}
