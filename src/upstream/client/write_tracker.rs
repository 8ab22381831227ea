//! Detects whether a connection has started to write a request.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;

/// Whether a connection has started to write one request.
///
/// A request waits in memory until a connection takes it. To serialize the head, the connection must know whether there
/// is a body, over HTTP/1.1 as over HTTP/2. The first question to the [`TrackedBody`] therefore precedes the first byte
/// on the wire. In between, the connection may still fail: the result is then "started" although nothing was written,
/// which is the safe result.
#[derive(Clone, Default)]
pub struct WriteTracker(Arc<AtomicBool>);

impl WriteTracker {
    /// Returns whether bytes of the request may have been written.
    pub fn has_started(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    fn start(&self) {
        self.0.store(true, Ordering::Release);
    }
}

/// The body of a request, whose first use is recorded in a [`WriteTracker`].
pub struct TrackedBody {
    bytes: Full<Bytes>,
    tracker: WriteTracker,
}

impl TrackedBody {
    /// Creates a body of these bytes.
    pub fn new(bytes: Bytes, tracker: &WriteTracker) -> Self {
        Self {
            bytes: Full::new(bytes),
            tracker: tracker.clone(),
        }
    }
}

impl Body for TrackedBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.tracker.start();
        Pin::new(&mut self.bytes).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.tracker.start();
        self.bytes.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.tracker.start();
        self.bytes.size_hint()
    }
}
