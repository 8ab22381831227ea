//! Quota of deletions per caller: at most `limit` in any period of 60 seconds. The module counts; the limits are in the
//! policy.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
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
pub struct Quotas(Arc<Inner>);

#[derive(Default)]
struct Inner {
    callers: Mutex<Callers>,
    next: AtomicU64,
}

#[derive(Default)]
struct Callers {
    deletions: HashMap<Identity, BTreeSet<Key>>,
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
        let mut callers = crate::lock(&self.0.callers);
        // Read under the lock, so that keys are ordered as the decisions are.
        let now = Instant::now();
        callers.sweep(now);
        let deletions = callers.deletions.entry(caller.clone()).or_default();
        expire(deletions, now);
        let over = deletions.len().checked_sub(limit as usize);
        if let Some((begun, _)) = over.and_then(|over| deletions.iter().nth(over)) {
            return Err((*begun + WINDOW).duration_since(now));
        }
        let key = self.key(now);
        deletions.insert(key);
        Ok(Slot {
            quotas: self.clone(),
            caller: caller.clone(),
            key,
        })
    }

    fn key(&self, at: Instant) -> Key {
        (at, self.0.next.fetch_add(1, Ordering::Relaxed))
    }
}

impl Callers {
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
        let mut callers = crate::lock(&self.quotas.0.callers);
        let key = self.quotas.key(Instant::now());
        let deletions = callers.deletions.entry(self.caller.clone()).or_default();
        deletions.remove(&self.key);
        deletions.insert(key);
        self.key = key;
    }

    /// Removes the deletion from the count: nothing was sent.
    pub fn give_back(self) {
        let mut callers = crate::lock(&self.quotas.0.callers);
        if let Some(deletions) = callers.deletions.get_mut(&self.caller) {
            deletions.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{thread, time::Duration};

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
    async fn any_minute_has_at_most_as_many_deletions_as_the_limit() {
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
    async fn a_changed_limit_counts_what_was_used_before() {
        // The first limit, the slots used under it (one per second), the second limit, the slots that it still admits,
        // and the seconds until the next one.
        let cases = [
            (60, 30, 5, 0, 55),
            (3, 3, 5, 2, 57),
            (5, 5, 5, 0, 55),
            (60, 5, 5, 0, 55),
            (2, 2, 1, 0, 59),
        ];
        for (first, used, second, more, seconds) in cases {
            let quotas = Quotas::default();
            for _ in 0..used {
                assert_eq!(wait(&quotas, first), None);
                // Spread over the last seconds, so that they leave the window one by one.
                advance(SECOND).await;
            }
            assert_eq!(take_all(&quotas, second).len(), more, "{first} {second}");
            assert_eq!(
                wait(&quotas, second),
                Some(SECOND * seconds),
                "{first} {second}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_slot_that_is_given_back_frees_its_own_place() {
        let quotas = Quotas::default();
        let Ok(first) = quotas.try_take(&CALLER, 2) else {
            unreachable!("nothing is used");
        };
        advance(SECOND * 10).await;
        assert_eq!(take_all(&quotas, 2).len(), 1);
        first.give_back();
        let mut again = take_all(&quotas, 2);
        assert_eq!(again.len(), 1);
        // Both are 10 seconds younger than the first was.
        advance(SECOND * 59).await;
        assert_eq!(wait(&quotas, 2), Some(SECOND));
        advance(SECOND).await;
        // One that is no longer in the window frees no other place.
        assert_eq!(take_all(&quotas, 2).len(), 2);
        again.remove(0).give_back();
        assert_eq!(wait(&quotas, 2), Some(WINDOW));
    }

    #[tokio::test(start_paused = true)]
    async fn a_deletion_counts_from_its_intent_on() {
        let quotas = Quotas::default();
        let mut slots = take_all(&quotas, 1);
        assert_eq!(wait(&quotas, 1), Some(WINDOW));
        advance(SECOND).await;
        for slot in &mut slots {
            slot.start();
        }
        advance(SECOND * 59).await;
        assert_eq!(wait(&quotas, 1), Some(SECOND));
        slots.remove(0).give_back();
        assert_eq!(wait(&quotas, 1), None);
    }

    #[tokio::test(start_paused = true)]
    async fn callers_have_quotas_of_their_own_and_idle_ones_are_forgotten() {
        let quotas = Quotas::default();
        let held = || crate::lock(&quotas.0.callers).deletions.len();
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

    #[tokio::test]
    async fn concurrent_calls_share_the_last_places() {
        let quotas = Quotas::default();
        let taken = thread::scope(|scope| {
            let takers: Vec<_> = (0..8)
                .map(|_| scope.spawn(|| take_all(&quotas, 100).len()))
                .collect();
            let taken = takers.into_iter().map(thread::ScopedJoinHandle::join);
            taken.filter_map(Result::ok).sum::<usize>()
        });
        assert_eq!(taken, 100);
    }
}
