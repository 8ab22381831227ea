//! Reports the end of a call: returns its status, and writes its log line and its audit records.

use std::future::Future;

use futures_util::FutureExt as _;
use opentelemetry::KeyValue;
use tonic::{Code, Status};

use super::{Shared, call_context::CallContext, operation::Operation};
use crate::{
    audit::{Entry, Event, Record, WRITE_TIMEOUT},
    error::{
        Failure,
        status::{MAX_TEXT_BYTES, status, truncate},
    },
    identity::Identity,
    proto::{DeleteOutcome, ErrorReason},
};

/// Returns the entry of an audit record that only contains the context of the call.
pub(super) fn entry<'a>(
    call: &'a CallContext,
    rpc: &'static str,
    event: Event,
    outcome: &'static str,
    reason: &'static str,
) -> Entry<'a> {
    Entry {
        event,
        outcome,
        reason,
        request_id: &call.request_id,
        caller: call.caller_name(),
        auth: call.caller().map_or("none", Identity::kind),
        cause: call.unauthenticated_cause().unwrap_or_default(),
        peer: call.peer().unwrap_or_default(),
        rpc,
        ..Entry::default()
    }
}

/// Records how a call ended. The record is queued at once, so it is written even if the returned future is dropped.
/// The future waits for that, at most until the deadline of the call, and logs a failure.
pub(super) fn record(
    shared: &Shared,
    call: &CallContext,
    entry: &Entry<'_>,
) -> impl Future<Output = ()> + Send + use<> {
    let recording = shared.audit.record(Record::new(entry), WRITE_TIMEOUT);
    let (request_id, outcome, reason) = (call.request_id.clone(), entry.outcome, entry.reason);
    let mut recorded = Box::pin(recording.map(move |result| {
        if let Err(failure) = result {
            let error = short(&failure.context);
            tracing::error!(
                request_id,
                outcome,
                reason,
                error,
                "audit outcome not recorded yet"
            );
        }
    }));
    let (deadline, tasks) = (call.deadline.clone(), shared.tasks.clone());
    async move {
        let in_time = match deadline {
            Some(deadline) => deadline.bound(&mut recorded).await.is_some(),
            None => false,
        };
        // After the deadline, the response no longer waits for the record.
        if !in_time {
            tasks.spawn(recorded);
        }
    }
}

impl Operation {
    /// Returns the entry of an audit record of the call.
    pub(super) fn entry(
        &self,
        event: Event,
        outcome: &'static str,
        reason: &'static str,
    ) -> Entry<'_> {
        Entry {
            ends_intent: event == Event::Outcome && self.has_intent,
            target: &self.request.alias,
            user: &self.request.fields.user,
            identifiers: &self.facts.identifiers,
            client_request_id: &self.client_request_id,
            upstream_request_id: &self.upstream_request_id,
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
        record(&self.shared, &self.call, &entry)
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
