//! What each caller may do: nothing that the configuration does not list.

use std::collections::HashMap;

use crate::{
    config::{Allow, Caller},
    identity::Identity,
};

/// The rights of all callers.
pub struct Policy(HashMap<Identity, Vec<Allow>>);

impl Policy {
    /// From the configuration.
    #[must_use]
    pub fn new(callers: &[Caller]) -> Self {
        let rights = callers
            .iter()
            .map(|caller| (caller.identity.clone(), caller.allow.clone()));
        Self(rights.collect())
    }

    /// Is there an entry for this caller?
    #[must_use]
    pub fn lists(&self, caller: &Identity) -> bool {
        self.0.contains_key(caller)
    }

    /// May `caller` call `rpc` on this target, and on this pool of it?
    #[must_use]
    pub fn allows(&self, caller: &Identity, rpc: &str, target: &str, pool: Option<&str>) -> bool {
        let rights = self.0.get(caller).map(Vec::as_slice).unwrap_or_default();
        rights.iter().any(|right| {
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
