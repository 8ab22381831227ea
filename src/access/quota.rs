//! Quota of deletions per caller: at most `limit` in any period of 60 seconds. The module counts; the limits are in the
//! policy.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::Instant;

use crate::identity::Identity;

/// The period in which deletions are counted.
const WINDOW: Duration = Duration::from_mins(1);

/// When a deletion began, and a number that distinguishes it from others at the same moment.
type Key = (Instant, u64);

/// The deletions of the last minute, by caller. Limits are passed in, so that a changed configuration forgets none.
#[derive(Clone, Default)]
pub struct Quotas(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    deletions: HashMap<Identity, BTreeSet<Key>>,
    /// Number of keys that were created.
    keys: u64,
    /// The last time that callers without deletions in the window were removed.
    swept: Option<Instant>,
}

/// One deletion that counts against its caller's quota.
#[must_use = "a slot that is not given back counts for 60 seconds"]
pub struct Slot {
    quotas: Quotas,
    caller: Identity,
    key: Key,
}

impl Quotas {
    /// Counts one more deletion of `caller`.
    ///
    /// If `limit` is reached, returns the time until the window has capacity again.
    pub fn try_take(&self, caller: &Identity, limit: u32) -> Result<Slot, Duration> {
        let mut state = crate::lock(&self.0);
        let now = Instant::now();
        state.sweep(now);
        if let Some(deletions) = state.deletions.get_mut(caller) {
            expire(deletions, now);
            let over = deletions.len().checked_sub(limit as usize);
            if let Some((begun, _)) = over.and_then(|over| deletions.iter().nth(over)) {
                return Err((*begun + WINDOW).duration_since(now));
            }
        }
        Ok(Slot {
            quotas: self.clone(),
            caller: caller.clone(),
            key: state.insert(caller),
        })
    }
}

impl State {
    /// Adds a deletion that begins now. Reads the time under the lock, so that keys are in the order of the decisions.
    fn insert(&mut self, caller: &Identity) -> Key {
        let key = (Instant::now(), self.keys);
        self.keys += 1;
        let deletions = self.deletions.entry(caller.clone()).or_default();
        deletions.insert(key);
        key
    }

    /// Removes callers without deletions in the window, at most once in its length.
    fn sweep(&mut self, now: Instant) {
        if now < *self.swept.get_or_insert(now) + WINDOW {
            return;
        }
        self.swept = Some(now);
        self.deletions.retain(|_, deletions| {
            expire(deletions, now);
            !deletions.is_empty()
        });
    }

    fn remove(&mut self, slot: &Slot) {
        if let Some(deletions) = self.deletions.get_mut(&slot.caller) {
            deletions.remove(&slot.key);
        }
    }
}

/// Removes the deletions that are no longer in the window.
fn expire(deletions: &mut BTreeSet<Key>, now: Instant) {
    while let Some((begun, _)) = deletions.first()
        && *begun + WINDOW <= now
    {
        deletions.pop_first();
    }
}

impl Slot {
    /// Restarts the slot's 60 seconds. Called when the intent has been recorded, which is when the deletion counts from.
    pub fn start(&mut self) {
        let mut state = crate::lock(&self.quotas.0);
        state.remove(self);
        self.key = state.insert(&self.caller);
    }

    /// Removes the deletion from the count, because nothing was sent.
    pub fn refund(self) {
        crate::lock(&self.quotas.0).remove(&self);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::advance;

    use super::{Quotas, Slot, WINDOW};
    use crate::identity::Identity;

    const CALLER: Identity = Identity::Anonymous;
    const SECOND: Duration = Duration::from_secs(1);

    /// Takes slots until the limit is reached.
    fn take_all(quotas: &Quotas, limit: u32) -> Vec<Slot> {
        std::iter::from_fn(|| quotas.try_take(&CALLER, limit).ok()).collect()
    }

    fn wait(quotas: &Quotas, limit: u32) -> Option<Duration> {
        quotas.try_take(&CALLER, limit).err()
    }

    #[tokio::test(start_paused = true)]
    async fn limit_applies_to_every_period_of_one_minute() {
        // The limit, the pauses in milliseconds before each attempt, and which attempts succeed.
        let cases: [(u32, &[u64], &str); 5] = [
            (1, &[0, 0, 59_999, 1, 0], "+--+-"),
            (3, &[0, 0, 0, 0, 20_000, 39_999, 1, 0, 0, 0], "+++---+++-"),
            (
                3,
                &[0, 20_000, 20_000, 19_999, 1, 0, 20_000, 20_000],
                "+++-+-++",
            ),
            (2, &[30_000, 29_000, 1_000, 30_000, 28_999, 1], "++-+-+"),
            (2, &[0, 0, 600_000, 0, 0], "++++-"),
        ];
        for (limit, pauses, expected) in cases {
            let quotas = Quotas::default();
            let mut seen = String::new();
            for pause in pauses {
                advance(Duration::from_millis(*pause)).await;
                seen.push(if wait(&quotas, limit).is_none() {
                    '+'
                } else {
                    '-'
                });
            }
            assert_eq!(seen, expected, "{limit} {pauses:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn refunded_slot_does_not_count() {
        let quotas = Quotas::default();
        let Ok(first) = quotas.try_take(&CALLER, 2) else {
            unreachable!("nothing is used");
        };
        advance(SECOND * 10).await;
        assert_eq!(take_all(&quotas, 2).len(), 1);
        first.refund();
        let mut again = take_all(&quotas, 2);
        assert_eq!(again.len(), 1);
        // Both are 10 seconds younger than the first was.
        advance(SECOND * 59).await;
        assert_eq!(wait(&quotas, 2), Some(SECOND));
        advance(SECOND).await;
        // A slot that is no longer in the window frees no other one.
        assert_eq!(take_all(&quotas, 2).len(), 2);
        again.remove(0).refund();
        assert_eq!(wait(&quotas, 2), Some(WINDOW));
    }

    #[tokio::test(start_paused = true)]
    async fn deletion_counts_from_its_intent() {
        let quotas = Quotas::default();
        let mut slots = take_all(&quotas, 1);
        assert_eq!(wait(&quotas, 1), Some(WINDOW));
        advance(SECOND).await;
        for slot in &mut slots {
            slot.start();
        }
        advance(SECOND * 59).await;
        assert_eq!(wait(&quotas, 1), Some(SECOND));
        slots.remove(0).refund();
        assert_eq!(wait(&quotas, 1), None);
    }

    #[tokio::test(start_paused = true)]
    async fn each_caller_has_its_own_quota_and_idle_callers_are_removed() {
        let quotas = Quotas::default();
        let held = || crate::lock(&quotas.0).deletions.len();
        for number in 0..100 {
            let caller = Identity::Certificate(format!("spiffe://corp/{number}"));
            assert!(quotas.try_take(&caller, 1).is_ok());
            assert!(quotas.try_take(&caller, 1).is_err());
        }
        assert_eq!(held(), 100);
        advance(WINDOW).await;
        assert_eq!(take_all(&quotas, 1).len(), 1);
        assert_eq!(held(), 1);
    }
}
