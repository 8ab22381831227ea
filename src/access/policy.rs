//! Permissions of callers: calls that the configuration does not list are denied. Also holds each caller's limit of
//! deletions per minute.

use std::collections::HashMap;

use crate::{config::Caller, identity::Identity};

pub struct Policy(HashMap<Identity, Caller>);

impl Policy {
    pub(crate) fn new(callers: &[Caller]) -> Self {
        let callers = callers.iter().cloned();
        Self(
            callers
                .map(|caller| (caller.identity.clone(), caller))
                .collect(),
        )
    }

    /// Returns whether there is an entry for this caller.
    pub fn lists(&self, caller: &Identity) -> bool {
        self.0.contains_key(caller)
    }

    /// Returns the maximum number of deletions of `caller` in any 60 seconds, or `None` if there is no limit.
    pub fn deletes_per_minute(&self, caller: &Identity) -> Option<u32> {
        self.0.get(caller)?.deletes_per_minute
    }

    /// Returns whether `caller` may call `rpc` on this target and, if there is a pool, on this pool.
    pub fn allows(&self, caller: &Identity, rpc: &str, target: &str, pool: Option<&str>) -> bool {
        let rights = self.0.get(caller).map(|caller| caller.allow.as_slice());
        rights.unwrap_or_default().iter().any(|right| {
            right.rpc == rpc
                && right.targets.iter().any(|pattern| pattern.matches(target))
                && match (&right.pools, pool) {
                    (Some(patterns), Some(pool)) => patterns.iter().any(|p| p.matches(pool)),
                    (Some(_), None) => false,
                    (None, _) => true,
                }
        })
    }
}
