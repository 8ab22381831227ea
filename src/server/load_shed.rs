//! Refuses calls that exceed the capacity of the server before any part of them is processed.

use std::sync::Arc;

use http::Extensions;
use tokio::sync::Semaphore;

use super::{in_flight::OverFairShare, method_kind::MethodKind, response_body::HeldPermit};
use crate::service::Shared;

/// Calls to reflection at a time: each of them holds the descriptors of the API.
const MAX_REFLECTION_CALLS: usize = 64;

/// The server has no capacity for a call.
pub(super) struct Overloaded;

/// Limits calls by their kind and by what else is in progress.
pub(super) struct LoadShed {
    reflection: Arc<Semaphore>,
}

impl Default for LoadShed {
    fn default() -> Self {
        Self {
            reflection: Arc::new(Semaphore::new(MAX_REFLECTION_CALLS)),
        }
    }
}

impl LoadShed {
    /// Admits a call. Returns the permit that its response has to hold, if calls of this kind need one.
    pub(super) fn admit(
        &self,
        kind: MethodKind,
        extensions: &Extensions,
        shared: &Shared,
    ) -> Result<Option<HeldPermit>, Overloaded> {
        if extensions.get::<OverFairShare>().is_some() {
            return Err(Overloaded);
        }
        match kind {
            // The pipeline takes the permit of an rpc, when its message has arrived.
            MethodKind::Rpc if shared.room.available_permits() == 0 => Err(Overloaded),
            MethodKind::Reflection => {
                let permit = Arc::clone(&self.reflection).try_acquire_owned();
                permit
                    .map(|permit| Some(Arc::new(permit)))
                    .map_err(|_| Overloaded)
            }
            _ => Ok(None),
        }
    }
}
