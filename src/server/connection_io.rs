//! The I/O of a plaintext or TLS connection. It first returns the bytes that the acceptor has already read, and it
//! changes the maximum size of a header list that h2 advertises.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;

/// A connection in plaintext, or after its TLS handshake.
pub type Io = Either<TcpStream, Box<TlsStream<TcpStream>>>;

pub struct ConnectionIo {
    io: Io,
    /// Bytes that the acceptor has already read. They are returned before all other bytes.
    prefix: Bytes,
    /// Maximum size of a header list to advertise in the first frame; `None` once that frame has been changed.
    max_header_list: Option<u32>,
    /// The part of the first frame that has yet to be written.
    first_frame: Bytes,
}

/// Length in bytes of the header of a frame (RFC 9113, section 4.1).
const FRAME_HEAD: usize = 9;
const SETTINGS: u8 = 4;
/// Length in bytes of the identifier and value of one setting.
const SETTING: usize = 6;
const MAX_HEADER_LIST_SIZE: [u8; 2] = [0, 6];

impl ConnectionIo {
    /// Creates the I/O of a connection from which `prefix` has been read. The connection advertises `max_header_list`
    /// instead of the larger size that h2 reads: h2 enforces the size that it is configured with, and its response is
    /// not a gRPC status.
    pub const fn new(io: Io, prefix: Bytes, max_header_list: u32) -> Self {
        Self {
            io,
            prefix,
            max_header_list: Some(max_header_list),
            first_frame: Bytes::new(),
        }
    }
}

/// Returns the SETTINGS frame that these bytes start with, changed to this maximum size of a header list. Returns
/// `None` if the bytes do not start with a complete SETTINGS frame. h2 writes its first frame in one piece.
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
        if let Some(max) = this.max_header_list.take() {
            this.first_frame = advertise(bytes, max).unwrap_or_default();
        }
        if this.first_frame.is_empty() {
            return Pin::new(&mut this.io).poll_write(cx, bytes);
        }
        // The changed frame is as long as the original, so the number of written bytes applies to both.
        let written = ready!(Pin::new(&mut this.io).poll_write(cx, &this.first_frame))?;
        this.first_frame.advance(written);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.max_header_list.is_some() || !self.first_frame.is_empty() {
            let first = bytes.iter().find(|bytes| !bytes.is_empty());
            return self.poll_write(cx, first.map_or(&[], |bytes| bytes));
        }
        Pin::new(&mut self.get_mut().io).poll_write_vectored(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
