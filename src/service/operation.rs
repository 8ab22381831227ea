//! The state of one call in the pipeline, and the values that the pipeline and an rpc exchange.

use std::sync::{Arc, OnceLock};

use tokio::sync::OwnedSemaphorePermit;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::{Shared, call_context::CallContext, validate::Validation};
use crate::{
    access::quota::Slot,
    audit::CallMembers,
    error::{Failure, resource::ResourceNames, status::CallFacts},
    metrics::Outcomes,
    proto::DeleteOutcome,
    upstream::attempts::Attempts,
};

/// The fields of a request that the pipeline uses for every rpc.
#[derive(Default)]
pub struct RequestFields {
    /// Name or ID of the user.
    pub(super) user: String,
    pub(super) is_name: bool,
    /// The pool, if the platform has pools.
    pub(super) pool: Option<String>,
    /// Whether the request is only checked, and nothing is deleted.
    pub(super) validate_only: bool,
    /// Whether a missing user is a success.
    pub(super) allow_missing: bool,
    /// `client-request-id` to send, or an empty string if the platform has none.
    pub(super) client_request_id: String,
}

/// The request of a call, in the same form for every rpc.
pub(super) struct DeleteRequest {
    pub(super) rpc: &'static str,
    pub(super) names: &'static ResourceNames,
    /// Alias of the target, or an empty string if it is not valid.
    pub(super) alias: String,
    /// Whether the request omitted the alias, which then means the only configured target.
    pub(super) alias_omitted: bool,
    /// Counters of the outcomes for the target; `None` if it is not configured.
    pub(super) outcomes: Option<Outcomes>,
    /// Whether the target is called under the identity of the caller.
    pub(super) acts_for_caller: bool,
    /// Whether the request names a protected user.
    pub(super) protected: bool,
    pub(super) fields: RequestFields,
    pub(super) validation: Validation,
}

/// Result of the work of a call.
pub(super) struct Finished<T> {
    pub(super) result: Result<(T, DeleteOutcome), Failure>,
    /// Name of the user, or an empty string if it is not known.
    pub(super) user_name: String,
    pub(super) attempts: Attempts,
    /// Identifiers that were read from the upstream.
    pub(super) identifiers: Vec<(&'static str, String)>,
    /// `request-id` of the last response, or an empty string.
    pub(super) upstream_request_id: String,
}

/// One call. [`super::pipeline`] runs it, [`super::call_log`] logs and records it.
pub(super) struct Operation {
    pub(super) shared: Arc<Shared>,
    pub(super) call: Arc<CallContext>,
    pub(super) request: DeleteRequest,
    pub(super) facts: CallFacts,
    /// Cached members that all audit records of the call contain. Cleared when the read before the deletion changes
    /// them.
    pub(super) members: OnceLock<CallMembers>,
    /// `client-request-id` that was sent, or an empty string.
    pub(super) client_request_id: String,
    /// `request-id` of the last response, or an empty string.
    pub(super) upstream_request_id: String,
    /// Why the target cannot be called under the identity of the caller, as the `cause` of a refusal, or an empty text.
    pub(super) refusal_cause: &'static str,
    /// Whether the audit log contains the intent of the call.
    pub(super) has_intent: bool,
    /// Whether the caller disconnected before the response.
    pub(super) caller_gone: bool,
    /// Permit of `max_concurrent_calls`, held until the call ends even if the caller disconnects.
    pub(super) permit: Option<OwnedSemaphorePermit>,
    /// The slot in the caller's quota, if the caller has a limit.
    pub(super) slot: Option<Slot>,
    /// Token that makes a drain wait for the call. It is taken before the call checks whether the server drains.
    _in_progress: TaskTrackerToken,
}

impl Operation {
    /// Returns a boxed value, because it is moved several times.
    pub(super) fn new(
        shared: Arc<Shared>,
        call: Arc<CallContext>,
        mut request: DeleteRequest,
    ) -> Box<Self> {
        let in_progress = shared.tasks.token();
        let facts = CallFacts {
            identifiers: std::mem::take(&mut request.validation.identifiers),
            ..call.facts()
        };
        Box::new(Self {
            shared,
            call,
            request,
            facts,
            members: OnceLock::new(),
            client_request_id: String::new(),
            upstream_request_id: String::new(),
            refusal_cause: "",
            has_intent: false,
            caller_gone: false,
            permit: None,
            slot: None,
            _in_progress: in_progress,
        })
    }

    pub(super) fn is_allowed(&self) -> bool {
        let DeleteRequest {
            rpc, alias, fields, ..
        } = &self.request;
        let (access, pool) = (self.shared.access(), fields.pool.as_deref());
        let caller = self.call.caller();
        caller.is_ok_and(|caller| access.policy.allows(caller, rpc, alias, pool))
    }
}
