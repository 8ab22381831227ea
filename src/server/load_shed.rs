//! Refuses calls that exceed the capacity of the server before any part of them is processed.

use std::sync::Arc;

use http::Extensions;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::in_flight::OverFairShare;
use crate::{
    error::Failure,
    service::{Shared, refusal::overloaded},
};

/// Calls to reflection at a time: each of them holds the descriptors of the API.
const MAX_REFLECTION_CALLS: usize = 64;

/// The kinds of methods that are treated differently.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum MethodKind {
    Rpc,
    Health,
    /// The only service whose methods take a stream of messages.
    Reflection,
    Unknown,
}

impl MethodKind {
    /// Returns the kind of the method with this path.
    pub(super) fn of(path: &str, is_rpc: bool) -> Self {
        if is_rpc {
            Self::Rpc
        } else if path.starts_with("/grpc.health.") {
            Self::Health
        } else if path.starts_with("/grpc.reflection.") {
            Self::Reflection
        } else {
            Self::Unknown
        }
    }
}

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
    ) -> Result<Option<OwnedSemaphorePermit>, Failure> {
        if extensions.get::<OverFairShare>().is_some() {
            return Err(overloaded());
        }
        match kind {
            // The pipeline takes the permit of an rpc, when its message has arrived.
            MethodKind::Rpc if shared.call_permits.available_permits() == 0 => Err(overloaded()),
            MethodKind::Reflection => {
                let permit = Arc::clone(&self.reflection).try_acquire_owned();
                permit.map(Some).map_err(|_| overloaded())
            }
            _ => Ok(None),
        }
    }
}
