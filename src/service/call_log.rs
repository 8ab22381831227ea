//! Reports the end of a call: returns its status, and writes its log line and its audit records.

use std::future::Future;

use opentelemetry::KeyValue;
use time::OffsetDateTime;
use tonic::{Code, Status};

use super::{Shared, call_context::CallContext, operation::Operation};
use crate::{
    audit::{Entry, Event, WRITE_TIMEOUT},
    error::{
        Failure,
        status::{MAX_TEXT_BYTES, status, truncate},
    },
    identity::Identity,
    proto::{DeleteOutcome, ErrorReason},
};

/// Creates an audit record of a call of which only the context is known.
pub(super) fn entry(
    call: &CallContext,
    rpc: &'static str,
    event: Event,
    outcome: &'static str,
    reason: &'static str,
) -> Entry {
    Entry {
        at: Some(OffsetDateTime::now_utc()),
        event,
        outcome,
        reason,
        request_id: call.request_id.clone(),
        caller: short(&call.caller_name()).to_owned(),
        auth: call.caller().map_or("none", Identity::kind),
        cause: call.unauthenticated_cause().unwrap_or_default(),
        peer: call.peer.map_or_else(String::new, |peer| peer.to_string()),
        rpc,
        ..Entry::default()
    }
}

/// Starts a task that writes the audit record of how a call ended. The returned future waits for the record, at most
/// until the deadline of the call. The record is written even if the future is dropped.
pub(super) fn record(
    shared: &Shared,
    call: &CallContext,
    entry: Entry,
) -> impl Future<Output = ()> + Send + use<> {
    let audit = shared.audit.clone();
    let recorded = shared.tasks.spawn(async move {
        let (request_id, outcome, reason) = (entry.request_id.clone(), entry.outcome, entry.reason);
        if let Err(failure) = audit.record(entry, WRITE_TIMEOUT).await {
            let error = short(&failure.context);
            tracing::error!(
                request_id,
                outcome,
                reason,
                error,
                "audit outcome not recorded yet"
            );
        }
    });
    let deadline = call.deadline.clone();
    async move {
        if let Some(deadline) = deadline {
            // After the deadline, the record is still written, but the response no longer waits for it.
            let _ = deadline.bound(recorded).await;
        }
    }
}

impl Operation {
    /// Creates an audit record of the call.
    pub(super) fn entry(&self, event: Event, outcome: &'static str, reason: &'static str) -> Entry {
        let identifiers = self.facts.identifiers.iter();
        Entry {
            ends_intent: event == Event::Outcome && self.has_intent,
            target: short(&self.request.alias).to_owned(),
            user: short(&self.request.fields.user).to_owned(),
            identifiers: identifiers
                .map(|(key, value)| (*key, short(value).to_owned()))
                .collect(),
            client_request_id: short(&self.client_request_id).to_owned(),
            upstream_request_id: short(&self.upstream_request_id).to_owned(),
            attempts: self.facts.attempts,
            caller_gone: self.caller_gone,
            ..entry(&self.call, self.request.rpc, event, outcome, reason)
        }
    }

    /// Records how the call ended.
    pub(super) fn record_outcome(
        &self,
        outcome: &'static str,
        reason: &'static str,
    ) -> impl Future<Output = ()> + Send + use<> {
        let entry = self.entry(Event::Outcome, outcome, reason);
        record(&self.shared, &self.call, entry)
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
        let has_target = self.request.has_target;
        let target = has_target.then_some(self.request.alias.as_str());
        let target = target.unwrap_or_default();
        let calls = &self.shared.metrics.calls;
        calls.outcome(self.request.names.upstream, target, outcome);
        self.call.end(code, reason, || {
            vec![
                KeyValue::new("useradmin.request_id", self.call.request_id.clone()),
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
            request_id = self.call.request_id,
            trace_id = self.call.trace_id(),
            rpc = self.request.rpc,
            caller = short(&self.facts.caller),
            peer = self.call.peer.map(display),
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

/// Limits the length of a text that a caller or an upstream chose.
fn short(text: &str) -> &str {
    truncate(text, MAX_TEXT_BYTES)
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
