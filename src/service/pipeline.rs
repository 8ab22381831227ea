//! The way of every call: admit -> record the intent -> call the upstream -> record the outcome -> answer.

use std::{future::Future, panic::AssertUnwindSafe, sync::Arc};

use futures_util::FutureExt as _;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Response, Status};

use super::{Shared, meta::CallMeta, validate::Checked};
use crate::{
    access::audit::{Entry, Event, PATIENCE},
    error::{
        Failure, Fate, Violation,
        status::{CallFacts, MAX_TEXT_BYTES, cut, status},
    },
    proto::{DeleteOutcome, ErrorReason},
    upstream::{
        attempt::{Ledger, Limits},
        deadline::Deadline,
    },
};

/// What a call is about.
pub struct Subject {
    /// The rpc's name.
    pub rpc: &'static str,
    /// `azure_batch` or `ibm_hmc`.
    pub upstream: &'static str,
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
}

/// What an rpc's own part needs.
pub struct Work {
    /// What all calls share.
    pub shared: Arc<Shared>,
    /// The resolved alias.
    pub target: String,
    /// This server's id of the call.
    pub request_id: String,
    /// The verified identity.
    pub caller: String,
    /// Deadline and caller.
    pub limits: Limits,
}

/// How an rpc's own part ended.
pub struct Finished<T> {
    /// The response and what happened, or the failure.
    pub result: Result<(T, DeleteOutcome), Failure>,
    /// The book of the DELETEs.
    pub ledger: Ledger,
    /// Identifiers that the upstream told.
    pub learned: Vec<(&'static str, String)>,
    /// What finds the call in the upstream's own logs.
    pub trace: Trace,
}

/// The ids of a call on the upstream's side, for the log and the audit log.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    /// `client-request-id` that was sent.
    pub client_request_id: String,
    /// `request-id` of the last answer.
    pub upstream_request_id: String,
}

/// Tells the work that the caller has gone, unless the answer was taken.
struct Gone(CancellationToken);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// Takes a call all the way.
pub async fn run<T, W>(
    shared: Arc<Shared>,
    meta: CallMeta,
    subject: Subject,
    exists: bool,
    protected: bool,
    work: impl FnOnce(Work) -> W + Send + 'static,
) -> Result<Response<T>, Status>
where
    T: Send + 'static,
    W: Future<Output = Finished<T>> + Send + 'static,
{
    let mut call = Call::new(shared, meta, subject);
    let deadline = match call.admit(exists, protected) {
        Ok(deadline) => deadline,
        Err(failure) => return call.refuse(failure).await,
    };
    let gone = CancellationToken::new();
    let limits = Limits {
        deadline,
        gone: gone.clone(),
    };
    let tasks = call.shared.tasks.clone();
    let mut facts = call.facts.clone();
    let task = tasks.spawn(call.carry_out(limits, work));
    let guard = Gone(gone);
    let answer = task.await;
    // The answer is there; dropping the guard tells nobody anything any more.
    drop(guard);
    answer.unwrap_or_else(|_| {
        facts.outcome = Fate::Unknown;
        let failure = Failure::internal("the task of the call has gone");
        Err(status(&failure, &facts))
    })
}

/// One call on its way.
struct Call {
    shared: Arc<Shared>,
    meta: CallMeta,
    subject: Subject,
    facts: CallFacts,
    trace: Trace,
}

impl Call {
    fn new(shared: Arc<Shared>, meta: CallMeta, subject: Subject) -> Self {
        let facts = CallFacts {
            upstream: subject.upstream,
            caller: meta.caller.clone(),
            request_id: meta.request_id.clone(),
            identifiers: subject.checked.identifiers.clone(),
            attempts: 0,
            outcome: Fate::NotSent,
        };
        Self {
            shared,
            meta,
            subject,
            facts,
            trace: Trace::default(),
        }
    }

