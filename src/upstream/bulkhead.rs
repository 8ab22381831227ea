//! The bulkhead of one target: so many calls in flight, so many waiting, the rest refused at once.

use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::{Semaphore, SemaphorePermit};

use super::deadline::Deadline;
use crate::{config::Room, error::Failure, proto::ErrorReason};

/// The bulkhead.
pub struct Bulkhead {
    places: Semaphore,
    waiting: AtomicU32,
    queue: u32,
}

/// Counts a call among the waiting ones for as long as it lives.
struct Waiting<'a>(&'a AtomicU32);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Bulkhead {
    /// With this much room.
    #[must_use]
    pub fn new(room: Room) -> Self {
        Self {
            places: Semaphore::new(room.in_flight as usize),
            waiting: AtomicU32::new(0),
            queue: room.queued,
        }
    }

    /// Takes a place, waiting for one if the queue has room and the deadline allows.
    pub async fn enter(&self, deadline: Deadline) -> Result<SemaphorePermit<'_>, Failure> {
        if let Ok(place) = self.places.try_acquire() {
            return Ok(place);
        }
        let before = self.waiting.fetch_add(1, Ordering::AcqRel);
        let _waiting = Waiting(&self.waiting);
        if before >= self.queue {
            return Err(Failure::new(
                ErrorReason::Overloaded,
                "the bulkhead is full",
            ));
        }
        match deadline.bound(self.places.acquire()).await {
            Some(Ok(place)) => Ok(place),
            Some(Err(_)) => Err(Failure::internal("the bulkhead is closed")),
            None => Err(Deadline::exceeded("waiting for a place in the bulkhead")),
        }
    }
}
