//! The bulkhead of one target. It limits the number of requests in flight and the number of requests that wait for a
//! permit, and rejects further requests at once. A call that pauses between attempts holds no permit.

use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::{Semaphore, SemaphorePermit};

use super::{call_limits::CallLimits, deadline::Deadline};
use crate::{error::Failure, proto::ErrorReason as R};

pub struct Bulkhead {
    permits: Semaphore,
    waiting: AtomicU32,
    /// Maximum number of requests that hold a permit.
    pub max_in_flight: u32,
    /// Maximum number of requests that wait for a permit.
    pub max_queued: u32,
}

/// Represents a waiting request. Dropping the guard removes the request from the count.
struct WaitingGuard<'a>(&'a AtomicU32);

impl Drop for WaitingGuard<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Bulkhead {
    pub fn new(max_in_flight: u32, max_queued: u32) -> Self {
        Self {
            permits: Semaphore::new(max_in_flight as usize),
            waiting: AtomicU32::new(0),
            max_in_flight,
            max_queued,
        }
    }

    /// Returns the number of requests that hold a permit.
    pub fn in_flight(&self) -> u32 {
        let free = u32::try_from(self.permits.available_permits()).unwrap_or(u32::MAX);
        self.max_in_flight.saturating_sub(free)
    }

    /// Returns the number of requests that wait for a permit.
    pub fn queued(&self) -> u32 {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Takes a permit for one request, or waits for one within the limits. Fails at once if the queue is full.
    pub async fn acquire(&self, limits: &CallLimits) -> Result<SemaphorePermit<'_>, Failure> {
        if let Ok(permit) = self.permits.try_acquire() {
            return Ok(permit);
        }
        let before = self.waiting.fetch_add(1, Ordering::AcqRel);
        let _waiting = WaitingGuard(&self.waiting);
        if before >= self.max_queued {
            return Err(Failure::new(R::Overloaded, "the bulkhead is full"));
        }
        match limits.bound(self.permits.acquire()).await {
            Some(Ok(permit)) => Ok(permit),
            Some(Err(_)) => Err(Failure::internal("the bulkhead is closed")),
            None => Err(Deadline::exceeded("waiting for a permit of the bulkhead")),
        }
    }
}
