//! Deletions per minute and caller. A runaway script is the likeliest accident of a service that deletes.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use tokio::time::Instant;

use crate::{config::Caller, error::Failure, identity::Identity, proto::ErrorReason};

const MINUTE: f64 = 60.0;

struct Bucket {
    per_minute: u32,
    level: Mutex<Level>,
}

struct Level {
    tokens: f64,
    filled_at: Instant,
}

/// The quotas of all callers that have one.
pub struct Quotas(HashMap<Identity, Arc<Bucket>>);

impl Quotas {
    /// From the configuration. A bucket is full, or as full as the caller's was before: taking up a configuration
    /// again must not give away a minute's deletions.
    #[must_use]
    pub fn new(callers: &[Caller], before: Option<&Self>) -> Self {
        let buckets = callers.iter().filter_map(|caller| {
            let per_minute = caller.deletes_per_minute?;
            let known = before.and_then(|before| before.0.get(&caller.identity));
            let bucket = match known {
                Some(known) if known.per_minute == per_minute => Arc::clone(known),
                Some(known) => Arc::new(Bucket::new(per_minute, known.earned().tokens)),
                None => Arc::new(Bucket::new(per_minute, f64::INFINITY)),
            };
            Some((caller.identity.clone(), bucket))
        });
        Self(buckets.collect())
    }

    /// Takes one deletion out of the caller's quota.
    pub fn take(&self, caller: &Identity) -> Result<(), Failure> {
        self.0.get(caller).map_or(Ok(()), |bucket| bucket.take())
    }
}

impl Bucket {
    fn new(per_minute: u32, tokens: f64) -> Self {
        Self {
            per_minute,
            level: Mutex::new(Level {
                tokens: tokens.min(f64::from(per_minute)),
                filled_at: Instant::now(),
            }),
        }
    }

    /// With what time has earned.
    fn earned(&self) -> MutexGuard<'_, Level> {
        let most = f64::from(self.per_minute);
        let mut level = crate::lock(&self.level);
        let now = Instant::now();
        let gained = (now - level.filled_at).as_secs_f64() * most / MINUTE;
        level.tokens = (level.tokens + gained).min(most);
        level.filled_at = now;
        level
    }

    fn take(&self) -> Result<(), Failure> {
        let mut level = self.earned();
        if level.tokens >= 1.0 {
            level.tokens -= 1.0;
            return Ok(());
        }
        let wait = (1.0 - level.tokens) * MINUTE / f64::from(self.per_minute);
        Err(Failure {
            retry_after: Some(Duration::from_secs_f64(wait.clamp(1.0, MINUTE))),
            ..Failure::new(ErrorReason::DeleteQuotaExceeded, "quota")
        })
    }
}