    fn is_allowed(&self) -> bool {
        let Subject {
            rpc, target, pool, ..
        } = &self.subject;
        let policy = &self.shared.policy;
        policy.allows(&self.meta.caller, rpc, target, pool.as_deref())
    }

    /// The checks before anything is sent, in the documented order.
    fn admit(&mut self, exists: bool, protected: bool) -> Result<Deadline, Failure> {
        if self.shared.draining.is_cancelled() {
            return Err(Failure::new(ErrorReason::ShuttingDown, "draining"));
        }
        let Some(deadline) = self.meta.deadline.clone() else {
            return Err(Failure::invalid(vec![Violation {
                field: "grpc-timeout",
                description: "must be 1-8 digits and one of H M S m u n",
            }]));
        };
        if !deadline.allows_attempt() {
            return Err(Deadline::exceeded("before anything was done"));
        }
        let violations = std::mem::take(&mut self.subject.checked.violations);
        if !violations.is_empty() {
            return Err(Failure::invalid(violations));
        }
        if !self.is_allowed() {
            return Err(Failure::new(ErrorReason::CallerNotAuthorized, "policy"));
        }
        if !exists {
            return Err(Failure::new(ErrorReason::UnknownTarget, "alias"));
        }
        if protected {
            return Err(Failure::new(ErrorReason::ProtectedUser, "protected_users"));
        }
        if !self.subject.validate_only {
            self.shared.quotas.take(&self.meta.caller)?;
        }
        Ok(deadline.or_when(self.shared.halt.clone()))
    }

    /// Answers a call that was not admitted. What was refused for who asked is on record too.
    async fn refuse<T>(mut self, failure: Failure) -> Result<Response<T>, Status> {
        let outcome = match failure.reason {
            ErrorReason::CallerNotAuthorized | ErrorReason::CallerUnauthenticated => "denied",
            ErrorReason::ProtectedUser | ErrorReason::DeleteQuotaExceeded => "not_sent",
            _ => {
                self.hide_alias();
                return Err(self.fail(&failure, false));
            }
        };
        let reason = failure.reason.as_str_name();
        self.close(outcome, reason, false).await;
        self.hide_alias();
        Err(self.fail(&failure, false))
    }

    /// Without rights, nobody learns the name of the only target; the record has it all the same.
    fn hide_alias(&mut self) {
        if self.subject.alias_is_ours && !self.is_allowed() {
            let identifiers = &mut self.facts.identifiers;
            identifiers.retain(|(key, _)| !matches!(*key, "account" | "hmc"));
        }
    }

    /// The part that runs to its end even when the caller goes away.
    async fn carry_out<T, W>(
        mut self,
        limits: Limits,
        work: impl FnOnce(Work) -> W + Send,
    ) -> Result<Response<T>, Status>
    where
        W: Future<Output = Finished<T>> + Send,
    {
        if let Err(failure) = self.intend(&limits.deadline).await {
            return Err(self.fail(&failure, false));
        }
        let work = work(Work {
            shared: Arc::clone(&self.shared),
            target: self.subject.target.clone(),
            request_id: self.meta.request_id.clone(),
            caller: self.meta.caller.clone(),
            limits: limits.clone(),
        });
        let finished = AssertUnwindSafe(work).catch_unwind().await;
        let result = if let Ok(finished) = finished {
            self.learn(finished)
        } else {
            self.facts.outcome = Fate::Unknown;
            Err(Failure::internal("a panic"))
        };
        let gone = limits.gone.is_cancelled();
        let (outcome, reason) = match &result {
            Ok((_, outcome)) => (outcome_name(*outcome), ""),
            Err(failure) => (self.facts.outcome.as_str(), failure.reason.as_str_name()),
        };
        self.close(outcome, reason, gone).await;
        match result {
            Ok((response, outcome)) => {
                self.log(Code::Ok, outcome_name(outcome), "", "", gone);
                Ok(Response::new(response))
            }
            Err(failure) => Err(self.fail(&failure, gone)),
        }
    }

