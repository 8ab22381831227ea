//! Logs and records refused calls, individually or in summaries.

use futures_util::future::join_all;
use time::OffsetDateTime;
use tonic::{Response, Status};

use super::{
    Shared,
    call_context::{CallContext, new_id},
    operation::Operation,
};
use crate::{
    access::refusals::{Kind, Source, Summary},
    audit::{Entry, Event, WRITE_TIMEOUT, timestamp},
    error::{Failure, status::status},
    proto::ErrorReason,
};

/// The kind of a call that is refused for this reason.
fn kind(reason: ErrorReason) -> Kind {
    use ErrorReason as R;
    let outcome = match reason {
        R::CallerNotAuthorized | R::CallerUnauthenticated => Some("denied"),
        R::ProtectedUser | R::DeleteQuotaExceeded => Some("not_sent"),
        _ => None,
    };
    Kind {
        event: "call",
        reason: reason.as_str_name(),
        outcome,
    }
}

impl Shared {
    /// Counts a call that is refused for this reason. Returns how to report it, or `None` if a summary will.
    pub(super) fn report_refusal(&self, call: &CallContext, reason: ErrorReason) -> Option<Kind> {
        let kind = kind(reason);
        let reported = self
            .refusals
            .admit(call.peer_address(), call.caller.as_ref().ok(), kind);
        reported.then_some(kind)
    }

    /// Logs and records the refusals that were counted in minutes that are over, or in all. Returns the number of
    /// summaries.
    pub async fn summarize_refusals(&self, all: bool) -> usize {
        let summaries = self.refusals.close(all).into_iter();
        let summaries = summaries.map(|summary| self.summarize(summary));
        join_all(summaries).await.len()
    }

    async fn summarize(&self, summary: Summary) {
        let Summary {
            source: Source { peer, caller, kind },
            since,
            count,
        } = summary;
        let (request_id, since) = (new_id(), timestamp(since));
        let caller = caller.map(|caller| caller.to_string()).unwrap_or_default();
        tracing::info!(
            request_id,
            event = kind.event,
            caller,
            peer,
            reason = kind.reason,
            count,
            since,
            "refusals summarized"
        );
        let Some(outcome) = kind.outcome else {
            return;
        };
        let entry = Entry {
            request_id,
            caller,
            peer,
            count: Some(count),
            since,
            ..Entry::new(
                OffsetDateTime::now_utc(),
                Event::Outcome,
                outcome,
                kind.reason,
            )
        };
        if let Err(failure) = self.audit.record(entry, WRITE_TIMEOUT).await {
            let error = failure.context;
            tracing::error!(error, "summary of refusals not recorded yet");
        }
    }
}

impl Operation {
    /// Returns the status of a call that was not admitted. Logs and records the refusal, unless a summary will.
    pub(super) async fn refuse<T>(mut self, failure: Failure) -> Result<Response<T>, Status> {
        let reported = self.shared.report_refusal(&self.call, failure.reason);
        if let Some(Kind {
            outcome: Some(outcome),
            reason,
            ..
        }) = reported
        {
            self.record_outcome(outcome, reason, false).await;
        }
        self.hide_alias();
        if reported.is_some() {
            return Err(self.fail(&failure, false));
        }
        let status = status(&failure, &self.facts);
        self.observe(
            status.code(),
            self.facts.outcome.as_str(),
            failure.reason.as_str_name(),
        );
        Err(status)
    }

    /// Removes the alias of the only target from the response to a caller without permission.
    fn hide_alias(&mut self) {
        if self.request.alias_is_ours && !self.is_allowed() {
            let identifiers = &mut self.facts.identifiers;
            let alias = self.request.names.alias_key();
            identifiers.retain(|(key, _)| *key != alias);
        }
    }
}
