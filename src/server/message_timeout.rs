//! Limits how long the server waits for the message of a call, and how many calls it waits for at the same time.

use std::{
    future::pending,
    net::IpAddr,
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::eviction::EvictionQueue;
use crate::{
    error::Failure,
    proto::ErrorReason,
    service::{call_context::CallContext, refusal::overloaded},
};

/// Time limit for the message of a unary call, which clients send right behind its headers.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(10);

/// The calls whose messages have not arrived yet.
pub(super) struct PendingMessages(Mutex<EvictionQueue<Weak<CancellationToken>>>);

/// A call whose message has not arrived yet. The token is cancelled when the call is evicted in favour of another one.
pub(super) struct PendingMessage(Arc<CancellationToken>);

impl PendingMessages {
    /// Creates a queue for at most `max` calls.
    pub(super) fn new(max: usize) -> Self {
        let is_over = |call: &Weak<CancellationToken>| call.strong_count() == 0;
        Self(Mutex::new(EvictionQueue::new(max, is_over)))
    }

    /// Adds a call of this peer. If there are too many, evicts one.
    pub(super) fn add(&self, peer: Option<IpAddr>) -> PendingMessage {
        let token = Arc::default();
        let peer = peer.unwrap_or(IpAddr::from([0; 4]));
        let evicted = crate::lock(&self.0).push(peer, Arc::downgrade(&token));
        if let Some(evicted) = evicted.and_then(|evicted| evicted.upgrade()) {
            evicted.cancel();
        }
        PendingMessage(token)
    }
}

impl PendingMessage {
    /// Completes when the call is evicted.
    pub(super) async fn evicted(&self) {
        self.0.cancelled().await;
    }

    /// Completes with the failure of the call when its message has not arrived in time, or when it is evicted. Does not
    /// complete if the message has arrived. The identity of the caller is not trusted for longer than this, either.
    pub(super) async fn missed(self, call: &CallContext) -> Failure {
        let time = MESSAGE_TIMEOUT.min(call.time_limit());
        let arrived = tokio::select! {
            biased;
            arrived = timeout(time, call.read.cancelled()) => arrived,
            () = self.evicted() => return overloaded(),
        };
        // The queue no longer counts the call.
        drop(self);
        if arrived.is_ok() {
            pending::<()>().await;
        }
        let context = "the request message did not come";
        Failure::new(ErrorReason::DeadlineExceeded, context)
    }
}
