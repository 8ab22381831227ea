//! The bulkhead of one target: so many requests in flight, so many waiting, the rest refused at once. A call that
//! pauses between attempts holds no place.

use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::{Semaphore, SemaphorePermit};

use super::{call_limits::CallLimits, deadline::Deadline};
use crate::{config::BulkheadLimits, error::Failure, proto::ErrorReason};

/// The bulkhead.
pub struct Bulkhead {
    places: Semaphore,
    waiting: AtomicU32,
    limits: BulkheadLimits,
}

/// Counts a call among the waiting ones for as long as it lives.
struct Waiting<'a>(&'a AtomicU32);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Bulkhead {
    /// With these limits.
    #[must_use]
    pub fn new(limits: BulkheadLimits) -> Self {
        Self {
            places: Semaphore::new(limits.in_flight as usize),
            waiting: AtomicU32::new(0),
            limits,
        }
    }

    /// Its limits.
    #[must_use]
    pub const fn limits(&self) -> BulkheadLimits {
        self.limits
    }

    /// Requests that hold a place.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        let free = u32::try_from(self.places.available_permits()).unwrap_or(u32::MAX);
        self.limits.in_flight.saturating_sub(free)
    }

    /// Requests that wait for one.
    #[must_use]
    pub fn queued(&self) -> u32 {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Takes a place for one request, waiting if the queue has room, the deadline allows and the caller is there.
    pub async fn enter(&self, limits: &CallLimits) -> Result<SemaphorePermit<'_>, Failure> {
        if let Ok(place) = self.places.try_acquire() {
            return Ok(place);
        }
        let before = self.waiting.fetch_add(1, Ordering::AcqRel);
        let _waiting = Waiting(&self.waiting);
        if before >= self.limits.queued {
            return Err(Failure::new(
                ErrorReason::Overloaded,
                "the bulkhead is full",
            ));
        }
        match limits.bound(self.places.acquire()).await {
            Some(Ok(place)) => Ok(place),
            Some(Err(_)) => Err(Failure::internal("the bulkhead is closed")),
            None => Err(Deadline::exceeded("waiting for a place in the bulkhead")),
        }
    }
}
