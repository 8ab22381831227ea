//! The kinds of methods that the layers treat differently.

use crate::service::rpcs;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MethodKind {
    Rpc,
    Health,
    /// The only service whose methods take a stream of messages.
    Reflection,
    Unknown,
}

impl MethodKind {
    /// Returns the kind of the method with this path.
    pub(super) fn of(path: &str) -> Self {
        if rpcs::rpc(path).is_some() {
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
