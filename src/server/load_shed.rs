//! Rejects calls that exceed the capacity of the server before they are processed.

use std::sync::Arc;

use http::Extensions;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::in_flight::OverFairShare;
use crate::{
    error::Failure,
    service::{Shared, refusal::overloaded},
};

/// Maximum number of concurrent reflection calls. Each of them keeps the descriptors of the API in memory.
pub(super) const MAX_REFLECTION_CALLS: usize = 64;

/// The kind of a method, which determines the limits and checks that apply to it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum MethodKind {
    Rpc,
    Health,
    /// Server reflection: the only service whose methods receive a stream of messages.
    Reflection,
    Unknown,
}

impl MethodKind {
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

/// Admits a call, or returns the failure `OVERLOADED`. A reflection call takes one of `reflection_permits`, which the
/// response must hold until it has been sent.
pub(super) fn admit(
    kind: MethodKind,
    extensions: &Extensions,
    reflection_permits: &Arc<Semaphore>,
    shared: &Shared,
) -> Result<Option<OwnedSemaphorePermit>, Failure> {
    if extensions.get::<OverFairShare>().is_some() {
        return Err(overloaded());
    }
    match kind {
        // This check only rejects rpcs early. The pipeline acquires the permit of a call once its message has arrived.
        MethodKind::Rpc if shared.call_permits.available_permits() == 0 => Err(overloaded()),
        MethodKind::Reflection => {
            let permit = Arc::clone(reflection_permits).try_acquire_owned();
            permit.map(Some).map_err(|_| overloaded())
        }
        _ => Ok(None),
    }
}
