//! The body of a request: reports that the rest of it cannot come, and refuses more than one message where the method
//! takes one, also inside a compressed message.

use std::{
    error::Error,
    fmt,
    io::{self, Read as _},
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use flate2::bufread::GzDecoder;
use http_body::{Body, Frame, SizeHint};
use tokio_util::sync::CancellationToken;

use crate::service::transport_errors::{SECOND_MEMBER, SECOND_MESSAGE};

/// A flag and the length of the message (gRPC over HTTP/2, "Length-Prefixed-Message").
const PREFIX: usize = 5;
const COMPRESSED: u8 = 1;

type BoxError = Box<dyn Error + Send + Sync>;

pub struct RequestBody<Q> {
    body: Q,
    /// Cancelled when the body fails before its end.
    cut: CancellationToken,
    /// `None` where the client may send any number of messages.
    only: Option<FirstMessage>,
}

impl<Q> RequestBody<Q> {
    /// Wraps a body that contains one message of at most `max_bytes`, or a stream of messages.
    pub fn new(body: Q, cut: CancellationToken, is_stream: bool, max_bytes: usize) -> Self {
        Self {
            body,
            cut,
            only: (!is_stream).then(|| FirstMessage::new(max_bytes)),
        }
    }
}

impl<Q> Body for RequestBody<Q>
where
    Q: Body<Data = Bytes, Error: Into<BoxError>> + Unpin,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        Pin::new(&mut this.body).poll_frame(cx).map(|frame| {
            let frame = frame?.map_err(|error| {
                this.cut.cancel();
                error.into()
            });
            Some(
                frame.and_then(|frame| match (&mut this.only, frame.data_ref()) {
                    (Some(only), Some(data)) => only.check(data).map(|()| frame),
                    _ => Ok(frame),
                }),
            )
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Counts the bytes of a body against the length of its first message.
struct FirstMessage {
    received: usize,
    /// As far as the prefix is there.
    length: usize,
    max_bytes: usize,
    /// The content of a compressed message, unless it is larger than `max_bytes`.
    compressed: Option<Vec<u8>>,
}

impl FirstMessage {
    const fn new(max_bytes: usize) -> Self {
        Self {
            received: 0,
            length: 0,
            max_bytes,
            compressed: None,
        }
    }

    /// Fails if these bytes, which follow all earlier ones, do not all belong to the first message.
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
            return Err(Refused(SECOND_MESSAGE).into());
        }
        if self.length > self.max_bytes {
            self.compressed = None;
        }
        let Some(compressed) = &mut self.compressed else {
            return Ok(());
        };
        compressed.extend_from_slice(content);
        if compressed.len() == self.length && !is_one_member(compressed, self.max_bytes) {
            return Err(Refused(SECOND_MEMBER).into());
        }
        Ok(())
    }
}

/// Returns whether nothing follows the first gzip member, of which tonic reads no more. Returns `true` for what tonic
/// refuses itself: damaged data, and more than `max_bytes`.
fn is_one_member(compressed: &[u8], max_bytes: usize) -> bool {
    let mut decoder = GzDecoder::new(compressed);
    let mut inflated = (&mut decoder).take(max_bytes as u64 + 1);
    match io::copy(&mut inflated, &mut io::sink()) {
        Ok(size) if size <= max_bytes as u64 => decoder.into_inner().is_empty(),
        _ => true,
    }
}

#[derive(Debug)]
struct Refused(&'static str);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl Error for Refused {}

#[cfg(test)]
mod tests {
    use super::FirstMessage;

    #[test]
    fn a_message_ends_at_its_length_however_its_bytes_come() {
        let message = [0, 0, 0, 1, 2].into_iter().chain([7; 258]);
        let message: Vec<u8> = message.collect();
        for size in [1, 2, 4, 5, 6, 7, 100, 263] {
            let mut first = FirstMessage::new(64 * 1024);
            assert!(message.chunks(size).all(|part| first.check(part).is_ok()));
            assert!(
                first.check(b"").is_ok() && first.check(b"\0").is_err(),
                "{size}"
            );
        }
        let more = [&message[..], b"\0"].concat();
        assert!(FirstMessage::new(64 * 1024).check(&more).is_err());
    }
}
