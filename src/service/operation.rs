//! The state of one call in the pipeline, and the types that the pipeline and an rpc exchange.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::{Shared, call_context::CallContext, validate::Checked};
use crate::{
    access::quota::Slot,
    error::{Effect, Failure, resource::ResourceNames, status::CallFacts},
    proto::DeleteOutcome,
    upstream::{attempts::Attempts, call_limits::CallLimits},
};

/// The request of any rpc.
pub struct DeleteRequest {
    pub rpc: &'static str,
    pub names: &'static ResourceNames,
    /// The resolved alias.
    pub alias: String,
    /// Whether the request left the alias empty.
    pub alias_is_ours: bool,
    /// The pool, where the upstream has pools.
    pub pool: Option<String>,
    /// The user, as the request names it.
    pub user: String,
    pub checked: Checked,
    /// Whether the request is only checked, and nothing is deleted.
    pub validate_only: bool,
    /// Whether the request names a protected user.
    pub protected: bool,
    /// `client-request-id` to send, or an empty string if the platform has none.
    pub client_request_id: String,
}

/// An admitted call, as its work receives it.
pub struct Admitted {
    pub request_id: String,
    pub caller: String,
    pub limits: CallLimits,
}

/// Result of the work of a call.
pub struct Finished<T> {
    pub result: Result<(T, DeleteOutcome), Failure>,
    /// Name of the user, or an empty string if it is not known.
    pub user_name: String,
    pub attempts: Attempts,
    /// Identifiers that were read from the upstream.
    pub identifiers: Vec<(&'static str, String)>,
    pub upstream_ids: UpstreamIds,
}

/// IDs that find a call in the logs of the upstream.
#[derive(Clone, Debug, Default)]
pub struct UpstreamIds {
    /// `client-request-id` that was sent.
    pub client_request_id: String,
    /// `request-id` of the last response.
    pub upstream_request_id: String,
}

/// One call. [`super::pipeline`] runs it, [`super::call_log`] logs and records it.
pub(super) struct Operation {
    pub(super) shared: Arc<Shared>,
    pub(super) call: Arc<CallContext>,
    pub(super) request: DeleteRequest,
    pub(super) facts: CallFacts,
    pub(super) upstream_ids: UpstreamIds,
    /// Whether the target is configured.
    pub(super) has_target: bool,
    /// Whether the intent is recorded.
    pub(super) intended: bool,
    /// Permit among the calls in progress, which is held until the call ends even if the caller disconnects.
    pub(super) room: Option<OwnedSemaphorePermit>,
    /// The slot in the caller's quota, if the caller has a limit.
    pub(super) slot: Option<Slot>,
    /// Makes a drain wait for the call. It is taken before the call checks whether the server drains.
    _in_progress: TaskTrackerToken,
}

impl Operation {
    /// Creates a call. `has_target` says whether its target is configured.
    pub(super) fn new(
        shared: Arc<Shared>,
        call: Arc<CallContext>,
        request: DeleteRequest,
        has_target: bool,
    ) -> Self {
        let in_progress = shared.tasks.token();
        let facts = CallFacts {
            names: Some(request.names),
            caller: call.caller_name(),
            request_id: call.request_id.clone(),
            identifiers: request.checked.identifiers.clone(),
            attempts: 0,
            outcome: Effect::NotSent,
        };
        Self {
            shared,
            call,
            request,
            facts,
            upstream_ids: UpstreamIds::default(),
            has_target,
            intended: false,
            room: None,
            slot: None,
            _in_progress: in_progress,
        }
    }

    pub(super) fn is_allowed(&self) -> bool {
        let DeleteRequest {
            rpc, alias, pool, ..
        } = &self.request;
        let caller = self.call.caller.as_ref();
        let access = self.shared.access();
        caller.is_ok_and(|caller| access.policy.allows(caller, rpc, alias, pool.as_deref()))
    }
}
