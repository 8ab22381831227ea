//! The calls of one connection: how many there are, since when there is none, and whether the peer takes the answers.

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

/// Answers are small. A peer that takes nothing of one for so long is not there for it.
pub const UNREAD: Duration = Duration::from_secs(20);

/// So many calls a connection may have, however many others have.
const FAIR_SHARE: usize = 16;

/// The calls of all connections, as a number.
pub type All = Arc<AtomicUsize>;

/// There are too many calls, and this one is of a connection that has many: it is refused.
#[derive(Clone, Copy)]
pub struct Crowded;

/// The calls of one connection.
pub struct Calls {
    all: All,
    count: Mutex<Count>,
}

struct Count {
    begun: u64,
    open: usize,
    /// When the last one ended, or the connection began.
    ended: Instant,
    /// Answers that are there, by call, and since when nothing of them has been taken.
    unread: BTreeMap<u64, Instant>,
}

impl Calls {
    /// None yet, among all of them.
    pub fn among(all: All) -> Self {
        Self {
            all,
            count: Mutex::new(Count {
                begun: 0,
                open: 0,
                ended: Instant::now(),
                unread: BTreeMap::new(),
            }),
        }
    }

    /// Are there so many in all, and many of this connection?
    pub fn crowd(&self, most: usize) -> Option<Crowded> {
        let crowded =
            self.all.load(Ordering::Relaxed) >= most && crate::lock(&self.count).open >= FAIR_SHARE;
        crowded.then_some(Crowded)
    }

    /// One more.
    pub fn begin(self: &Arc<Self>) -> Call {
        self.all.fetch_add(1, Ordering::Relaxed);
        let mut count = crate::lock(&self.count);
        count.begun += 1;
        count.open += 1;
        Call {
            number: count.begun,
            calls: Arc::clone(self),
        }
    }

    /// Ends when there has been no call for so long.
    pub async fn idle(&self, time: Duration) {
        loop {
            let rest = match &*crate::lock(&self.count) {
                Count { open: 0, ended, .. } => (*ended + time).duration_since(Instant::now()),
                _ => time,
            };
            if rest.is_zero() {
                return;
            }
            sleep(rest).await;
        }
    }

    /// Ends when the peer takes nothing of an answer.
    pub async fn stuck(&self) {
        loop {
            let oldest = crate::lock(&self.count).unread.values().min().copied();
            let rest = oldest.map_or(UNREAD, |since| {
                (since + UNREAD).duration_since(Instant::now())
            });
            if rest.is_zero() {
                return;
            }
            sleep(rest).await;
        }
    }
}

/// One call, until its answer has left.
pub struct Call {
    number: u64,
    calls: Arc<Calls>,
}

impl Call {
    /// There is something for the peer to take.
    pub fn answered(&self) {
        let mut count = crate::lock(&self.calls.count);
        count.unread.insert(self.number, Instant::now());
    }

    /// The peer has taken what was there.
    fn taken(&self) {
        crate::lock(&self.calls.count).unread.remove(&self.number);
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.calls.all.fetch_sub(1, Ordering::Relaxed);
        let mut count = crate::lock(&self.calls.count);
        count.unread.remove(&self.number);
        count.open -= 1;
        count.ended = Instant::now();
    }
}

/// A body that knows when the peer takes nothing of it: then nobody asks for its next part.
pub struct Taken<B> {
    body: B,
    call: Call,
}

impl<B> Taken<B> {
    /// The answer to this call.
    pub const fn new(body: B, call: Call) -> Self {
        Self { body, call }
    }
}

impl<B: Body + Unpin> Body for Taken<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.get_mut();
        let frame = Pin::new(&mut this.body).poll_frame(cx);
        match &frame {
            // The peer waits for us.
            Poll::Pending => this.call.taken(),
            Poll::Ready(_) => this.call.answered(),
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

    use super::{All, Calls, FAIR_SHARE};

    #[test]
    fn a_connection_with_many_calls_is_refused_for_one_with_few() {
        let all = All::default();
        let [many, few] = [0, 1].map(|_| Arc::new(Calls::among(Arc::clone(&all))));
        let most = FAIR_SHARE * 2;
        let mut calls: Vec<_> = (0..most - 1).map(|_| many.begin()).collect();
        assert!(many.crowd(most).is_none());
        calls.push(few.begin());
        assert!(many.crowd(most).is_some() && few.crowd(most).is_none());
        calls.pop();
        assert!(many.crowd(most).is_none());
    }
}
