//! Tracks the calls in flight of one connection: their number, how long there have been none, and whether the peer
//! reads the responses.

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, sleep};

/// Time after which a connection is closed if its peer reads nothing of a response. Responses are small, so a peer that
/// still reads needs far less time.
pub const STALL_TIMEOUT: Duration = Duration::from_secs(20);

/// Number of calls that a connection may have, regardless of the number of other calls.
const FAIR_SHARE: usize = 16;

/// Number of calls in flight on all connections.
pub type TotalInFlight = Arc<AtomicUsize>;

/// Marks a call that exceeds the fair share of its connection while the server has too many calls.
#[derive(Clone, Copy)]
pub struct OverFairShare;

pub struct InFlightCalls {
    total: TotalInFlight,
    state: Mutex<State>,
}

struct State {
    started: u64,
    open: usize,
    /// Time at which the last call ended, or at which the connection was accepted.
    idle_since: Instant,
    /// By call, the time since which the peer has not read the available bytes of the response.
    unread: BTreeMap<u64, Instant>,
}

impl InFlightCalls {
    pub fn new(total: TotalInFlight) -> Self {
        Self {
            total,
            state: Mutex::new(State {
                started: 0,
                open: 0,
                idle_since: Instant::now(),
                unread: BTreeMap::new(),
            }),
        }
    }

    /// Counts a new call. Also returns [`OverFairShare`] if there are already `max` calls on all connections and this
    /// connection has its fair share.
    pub fn start(self: &Arc<Self>, max: usize) -> (InFlightCall, Option<OverFairShare>) {
        let total = self.total.fetch_add(1, Ordering::Relaxed);
        let mut state = crate::lock(&self.state);
        let over_share = total >= max && state.open >= FAIR_SHARE;
        state.started += 1;
        state.open += 1;
        let call = InFlightCall {
            number: state.started,
            calls: Arc::clone(self),
        };
        (call, over_share.then_some(OverFairShare))
    }

    /// Completes when the connection has had no call in flight for this time.
    pub async fn wait_until_idle(&self, time: Duration) {
        loop {
            let rest = match &*crate::lock(&self.state) {
                State {
                    open: 0,
                    idle_since,
                    ..
                } => time.saturating_sub(idle_since.elapsed()),
                _ => time,
            };
            if rest.is_zero() {
                return;
            }
            sleep(rest).await;
        }
    }

    /// Completes when the peer has not read a response for [`STALL_TIMEOUT`].
    pub async fn wait_until_stalled(&self) {
        loop {
            let oldest = crate::lock(&self.state).unread.values().min().copied();
            let waited = oldest.map_or(Duration::ZERO, |since| since.elapsed());
            let rest = STALL_TIMEOUT.saturating_sub(waited);
            if rest.is_zero() {
                return;
            }
            sleep(rest).await;
        }
    }
}

/// A call in flight. Dropped when the response has been sent.
pub struct InFlightCall {
    number: u64,
    calls: Arc<InFlightCalls>,
}

impl InFlightCall {
    /// Records that there are bytes for the peer to read.
    pub fn response_ready(&self) {
        let mut state = crate::lock(&self.calls.state);
        state.unread.insert(self.number, Instant::now());
    }

    /// Records that the peer has read all bytes so far.
    fn response_read(&self) {
        crate::lock(&self.calls.state).unread.remove(&self.number);
    }
}

impl Drop for InFlightCall {
    fn drop(&mut self) {
        self.calls.total.fetch_sub(1, Ordering::Relaxed);
        let mut state = crate::lock(&self.calls.state);
        state.unread.remove(&self.number);
        state.open -= 1;
        state.idle_since = Instant::now();
    }
}

/// A response body that detects whether the peer reads it: HTTP/2 polls for the next frame only then.
pub struct TrackedBody<B> {
    pub body: B,
    pub call: InFlightCall,
}

impl<B: Body + Unpin> Body for TrackedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.get_mut();
        let frame = Pin::new(&mut this.body).poll_frame(cx);
        match &frame {
            // HTTP/2 polls for the next frame only after everything so far has been sent.
            Poll::Pending => this.call.response_read(),
            Poll::Ready(_) => this.call.response_ready(),
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{FAIR_SHARE, InFlightCalls, TotalInFlight};

    #[test]
    fn calls_over_fair_share_are_marked() {
        let total = TotalInFlight::default();
        let [many, few] = [0, 1].map(|_| Arc::new(InFlightCalls::new(Arc::clone(&total))));
        let max = FAIR_SHARE * 2;
        let exceeds_fair_share = |calls: &Arc<InFlightCalls>| calls.start(max).1.is_some();
        let mut calls: Vec<_> = (0..max - 1).map(|_| many.start(max)).collect();
        assert!(!exceeds_fair_share(&many));
        calls.push(few.start(max));
        assert!(exceeds_fair_share(&many) && !exceeds_fair_share(&few));
        calls.pop();
        assert!(!exceeds_fair_share(&many));
    }
}
