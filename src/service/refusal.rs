//! Refuses calls, and logs and records the refusals, individually or in summaries.

use std::sync::Arc;

use futures_util::future::join_all;
use tonic::{Response, Status, metadata::MetadataValue};

use super::{
    Shared,
    call_context::{CallContext, new_id},
    call_log::{call_fields, record},
    operation::Operation,
};
use crate::{
    access::refusals::{Kind, RefusalGroup, Summary},
    audit::{CallFields, CallMembers, Entry, Event, Record, WRITE_TIMEOUT},
    error::{
        Failure, Violation,
        status::{CallFacts, MAX_TEXT_BYTES, status, truncate},
    },
    identity::Identity,
    proto::ErrorReason,
    timestamp::with_milliseconds,
};

/// Metadata key of the encoding of the messages.
pub(crate) const ENCODING: &str = "grpc-encoding";
/// Metadata key of the encodings that the server accepts (gRPC, "Compression").
pub(super) const ACCEPT_ENCODING: &str = "grpc-accept-encoding";
const ENCODINGS: &str = "identity,gzip";

/// Returns the failure of a request that violates this rule.
pub(crate) fn invalid(violation: Violation) -> Failure {
    Failure {
        context: violation.description.to_owned(),
        ..Failure::invalid(vec![violation])
    }
}

/// Returns the failure of a call that the server has no capacity for.
pub(crate) fn overloaded() -> Failure {
    Failure::new(ErrorReason::Overloaded, "too many calls")
}

/// Returns the status of a failure. If it is about compression, the status lists the accepted encodings.
pub(super) fn status_of(failure: &Failure, facts: &CallFacts) -> Status {
    let mut status = status(failure, facts);
    let is_encoding = |violation: &Violation| violation.field == ENCODING;
    if failure.violations.iter().any(is_encoding) {
        let encodings = MetadataValue::from_static(ENCODINGS);
        status.metadata_mut().insert(ACCEPT_ENCODING, encodings);
    }
    status
}

/// Refuses a call before it reaches its handler, and returns its status. If the caller of an rpc has no identity, the
/// status reports that instead of `failure`, unless the server has no capacity, because then the caller has not been
/// authenticated.
pub(crate) async fn refuse(shared: &Shared, call: &CallContext, mut failure: Failure) -> Status {
    let Some((rpc, _)) = call.rpc else {
        return refuse_without_rpc(shared, call, &failure);
    };
    let cause = call.unauthenticated_cause();
    if let Some(cause) = cause.filter(|_| failure.reason != ErrorReason::Overloaded) {
        failure = Failure {
            context: failure.context,
            ..Failure::unidentified(cause)
        };
    }
    let caller = &*call.caller_name();
    let status = status_of(&failure, &call.facts());
    if let Some(kind) = shared.report_refusal(call, failure.reason) {
        // Refusals of callers without an identity are recorded even if the message cannot be decoded.
        if let Some(outcome) = kind.outcome {
            let members = call_fields(call, caller, rpc);
            let members = CallMembers::new(Arc::clone(&call.request_id), &members);
            let entry = Entry {
                event: Event::Outcome,
                outcome,
                reason: kind.reason,
                ..Entry::default()
            };
            record(shared, call, &members, &entry).await;
        }
        tracing::info!(
            request_id = &*call.request_id,
            trace_id = call.trace_id(),
            rpc,
            caller,
            peer = call.peer(),
            code = ?status.code(),
            reason = kind.reason,
            outcome = "not_sent",
            cause,
            context = failure.context,
            "call ended"
        );
    }
    call.end_with(status.code(), failure.reason.as_str_name());
    status
}

