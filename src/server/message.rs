//! Reads the message of a request, and limits the number of calls whose messages the server waits for.

use std::{
    io::{self, Read as _},
    net::IpAddr,
    pin::pin,
    sync::Mutex,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use flate2::bufread::GzDecoder;
use futures_util::FutureExt as _;
use http_body_util::BodyExt as _;
use tokio::{sync::oneshot, time::timeout};
use tonic::body::Body;

use super::eviction::EvictionQueue;
use crate::{
    error::{Failure, Violation},
    proto::ErrorReason as R,
    service::refusal,
};

/// Length in bytes of the prefix of a message, which holds the compressed-flag and the length of the message (gRPC
/// over HTTP/2, "Length-Prefixed-Message").
const PREFIX: usize = 5;
const COMPRESSED: u8 = 1;

/// Time limit for receiving the request message, which clients send right after the headers.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a call does not reach its handler.
pub(super) enum Rejection {
    Refused(Failure),
    /// The caller disconnected before the message arrived.
    Disconnected,
}

impl From<Failure> for Rejection {
    fn from(failure: Failure) -> Self {
        Self::Refused(failure)
    }
}

/// Waits for the message of a request, at most for [`MESSAGE_TIMEOUT`] and for `time_limit`, which is called only if
/// the message has not arrived yet. See [`read`].
pub(super) async fn receive(
    body: &mut Body,
    is_gzip: bool,
    max_bytes: usize,
    time_limit: impl FnOnce() -> Duration,
) -> Result<Bytes, Rejection> {
    let mut read = pin!(read(body, is_gzip, max_bytes));
    // Most messages arrive together with their headers.
    if let Some(message) = read.as_mut().now_or_never() {
        return message;
    }
    let limit = MESSAGE_TIMEOUT.min(time_limit());
    let late = |_| Failure::new(R::DeadlineExceeded, "the request message did not come");
    timeout(limit, read).await.map_err(late)?
}

/// Returns the only message of a request, with its prefix. Stops early if tonic refuses the message because of its
/// prefix: the message is longer than `max_bytes`, or compressed although the request does not declare gzip
/// (`is_gzip`). Fails if data follows the message, if a compressed message is not one gzip member, or if the caller
/// disconnects.
async fn read(body: &mut Body, is_gzip: bool, max_bytes: usize) -> Result<Bytes, Rejection> {
    let mut received = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Rejection::Disconnected)?;
        let Some(data) = frame.data_ref() else {
            continue;
        };
        received.extend_from_slice(data);
        let Some(([flag, length @ ..], message)) = received.split_first_chunk::<PREFIX>() else {
            continue;
        };
        let length = u32::from_be_bytes(*length) as usize;
        if message.len() > length {
            return Err(invalid("the call must have one request message"));
        }
        if length > max_bytes || *flag > u8::from(is_gzip) {
            return Ok(received.freeze());
        }
    }
    if let Some(([COMPRESSED, length @ ..], message)) = received.split_first_chunk::<PREFIX>() {
        let is_complete = message.len() == u32::from_be_bytes(*length) as usize;
        if is_complete && !is_one_member(message, max_bytes) {
            return Err(invalid("the compressed message must be one gzip member"));
        }
    }
    Ok(received.freeze())
}

fn invalid(description: &'static str) -> Rejection {
    let field = "";
    Rejection::Refused(refusal::invalid(Violation { field, description }))
}

/// Returns whether nothing follows the first gzip member, because tonic reads only that one. Returns `true` for
/// messages that tonic itself refuses: damaged data, and more than `max_bytes` after decompression.
fn is_one_member(compressed: &[u8], max_bytes: usize) -> bool {
    let mut decoder = GzDecoder::new(compressed);
    let mut inflated = (&mut decoder).take(max_bytes as u64 + 1);
    match io::copy(&mut inflated, &mut io::sink()) {
        Ok(size) if size <= max_bytes as u64 => decoder.into_inner().is_empty(),
        _ => true,
    }
}

/// The calls whose messages have not arrived yet.
pub(super) struct PendingMessages(Mutex<EvictionQueue<oneshot::Sender<()>>>);

impl PendingMessages {
    pub(super) fn new(max: usize) -> Self {
        let is_finished = oneshot::Sender::is_closed;
        Self(Mutex::new(EvictionQueue::new(max, is_finished)))
    }

    /// Adds a call of this peer. If there are too many calls, evicts one of them. Returns a receiver that completes
    /// when the added call is evicted. The call is pending until the receiver is dropped.
    pub(super) fn add(&self, peer: Option<IpAddr>) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        let peer = peer.unwrap_or(IpAddr::from([0; 4]));
        let evicted = crate::lock(&self.0).push(peer, sender);
        drop(evicted);
        receiver
    }
}
