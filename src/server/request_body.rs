//! The body of a request: reports that the rest of it cannot arrive, and refuses more than one message where the method
//! takes one, also inside a compressed message.

use std::{
    error::Error,
    io::{self, Read as _},
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use flate2::bufread::GzDecoder;
use http_body::{Frame, SizeHint};
use tokio_util::sync::CancellationToken;
use tonic::body::Body;

use crate::service::transport_errors::{SECOND_MEMBER, SECOND_MESSAGE};

/// Length of the flag and the length in front of a message (gRPC over HTTP/2, "Length-Prefixed-Message").
const PREFIX: usize = 5;
const COMPRESSED: u8 = 1;

type BoxError = Box<dyn Error + Send + Sync>;

/// The body of a request.
pub struct RequestBody {
    body: Body,
    /// Cancelled when the body fails before its end.
    cut: CancellationToken,
    /// `None` where the client may send any number of messages.
    message: Option<OnlyMessage>,
}

impl RequestBody {
    /// Wraps a body that contains one message of at most `max_bytes`, or a stream of messages.
    pub(super) fn new(
        body: Body,
        cut: CancellationToken,
        is_stream: bool,
        max_bytes: usize,
    ) -> Self {
        Self {
            body,
            cut,
            message: (!is_stream).then(|| OnlyMessage::new(max_bytes)),
        }
    }
}

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        Pin::new(&mut this.body).poll_frame(cx).map(|frame| {
            Some(match frame? {
                Ok(frame) => match (&mut this.message, frame.data_ref()) {
                    (Some(message), Some(data)) => message.check(data).map(|()| frame),
                    _ => Ok(frame),
                },
                Err(error) => {
                    this.cut.cancel();
                    Err(error.into())
                }
            })
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Counts the bytes of a body against the length of its only message.
struct OnlyMessage {
    received: usize,
    /// Length of the message, from the part of the prefix that has arrived.
    length: usize,
    max_bytes: usize,
    /// Content of a compressed message, unless it is larger than `max_bytes`.
    compressed: Option<Vec<u8>>,
}

impl OnlyMessage {
    const fn new(max_bytes: usize) -> Self {
        Self {
            received: 0,
            length: 0,
            max_bytes,
            compressed: None,
        }
    }

    /// Returns an error if these bytes, which follow all earlier ones, do not all belong to the message.
    fn check(&mut self, data: &[u8]) -> Result<(), BoxError> {
        let (prefix, content) = data.split_at(data.len().min(PREFIX.saturating_sub(self.received)));
        let flag = usize::from(self.received == 0);
        if flag == 1 && prefix.first() == Some(&COMPRESSED) {
            self.compressed = Some(Vec::new());
        }
        for byte in prefix.iter().skip(flag) {
            self.length = self.length << 8 | usize::from(*byte);
        }
        self.received += data.len();
        if self.received > PREFIX + self.length {
            return Err(SECOND_MESSAGE.into());
        }
        if self.length > self.max_bytes {
            self.compressed = None;
        }
        let Some(compressed) = &mut self.compressed else {
            return Ok(());
        };
        compressed.extend_from_slice(content);
        if compressed.len() == self.length && !is_one_member(compressed, self.max_bytes) {
            return Err(SECOND_MEMBER.into());
        }
        Ok(())
    }
}

/// Returns whether nothing follows the first gzip member, which is all that tonic reads. Returns `true` for what tonic
/// refuses itself: damaged data, and more than `max_bytes`.
fn is_one_member(compressed: &[u8], max_bytes: usize) -> bool {
    let mut decoder = GzDecoder::new(compressed);
    let mut inflated = (&mut decoder).take(max_bytes as u64 + 1);
    match io::copy(&mut inflated, &mut io::sink()) {
        Ok(size) if size <= max_bytes as u64 => decoder.into_inner().is_empty(),
        _ => true,
    }
}
