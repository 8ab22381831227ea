//! A credential and its lifetime.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use tokio::time::Instant;

/// Longest time for which a credential is used, even if the source reports a longer lifetime.
const MAX_LIFE: Duration = Duration::from_hours(24);

/// A credential and its lifetime.
pub struct Lease<T> {
    pub value: T,
    pub(super) obtained: Instant,
    refresh_at: Option<Instant>,
    pub(super) expires_at: Option<Instant>,
    /// Whether the credential replaced a refused one and has not been accepted by the upstream yet.
    pub(super) replaced_refused: AtomicBool,
}

impl<T> Lease<T> {
    /// Creates a lease that is valid for `life`, at most 24 hours, and is renewed after 80 % of this time. Without
    /// `life`, the lease is valid until the upstream refuses the credential.
    pub fn new(value: T, life: Option<Duration>) -> Self {
        let now = Instant::now();
        let life = life.map(|life| life.min(MAX_LIFE));
        Self {
            value,
            obtained: now,
            refresh_at: life.map(|life| now + life.mul_f64(0.8)),
            expires_at: life.map(|life| now + life),
            replaced_refused: AtomicBool::new(false),
        }
    }

    /// Shortens the remaining lifetime to `life`, if it is longer. The lease is then not renewed before its expiry,
    /// because a renewal would have the same limit.
    pub fn limited_to(self, life: Duration) -> Self {
        let limit = Instant::now() + life;
        if self.expires_at.is_some_and(|at| at <= limit) {
            return self;
        }
        Self {
            refresh_at: None,
            expires_at: Some(limit),
            ..self
        }
    }

    pub fn accepted(&self) {
        self.replaced_refused.store(false, Ordering::Relaxed);
    }

    pub(super) fn is_expired(&self, now: Instant) -> bool {
        self.expires_at.is_some_and(|at| now >= at)
    }

    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.refresh_at.is_some_and(|at| now >= at)
    }
}
