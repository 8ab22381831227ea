//! The I/O of a connection, in plaintext or TLS: returns the bytes that were read before HTTP/2 once more, and changes
//! the maximum size of a header list that HTTP/2 advertises.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;

type Io = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// The I/O of a connection.
pub struct ConnectionIo {
    io: Io,
    /// Bytes that were read already, and are read once more before all others.
    prefix: Bytes,
    /// Value for the first frame of the server, until that is written.
    max_header_list: Option<u32>,
    /// Bytes of that frame that have yet to be written.
    first_frame: Bytes,
}

/// Length of the head of a frame (RFC 9113, section 4.1).
const FRAME_HEAD: usize = 9;
const SETTINGS: u8 = 4;
/// Identifier and value of one setting.
const SETTING: usize = 6;
const MAX_HEADER_LIST_SIZE: [u8; 2] = [0, 6];

impl ConnectionIo {
    /// Creates the I/O of a connection in plaintext, or of one after its TLS handshake.
    pub const fn new(io: Io) -> Self {
        Self {
            io,
            prefix: Bytes::new(),
            max_header_list: None,
            first_frame: Bytes::new(),
        }
    }

    /// Puts back bytes that were read.
    pub fn with_prefix(self, prefix: Bytes) -> Self {
        Self { prefix, ..self }
    }

    /// Advertises this size of a header list instead of the larger one that HTTP/2 reads: hyper and h2 enforce what
    /// they advertise, and with another answer than a gRPC status.
    pub fn advertising(self, max_header_list: u32) -> Self {
        Self {
            max_header_list: Some(max_header_list),
            ..self
        }
    }

    /// Writes what remains of the first frame.
    fn poll_first_frame(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.first_frame.is_empty() {
            let frame = self.first_frame.clone();
            let written = ready!(Pin::new(&mut self.io).poll_write(cx, &frame))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.first_frame = frame.slice(written..);
        }
        Poll::Ready(Ok(()))
    }
}

/// Returns the SETTINGS frame that these bytes begin with, with this maximum size of a header list. h2 hands over its
/// first frame in one piece.
fn advertise(bytes: &[u8], max_header_list: u32) -> Option<Bytes> {
    let [high, middle, low, kind, ..] = *bytes else {
        return None;
    };
    let length = u32::from_be_bytes([0, high, middle, low]) as usize;
    let mut frame = bytes.get(..FRAME_HEAD + length)?.to_vec();
    for setting in frame.get_mut(FRAME_HEAD..)?.chunks_exact_mut(SETTING) {
        let (identifier, value) = setting.split_at_mut(MAX_HEADER_LIST_SIZE.len());
        if identifier == MAX_HEADER_LIST_SIZE {
            value.copy_from_slice(&max_header_list.to_be_bytes());
        }
    }
    (kind == SETTINGS).then(|| frame.into())
}

impl AsyncRead for ConnectionIo {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.prefix.is_empty() {
            let length = this.prefix.len().min(buffer.remaining());
            buffer.put_slice(&this.prefix.split_to(length));
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut this.io).poll_read(cx, buffer)
    }
}

impl AsyncWrite for ConnectionIo {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let first_frame = this.max_header_list.take();
        if let Some(frame) = first_frame.and_then(|max| advertise(bytes, max)) {
            let length = frame.len();
            this.first_frame = frame;
            return Poll::Ready(Ok(length));
        }
        ready!(this.poll_first_frame(cx))?;
        Pin::new(&mut this.io).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_first_frame(cx))?;
        Pin::new(&mut this.io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_first_frame(cx))?;
        Pin::new(&mut this.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.max_header_list.is_some() {
            let first = bytes.iter().find(|bytes| !bytes.is_empty());
            return Pin::new(this).poll_write(cx, first.map_or(&[], |bytes| bytes));
        }
        ready!(this.poll_first_frame(cx))?;
        Pin::new(&mut this.io).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::advertise;

    #[test]
    fn the_advertised_size_replaces_that_of_the_settings() {
        let (concurrent, window) = ([0, 3, 0, 0, 0, 100], [0, 4, 0, 0, 255, 255]);
        let list = |value: u32| [&[0, 6][..], &value.to_be_bytes()].concat();
        let payload = |value| [&concurrent[..], &list(value), &window].concat();
        let frame = |kind, value| [&[0, 0, 18, kind, 0, 0, 0, 0, 0][..], &payload(value)].concat();
        let before = [frame(4, 131_072), b"behind it".to_vec()].concat();
        let after = advertise(&before, 8_192);
        assert_eq!(after.as_deref(), Some(&frame(4, 8_192)[..]));
        // Neither another frame nor a part of one is touched.
        assert!(advertise(&frame(0, 131_072), 8_192).is_none());
        assert!((0..27).all(|length| advertise(&before[..length], 8_192).is_none()));
    }
}
