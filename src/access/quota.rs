//! Deletions per minute and caller. A runaway script is the likeliest accident of a service that deletes.

use std::{collections::HashMap, sync::Mutex, time::Duration};

use tokio::time::Instant;

use crate::{config::Caller, error::Failure, proto::ErrorReason};

const MINUTE: f64 = 60.0;

struct Bucket {
    per_minute: f64,
    tokens: f64,
    filled_at: Instant,
}

/// The quotas of all callers that have one.
pub struct Quotas(HashMap<String, Mutex<Bucket>>);

impl Quotas {
    /// From the configuration; every bucket is full.
    #[must_use]
    pub fn new(callers: &[Caller]) -> Self {
        let buckets = callers.iter().filter_map(|caller| {
            let per_minute = f64::from(caller.deletes_per_minute?);
            let bucket = Bucket {
                per_minute,
                tokens: per_minute,
                filled_at: Instant::now(),
            };
            Some((caller.identity.clone(), Mutex::new(bucket)))
        });
        Self(buckets.collect())
    }

    /// Takes one deletion out of the caller's quota.
    pub fn take(&self, caller: &str) -> Result<(), Failure> {
        let Some(bucket) = self.0.get(caller) else {
            return Ok(());
        };
        let mut bucket = crate::lock(bucket);
        let now = Instant::now();
        let gained = (now - bucket.filled_at).as_secs_f64() * bucket.per_minute / MINUTE;
        bucket.tokens = (bucket.tokens + gained).min(bucket.per_minute);
        bucket.filled_at = now;
        if bucket.tokens >= 1.0 {
            bucket.tokens -= 1.0;
            return Ok(());
        }
        let wait = (1.0 - bucket.tokens) * MINUTE / bucket.per_minute;
        Err(Failure {
            retry_after: Some(Duration::from_secs_f64(wait.clamp(1.0, MINUTE))),
            ..Failure::new(ErrorReason::DeleteQuotaExceeded, "quota")
        })
    }
}
