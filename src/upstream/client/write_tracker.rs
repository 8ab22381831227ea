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

/// Records whether a connection has started to write one request.
///
/// A request waits in memory until a connection takes it. To serialize the head, the connection asks the
/// [`TrackedBody`] whether there is a body, over both HTTP/1.1 and HTTP/2. The first call of a method of
/// [`TrackedBody`] therefore precedes the first byte on the wire. If the connection fails between the two, the
/// request counts as started although nothing was written, which is the safe result.
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

/// The body of a request. The first call of one of its methods is recorded in a [`WriteTracker`].
pub struct TrackedBody {
    bytes: Full<Bytes>,
    tracker: WriteTracker,
}

impl TrackedBody {
    pub fn new(bytes: Bytes, tracker: &WriteTracker) -> Self {
        Self {
            bytes: Full::new(bytes),
            tracker: tracker.clone(),
        }
    }

    /// See [`WriteTracker::has_started`].
    pub fn has_started(&self) -> bool {
        self.tracker.has_started()
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
