//! The body of a request: reports that the rest of it cannot come, and refuses more than one message where the method
//! takes one.

use std::{
    error::Error,
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio_util::sync::CancellationToken;

use crate::service::unreadable::SECOND_MESSAGE;

/// A flag and the length of the message (gRPC over HTTP/2, "Length-Prefixed-Message").
const PREFIX: usize = 5;

type BoxError = Box<dyn Error + Send + Sync>;

/// The body of a request.
pub struct RequestBody<Q> {
    body: Q,
    /// Cancelled when the body fails before its end.
    cut: CancellationToken,
    /// `None` where the client may send any number of messages.
    only: Option<FirstMessage>,
}

impl<Q> RequestBody<Q> {
    /// Wraps a body that contains one message, or a stream of them.
    pub fn new(body: Q, cut: CancellationToken, is_stream: bool) -> Self {
        Self {
            body,
            cut,
            only: (!is_stream).then(FirstMessage::default),
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
#[derive(Default)]
struct FirstMessage {
    received: usize,
    /// As far as the prefix is there.
    length: usize,
}

impl FirstMessage {
    /// Fails if these bytes, which follow all earlier ones, do not all belong to the first message.
    fn check(&mut self, data: &[u8]) -> Result<(), BoxError> {
        let prefix = data.iter().take(PREFIX.saturating_sub(self.received));
        let flag = usize::from(self.received == 0);
        for byte in prefix.skip(flag) {
            self.length = self.length << 8 | usize::from(*byte);
        }
        self.received += data.len();
        if self.received > PREFIX + self.length {
            return Err(SecondMessage.into());
        }
        Ok(())
    }
}

#[derive(Debug)]
struct SecondMessage;

impl fmt::Display for SecondMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(SECOND_MESSAGE)
    }
}

impl Error for SecondMessage {}

#[cfg(test)]
mod tests {
    use super::FirstMessage;

    #[test]
    fn a_message_ends_at_its_length_however_its_bytes_come() {
        let message = [0, 0, 0, 1, 2].into_iter().chain([7; 258]);
        let message: Vec<u8> = message.collect();
        for size in [1, 2, 4, 5, 6, 7, 100, 263] {
            let mut first = FirstMessage::default();
            assert!(message.chunks(size).all(|part| first.check(part).is_ok()));
            assert!(
                first.check(b"").is_ok() && first.check(b"\0").is_err(),
                "{size}"
            );
        }
        let more = [&message[..], b"\0"].concat();
        assert!(FirstMessage::default().check(&more).is_err());
    }
}
