//! Quota of deletions per caller: at most `limit` in any period of 60 seconds. This module counts the deletions; the
//! limits are in the policy.
//!
//! A quota is either local to a process or shared in a database. A shared one is taken in the transaction that records
//! the intent, so that no deletion is counted without an intent, or recorded without being counted.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::Instant;

use crate::identity::Identity;

/// The period in which deletions are counted.
const WINDOW: Duration = Duration::from_mins(1);

/// The time at which a deletion began, and a number that distinguishes it from others at the same time.
type Key = (Instant, u64);

/// Counts the deletions of callers.
pub trait Quota: Send + Sync {
    /// Counts one more deletion of `caller`.
    ///
    /// If `limit` is reached, returns the time until the window has capacity again.
    fn try_take(&self, caller: &Identity, limit: u32) -> Result<Slot, Duration>;
}

/// One deletion that counts against its caller's quota.
pub enum Slot {
    /// The deletion is counted in this process.
    Taken(LocalSlot),
    /// The database counts the deletion, or refuses it, when it records the intent.
    TakenWithIntent {
        /// The caller, in a form that differs for different kinds of identities.
        caller: String,
        limit: u32,
    },
}

/// A quota that all replicas share through their database.
pub struct SharedQuota;

impl Quota for SharedQuota {
    fn try_take(&self, caller: &Identity, limit: u32) -> Result<Slot, Duration> {
        let caller = format!("{} {caller}", caller.kind());
        Ok(Slot::TakenWithIntent { caller, limit })
    }
}

/// The deletions of the last minute in this process, by caller. Limits are not stored here but passed as arguments, so
/// that no deletion is forgotten when the configuration changes.
#[derive(Clone, Default)]
pub struct LocalQuota(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    deletions: HashMap<Identity, BTreeSet<Key>>,
    swept: Option<Instant>,
    /// Number of keys that were created.
    keys: u64,
}

/// One deletion that is counted in this process.
#[must_use = "a slot that is not given back counts for 60 seconds"]
pub struct LocalSlot {
    quota: LocalQuota,
    caller: Identity,
    key: Key,
}

impl Quota for LocalQuota {
    fn try_take(&self, caller: &Identity, limit: u32) -> Result<Slot, Duration> {
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
        Ok(Slot::Taken(LocalSlot {
            quota: self.clone(),
            caller: caller.clone(),
            key: state.insert(caller),
        }))
    }
}

impl State {
    /// Adds a deletion that begins now, and returns its key. Reads the time under the lock, so that the keys are in
    /// the order in which the deletions were admitted.
    fn insert(&mut self, caller: &Identity) -> Key {
        let key = (Instant::now(), self.keys);
        self.keys += 1;
        let deletions = self.deletions.entry(caller.clone()).or_default();
        deletions.insert(key);
        key
    }

    /// Removes idle callers, at most once in each window, so that their deletions do not occupy memory.
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

    fn remove(&mut self, slot: &LocalSlot) {
        if let Some(deletions) = self.deletions.get_mut(&slot.caller) {
            deletions.remove(&slot.key);
        }
    }
}

fn expire(deletions: &mut BTreeSet<Key>, now: Instant) {
    let is_over = |(begun, _): &Key| *begun + WINDOW <= now;
    while deletions.first().is_some_and(is_over) {
        deletions.pop_first();
    }
}

impl LocalSlot {
    /// Restarts the slot's 60 seconds. A deletion counts from the record of its intent.
    pub fn start(&mut self) {
        let mut state = crate::lock(&self.quota.0);
        state.remove(self);
        self.key = state.insert(&self.caller);
    }

    /// Removes the deletion from the count. Called if nothing was sent.
    pub fn refund(self) {
        crate::lock(&self.quota.0).remove(&self);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::{LocalQuota, Quota as _, SharedQuota, Slot, WINDOW};
    use crate::identity::Identity;

    #[tokio::test(start_paused = true)]
    async fn each_caller_has_its_own_quota_and_idle_callers_are_removed() {
        let quotas = LocalQuota::default();
        let held = || crate::lock(&quotas.0).deletions.len();
        for number in 0..100 {
            let caller = Identity::Certificate(format!("spiffe://corp/{number}"));
            assert!(quotas.try_take(&caller, 1).is_ok());
            assert!(quotas.try_take(&caller, 1).is_err());
        }
        assert_eq!(held(), 100);
        advance(WINDOW).await;
        assert!(quotas.try_take(&Identity::Anonymous, 1).is_ok());
        assert_eq!(held(), 1);
    }

    #[test]
    fn callers_of_different_kinds_do_not_share_a_quota() {
        let subject = Identity::Token {
            issuer: "https://issuer".to_owned(),
            subject: "alice".to_owned(),
        };
        let name = Identity::Certificate(subject.to_string());
        let counted = [subject, name].map(|caller| match SharedQuota.try_take(&caller, 1) {
            Ok(Slot::TakenWithIntent { caller, .. }) => caller,
            _ => String::new(),
        });
        assert_ne!(counted[0], counted[1]);
    }
}