    async fn intend(&self, deadline: &Deadline) -> Result<(), Failure> {
        if self.subject.validate_only {
            return Ok(());
        }
        let intent = self.entry(Event::Intent, "", "", false);
        self.shared.audit.record(intent, deadline.remaining()).await
    }

    fn learn<T>(&mut self, finished: Finished<T>) -> Result<(T, DeleteOutcome), Failure> {
        self.facts.attempts = finished.ledger.attempts();
        self.facts.outcome = finished.ledger.outcome();
        self.trace = finished.trace;
        for (key, value) in finished.learned {
            self.facts.identifiers.retain(|(known, _)| *known != key);
            self.facts.identifiers.push((key, value));
        }
        finished.result
    }

    fn entry(
        &self,
        event: Event,
        outcome: &'static str,
        reason: &'static str,
        gone: bool,
    ) -> Entry {
        let name = self
            .facts
            .identifiers
            .iter()
            .find(|(key, _)| *key == "user_name");
        Entry {
            event,
            request_id: self.meta.request_id.clone(),
            caller: self.meta.caller.clone(),
            peer: self.meta.peer.clone(),
            rpc: self.subject.rpc,
            target: self.subject.target.clone(),
            user: cut(
                name.map_or(&self.subject.user, |(_, name)| name),
                MAX_TEXT_BYTES,
            )
            .to_owned(),
            identifiers: self.facts.identifiers.clone(),
            outcome,
            reason,
            client_request_id: self.trace.client_request_id.clone(),
            upstream_request_id: self.trace.upstream_request_id.clone(),
            attempts: self.facts.attempts,
            caller_gone: gone,
        }
    }

    /// Records how the call ended. The record is made in any case; the future only waits for it, and not beyond
    /// the deadline.
    fn close(
        &self,
        outcome: &'static str,
        reason: &'static str,
        gone: bool,
    ) -> impl Future<Output = ()> + Send + use<> {
        let entry = self.entry(Event::Outcome, outcome, reason, gone);
        let (audit, request_id) = (self.shared.audit.clone(), self.meta.request_id.clone());
        let recorded = self.shared.tasks.spawn(async move {
            if let Err(failure) = audit.record(entry, PATIENCE).await {
                let error = failure.context;
                tracing::error!(request_id, outcome, reason, error, "not yet recorded");
            }
        });
        let deadline = self.meta.deadline.clone();
        async move {
            if let Some(deadline) = deadline {
                let _late = deadline.bound(recorded).await;
            }
        }
    }

    fn fail(&self, failure: &Failure, gone: bool) -> Status {
        let status = status(failure, &self.facts);
        let outcome = self.facts.outcome.as_str();
        let reason = failure.reason.as_str_name();
        self.log(status.code(), outcome, reason, &failure.context, gone);
        status
    }

    /// One line a call.
    fn log(&self, code: Code, outcome: &str, reason: &str, context: &str, caller_gone: bool) {
        tracing::info!(
            request_id = self.meta.request_id,
            rpc = self.subject.rpc,
            caller = self.meta.caller,
            peer = self.meta.peer,
            alias = self.subject.target,
            code = ?code,
            reason,
            outcome,
            attempts = self.facts.attempts,
            client_request_id = self.trace.client_request_id,
            upstream_request_id = self.trace.upstream_request_id,
            elapsed_ms = u64::try_from(self.meta.received.elapsed().as_millis()).unwrap_or(u64::MAX),
            context,
            caller_gone,
            "call"
        );
    }
}

/// The audit log's word for a success.
fn outcome_name(outcome: DeleteOutcome) -> &'static str {
    match outcome {
        DeleteOutcome::Deleted => "deleted",
        DeleteOutcome::AlreadyAbsent => "already_absent",
        DeleteOutcome::AbsentAfterRetry => "absent_after_retry",
        DeleteOutcome::Validated => "validated",
        DeleteOutcome::Unspecified => "unknown",
    }
}
