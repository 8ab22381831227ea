//! One call, and what the code of an rpc and the pipeline pass to each other.

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

/// What a call is about.
pub struct DeleteRequest {
    /// The rpc's name.
    pub rpc: &'static str,
    /// Names of the upstream.
    pub names: &'static ResourceNames,
    /// The resolved alias.
    pub target: String,
    /// The request left the alias empty.
    pub alias_is_ours: bool,
    /// The pool, where the upstream has pools.
    pub pool: Option<String>,
    /// The user, as the request names it.
    pub user: String,
    /// The request's fields.
    pub checked: Checked,
    /// Nothing is to be deleted.
    pub validate_only: bool,
    /// Whether the request names a protected user.
    pub protected: bool,
    /// `client-request-id` that is going to be sent, where the upstream has one.
    pub client_request_id: String,
}

/// What an rpc's own part needs.
pub struct Admitted {
    /// This server's id of the call.
    pub request_id: String,
    /// The verified identity.
    pub caller: String,
    /// Deadline and caller.
    pub limits: CallLimits,
}

/// How an rpc's own part ended.
pub struct Finished<T> {
    /// The response and what happened, or the failure.
    pub result: Result<(T, DeleteOutcome), Failure>,
    /// The book of the DELETEs.
    pub attempts: Attempts,
    /// Identifiers that the upstream told.
    pub identifiers: Vec<(&'static str, String)>,
    /// What finds the call in the upstream's own logs.
    pub upstream_ids: UpstreamIds,
}

/// The ids of a call on the upstream's side, for the log and the audit log.
#[derive(Clone, Debug, Default)]
pub struct UpstreamIds {
    /// `client-request-id` that was sent.
    pub client_request_id: String,
    /// `request-id` of the last answer.
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
    pub(super) known: bool,
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
    /// Creates a call. `known` says whether its target is configured.
    pub(super) fn new(
        shared: Arc<Shared>,
        call: Arc<CallContext>,
        request: DeleteRequest,
        known: bool,
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
            known,
            intended: false,
            room: None,
            slot: None,
            _in_progress: in_progress,
        }
    }

    /// Returns whether the policy allows the call.
    pub(super) fn is_allowed(&self) -> bool {
        let DeleteRequest {
            rpc, target, pool, ..
        } = &self.request;
        let caller = self.call.caller.as_ref();
        let access = self.shared.access();
        caller.is_ok_and(|caller| access.policy.allows(caller, rpc, target, pool.as_deref()))
    }
}
