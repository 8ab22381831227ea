//! Limits how long the server waits for the message of a call, and how many calls it waits for at the same time.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::eviction::EvictionQueue;
use crate::service::call_context::CallContext;

/// Time limit for the message of a unary call, which clients send right behind its headers.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(10);

/// The calls whose messages have not arrived yet.
pub(super) struct PendingMessages(Mutex<EvictionQueue<Weak<CancellationToken>>>);

/// A call whose message has not arrived yet. The token is cancelled when the call is evicted in favour of another one.
pub(super) struct PendingMessage(Arc<CancellationToken>);

/// Why the server stops waiting for a message.
pub(super) enum NoMessage {
    TimedOut,
    Evicted,
}

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

    /// Completes when the message has not arrived in time, and never if it has. The identity of the caller is not
    /// trusted for longer than this, either.
    pub(super) async fn missed(self, call: &CallContext) -> NoMessage {
        let arrived = tokio::select! {
            biased;
            arrived = timeout(MESSAGE_TIMEOUT.min(call.time_limit()), call.read.cancelled()) => arrived,
            () = self.evicted() => return NoMessage::Evicted,
        };
        drop(self);
        if arrived.is_ok() {
            std::future::pending::<()>().await;
        }
        NoMessage::TimedOut
    }
}
