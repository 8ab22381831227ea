//! The I/O of a connection, in plaintext or TLS: returns the bytes that were read before HTTP/2 once more, and changes
//! the maximum size of a header list that HTTP/2 advertises.

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

/// The I/O of a connection that speaks HTTP/2.
pub struct ConnectionIo {
    io: Io,
    /// Bytes that were read already, and are read once more before all others.
    prefix: Bytes,
    /// Size that the first frame of the server advertises, until that frame is written.
    max_header_list: Option<u32>,
    /// The part of that frame that has yet to be written.
    first_frame: Bytes,
}

/// Length of the head of a frame (RFC 9113, section 4.1).
const FRAME_HEAD: usize = 9;
const SETTINGS: u8 = 4;
/// Length of the identifier and value of one setting.
const SETTING: usize = 6;
const MAX_HEADER_LIST_SIZE: [u8; 2] = [0, 6];

impl ConnectionIo {
    /// Puts back the bytes that were read. Advertises `max_header_list` instead of the larger size that HTTP/2 reads:
    /// hyper and h2 enforce the size that they advertise, and their response is no gRPC status.
    pub const fn new(io: Io, prefix: Bytes, max_header_list: u32) -> Self {
        Self {
            io,
            prefix,
            max_header_list: Some(max_header_list),
            first_frame: Bytes::new(),
        }
    }
}

/// Returns the SETTINGS frame that these bytes start with, with this maximum size of a header list. h2 writes its first
/// frame in one piece.
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
        // The frame has the length of the frame that it replaces.
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
