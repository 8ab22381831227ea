//! Reports the end of a call: returns its status, and writes its log line and its audit records.

use std::sync::Arc;

use opentelemetry::KeyValue;
use tonic::{Code, Status};

use super::{Shared, call_context::CallContext, operation::Operation};
use crate::{
    audit::{CallFields, CallMembers, Entry, Event, Record},
    error::{
        Failure,
        status::{short, status},
    },
    identity::Identity,
    proto::{DeleteOutcome, ErrorReason},
};

/// Returns the facts that all audit records of a call contain, as far as they are known without the request.
pub(super) fn call_fields<'a>(
    call: &'a CallContext,
    caller: &'a str,
    rpc: &'static str,
) -> CallFields<'a> {
    CallFields {
        caller,
        auth: call.caller().map_or("none", Identity::kind),
        cause: call.unauthenticated_cause().unwrap_or_default(),
        peer: call.peer().unwrap_or_default(),
        rpc,
        ..CallFields::default()
    }
}

/// Records how a call ended, and waits until the record is written, at most until the deadline of the call. Logs a
/// failure before the deadline. The record is queued even if the future is dropped while it waits.
pub(super) async fn record(
    shared: &Shared,
    call: &CallContext,
    members: &CallMembers,
    entry: &Entry<'_>,
) {
    let record = Record::new(members, entry);
    let recorded = shared.audit.record(record, call.remaining());
    let (outcome, reason) = (entry.outcome, entry.reason);
    if let Err(failure) = recorded.await
        && !call.remaining().is_zero()
    {
        tracing::error!(
            request_id = &*call.request_id,
            outcome,
            reason,
            error = short(&failure.context),
            "audit outcome not recorded yet"
        );
    }
}

impl Operation {
    /// Returns the members that all audit records of the call contain.
    fn members(&self) -> &CallMembers {
        self.members.get_or_init(|| {
            let call = call_fields(&self.call, &self.facts.caller, self.request.rpc);
            let acts_for_caller = self.request.acts_for_caller && self.call.user_token().is_ok();
            let fields = CallFields {
                cause: if self.refusal_cause.is_empty() {
                    call.cause
                } else {
                    self.refusal_cause
                },
                upstream_identity: if acts_for_caller { "caller" } else { "" },
                target: &self.request.alias,
                user: &self.request.fields.user,
                identifiers: &self.facts.identifiers,
                ..call
            };
            CallMembers::new(Arc::clone(&self.call.request_id), &fields)
        })
    }

    fn entry(&self, event: Event, outcome: &'static str, reason: &'static str) -> Entry<'_> {
        Entry {
            event,
            ends_intent: event == Event::Outcome && self.has_intent,
            outcome,
            reason,
            client_request_id: &self.client_request_id,
            upstream_request_id: &self.upstream_request_id,
            attempts: self.facts.attempts,
            caller_gone: self.caller_gone,
            summary: None,
        }
    }

    /// Returns the audit record of the intent.
    pub(super) fn intent(&self) -> Record {
        Record::new(self.members(), &self.entry(Event::Intent, "", ""))
    }

    /// Records how the call ended. See [`record`].
    pub(super) async fn record_outcome(&self, outcome: &'static str, reason: &'static str) {
        let entry = self.entry(Event::Outcome, outcome, reason);
        record(&self.shared, &self.call, self.members(), &entry).await;
    }

    /// Logs the call as failed, and returns its status.
    pub(super) fn fail(&self, failure: &Failure) -> Status {
        let status = status(failure, &self.facts);
        let outcome = self.facts.outcome.as_str();
        let reason = failure.reason.as_str_name();
        self.log(status.code(), outcome, reason, &failure.context);
        status
    }

    /// Returns the `client-request-id` that was sent, or that of the request if none was sent.
    fn client_request_id(&self) -> &str {
        if !self.client_request_id.is_empty() {
            return &self.client_request_id;
        }
        let mut identifiers = self.facts.identifiers.iter();
        let chosen = identifiers.find(|(key, _)| *key == "client_request_id");
        chosen.map_or("", |(_, chosen)| chosen)
    }

    /// Ends the metrics and the trace of the call.
    pub(super) fn observe(&self, code: Code, outcome: &'static str, reason: &'static str) {
        let target = if let Some(outcomes) = &self.request.outcomes {
            outcomes.count(outcome);
            self.request.alias.as_str()
        } else {
            let calls = &self.shared.metrics.calls;
            calls.outcome_without_target(self.request.names.upstream, outcome);
            ""
        };
        self.call.end(code, reason, || {
            vec![
                KeyValue::new("useradmin.request_id", Arc::clone(&self.call.request_id)),
                KeyValue::new("useradmin.target", target.to_owned()),
                KeyValue::new("useradmin.outcome", outcome),
                KeyValue::new("useradmin.attempts", i64::from(self.facts.attempts)),
            ]
        });
    }

    /// Logs the line of the call.
    pub(super) fn log(
        &self,
        code: Code,
        outcome: &'static str,
        reason: &'static str,
        context: &str,
    ) {
        // If the caller disconnected, the call counts as cancelled, and not as past its deadline.
        let given_up = self.caller_gone && reason == ErrorReason::DeadlineExceeded.as_str_name();
        let (code, reason) = if given_up {
            (Code::Cancelled, "")
        } else {
            (code, reason)
        };
        self.observe(code, outcome, reason);
        tracing::info!(
            target = short(&self.request.alias),
            request_id = &*self.call.request_id,
            trace_id = self.call.trace_id(),
            rpc = self.request.rpc,
            caller = short(&self.facts.caller),
            peer = self.call.peer(),
            code = ?code,
            reason,
            outcome,
            attempts = self.facts.attempts,
            client_request_id = short(self.client_request_id()),
            upstream_request_id = short(&self.upstream_request_id),
            elapsed_ms = u64::try_from(self.call.received.elapsed().as_millis()).unwrap_or(u64::MAX),
            context = short(context),
            caller_gone = self.caller_gone,
            "call ended"
        );
    }
}

/// Returns the name of a successful outcome in the logs.
pub(super) fn outcome_name(outcome: DeleteOutcome) -> &'static str {
    match outcome {
        DeleteOutcome::Deleted => "deleted",
        DeleteOutcome::AlreadyAbsent => "already_absent",
        DeleteOutcome::AbsentAfterRetry => "absent_after_retry",
        DeleteOutcome::Validated => "validated",
        DeleteOutcome::Unspecified => "unknown",
    }
}