/// Refuses a call of a service other than `UserAdmin`.
fn refuse_without_rpc(shared: &Shared, call: &CallContext, failure: &Failure) -> Status {
    let reason = failure.reason.as_str_name();
    let kind = Kind::logged("call refused", reason);
    if shared
        .refusals
        .should_report(call.peer_address(), None, kind)
    {
        tracing::info!(
            request_id = &*call.request_id,
            peer = call.peer(),
            path = truncate(&call.path, MAX_TEXT_BYTES),
            reason,
            cause = failure.cause,
            context = failure.context,
            "call refused"
        );
    }
    status_of(
        failure,
        &CallFacts::of_request(Arc::clone(&call.request_id)),
    )
}

fn kind(reason: ErrorReason) -> Kind {
    use ErrorReason as R;
    let outcome = match reason {
        R::CallerNotAuthorized | R::CallerUnauthenticated => Some("denied"),
        R::ProtectedUser | R::DeleteQuotaExceeded => Some("not_sent"),
        _ => None,
    };
    Kind {
        event: "call ended",
        reason: reason.as_str_name(),
        outcome,
    }
}

impl Shared {
    /// Counts a call that is refused for this reason. Returns the kind under which the refusal is reported, or `None`
    /// if it becomes part of a summary.
    fn report_refusal(&self, call: &CallContext, reason: ErrorReason) -> Option<Kind> {
        let (peer, caller, kind) = (call.peer_address(), call.caller().ok(), kind(reason));
        self.refusals
            .should_report(peer, caller, kind)
            .then_some(kind)
    }

    /// Logs and records summaries of the refusals that were counted in windows that have ended or, with `all`, in all
    /// windows. Returns the number of summaries.
    pub(crate) async fn summarize_refusals(&self, all: bool) -> usize {
        let summaries = self.refusals.close(all).into_iter();
        let summaries = summaries.map(|summary| self.summarize(summary));
        join_all(summaries).await.len()
    }

    async fn summarize(&self, summary: Summary) {
        let Summary {
            group: RefusalGroup { peer, caller, kind },
            since,
            count,
        } = summary;
        let request_id = new_id();
        let auth = caller.as_ref().map_or("none", Identity::kind);
        let caller = caller.map(|caller| caller.to_string()).unwrap_or_default();
        tracing::info!(
            request_id,
            event = kind.event,
            caller,
            peer,
            reason = kind.reason,
            count,
            since = with_milliseconds(since),
            "refusals summarized"
        );
        let Some(outcome) = kind.outcome else {
            return;
        };
        let fields = CallFields {
            caller: &caller,
            auth,
            peer: &peer,
            ..CallFields::default()
        };
        let entry = Entry {
            event: Event::Outcome,
            outcome,
            reason: kind.reason,
            summary: Some((count, since)),
            ..Entry::default()
        };
        let record = Record::new(&CallMembers::new(request_id.into(), &fields), &entry);
        if let Err(failure) = self.audit.record(record, WRITE_TIMEOUT).await {
            let error = failure.context;
            tracing::error!(error, "refusal summary not recorded yet");
        }
    }
}

impl Operation {
    /// Returns the status of a call that was not admitted. Logs and records the refusal, unless it becomes part of a
    /// summary.
    pub(super) async fn refuse<T>(&mut self, failure: Failure) -> Result<Response<T>, Status> {
        let reported = self.shared.report_refusal(&self.call, failure.reason);
        if let Some(outcome) = reported.and_then(|kind| kind.outcome) {
            let reason = failure.reason.as_str_name();
            self.record_outcome(outcome, reason).await;
        }
        self.hide_alias();
        if reported.is_some() {
            return Err(self.fail(&failure));
        }
        let status = status(&failure, &self.facts);
        let (outcome, reason) = (self.facts.outcome.as_str(), failure.reason.as_str_name());
        self.observe(status.code(), outcome, reason);
        Err(status)
    }

    /// Removes the alias of the only target from the response to a caller without permission. The audit record, which
    /// is queued before, contains the alias.
    fn hide_alias(&mut self) {
        if self.request.alias_omitted && !self.is_allowed() {
            let alias = self.request.names.alias_key();
            let identifiers = &mut self.facts.identifiers;
            identifiers.retain(|(key, _)| *key != alias);
        }
    }
}
