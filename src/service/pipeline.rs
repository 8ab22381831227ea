//! The pipeline of every call: admit, record the intent, call the upstream, record the outcome, respond.

use std::{future::Future, panic::AssertUnwindSafe, sync::Arc};

use futures_util::future::{BoxFuture, FutureExt as _};
use tonic::{Code, Response, Status};

use super::{
    call_context::BAD_TIMEOUT,
    call_log::outcome_name,
    operation::{Finished, Operation},
    refusal,
    run_to_end::RunToEnd,
};
use crate::{
    access::{authentication_error::AuthenticationError, quota::Slot},
    audit::Charge,
    error::{Effect, Failure},
    identity::Identity,
    proto::{DeleteOutcome, ErrorReason},
    upstream::{
        call_limits::{CallLimits, Disconnection},
        deadline::Deadline,
    },
};

impl Operation {
    /// Runs the call through the pipeline: admission, audit intent, `work`, audit outcome. `work` is `None` if the
    /// target is not configured. Returns a boxed future, because the futures of the steps are large.
    pub(super) fn run<T, W>(
        mut self: Box<Self>,
        work: Option<impl FnOnce(CallLimits) -> W + Send + 'static>,
    ) -> BoxFuture<'static, Result<Response<T>, Status>>
    where
        T: Send + 'static,
        W: Future<Output = Finished<T>> + Send + 'static,
    {
        let (deadline, work) = match self.admit(work) {
            Ok(admitted) => admitted,
            Err(failure) => return async move { self.refuse(failure).await }.boxed(),
        };
        let disconnection = Disconnection::default();
        let limits = CallLimits::new(deadline, disconnection.clone(), self.call.span());
        // The operation holds a token of the task tracker, so a drain waits until the work ends.
        let work = async move { self.execute(&limits, work).await };
        RunToEnd::new(work, disconnection).boxed()
    }

    /// Makes the checks that precede the audit intent and all upstream requests, in the documented order. Returns the
    /// deadline and the work, or the failure of the first check that fails.
    fn admit<W>(&mut self, work: Option<W>) -> Result<(Deadline, W), Failure> {
        if self.shared.tasks.is_closed() {
            return Err(Failure::new(ErrorReason::ShuttingDown, "draining"));
        }
        let Some(deadline) = self.call.deadline.clone() else {
            return Err(Failure::invalid(vec![BAD_TIMEOUT]));
        };
        if !deadline.allows_attempt() {
            return Err(Deadline::exceeded("before anything was done"));
        }
        let caller = self.call.caller();
        let caller = caller.map_err(|cause| Failure::unidentified(cause.as_str()))?;
        let permit = Arc::clone(&self.shared.call_permits).try_acquire_owned();
        self.permit = Some(permit.map_err(|_| refusal::overloaded())?);
        let violations = std::mem::take(&mut self.request.validation.violations);
        if !violations.is_empty() {
            return Err(Failure::invalid(violations));
        }
        if !self.is_allowed() {
            return Err(Failure::new(ErrorReason::CallerNotAuthorized, "policy"));
        }
        let unknown = || Failure::new(ErrorReason::UnknownTarget, "alias");
        let work = work.ok_or_else(unknown)?;
        if let Some(cause) = self.missing_user_token() {
            self.set_refusal_cause(cause.as_str());
            return Err(Failure::unidentified(cause.as_str()));
        }
        if self.request.protected {
            return Err(Failure::new(ErrorReason::ProtectedUser, "protected_users"));
        }
        if !self.request.fields.validate_only {
            self.slot = self.take_slot(caller)?;
        }
        Ok((deadline.with_cancellation(self.shared.halt.clone()), work))
    }

    /// Sets why the caller was refused after its authentication, and counts it.
    fn set_refusal_cause(&mut self, cause: &'static str) {
        self.refusal_cause = cause;
        self.members.take();
        self.shared.metrics.unidentified(cause);
    }

    /// Returns why the target cannot be called under the identity of the caller, or `None` if it can, or if it is
    /// called under that of the service.
    fn missing_user_token(&self) -> Option<AuthenticationError> {
        let acts_for_caller = self.request.acts_for_caller;
        self.call.user_token().err().filter(|_| acts_for_caller)
    }

    fn take_slot(&self, caller: &Identity) -> Result<Option<Slot>, Failure> {
        let limit = self.shared.access().policy.deletes_per_minute(caller);
        let slot = limit.map(|limit| self.shared.quota.try_take(caller, limit));
        slot.transpose().map_err(Failure::over_quota)
    }

    /// Runs an admitted call: audit intent, work, audit outcome.
    async fn execute<T, W>(
        &mut self,
        limits: &CallLimits,
        work: impl FnOnce(CallLimits) -> W + Send,
    ) -> Result<Response<T>, Status>
    where
        W: Future<Output = Finished<T>> + Send,
    {
        let client_request_id = &mut self.request.fields.client_request_id;
        self.client_request_id = std::mem::take(client_request_id);
        if !self.request.fields.validate_only
            && let Err(failure) = self.record_intent(&limits.deadline).await
        {
            if failure.reason == ErrorReason::DeleteQuotaExceeded {
                return self.refuse(failure).await;
            }
            return Err(self.fail(&failure));
        }
        let result = match AssertUnwindSafe(work(limits.clone())).catch_unwind().await {
            Ok(finished) => self.apply(finished),
            Err(_) => Err(self.apply_panic(limits.deletes())),
        };
        if self.facts.outcome == Effect::NotSent && result.is_err() {
            self.refund_slot();
        }
        self.caller_gone = limits.is_disconnected();
        match result {
            Ok((response, outcome)) => {
                let outcome = outcome_name(outcome);
                self.record_outcome(outcome, "").await;
                self.log(Code::Ok, outcome, "", "");
                Ok(Response::new(response))
            }
            Err(failure) => {
                // Microsoft Entra refused the token of the caller.
                if failure.reason == ErrorReason::CallerUnauthenticated {
                    self.set_refusal_cause(failure.cause.unwrap_or_default());
                }
                let (outcome, reason) = (self.facts.outcome.as_str(), failure.reason.as_str_name());
                self.record_outcome(outcome, reason).await;
                Err(self.fail(&failure))
            }
        }
    }

    async fn record_intent(&mut self, deadline: &Deadline) -> Result<(), Failure> {
        let charge = match &self.slot {
            Some(Slot::TakenWithIntent { caller, limit }) => Some(Charge {
                caller: caller.clone(),
                limit: *limit,
            }),
            Some(Slot::Taken(_)) | None => None,
        };
        let intent = self.intent().with_charge(charge);
        let recorded = self.shared.audit.record(intent, deadline.remaining()).await;
        self.has_intent = recorded.is_ok();
        match &mut self.slot {
            Some(Slot::Taken(slot)) if self.has_intent => slot.start(),
            _ => self.refund_slot(),
        }
        recorded
    }

    /// Returns the slot to the caller's quota. Called if no DELETE was sent.
    fn refund_slot(&mut self) {
        if let Some(Slot::Taken(slot)) = self.slot.take() {
            slot.refund();
        }
    }

    /// Sets the attempts and the effect of a call whose work has panicked after it had started this number of
    /// DELETEs. Returns the failure of the call.
    fn apply_panic(&mut self, started: u32) -> Failure {
        self.facts.attempts = started;
        self.facts.outcome = match started {
            0 => Effect::NotSent,
            _ => Effect::Unknown,
        };
        Failure::internal("a panic")
    }

    /// Copies the facts from the finished work to the call, and returns the result of the work.
    fn apply<T>(&mut self, finished: Finished<T>) -> Result<(T, DeleteOutcome), Failure> {
        self.facts.attempts = finished.attempts.count();
        self.facts.outcome = finished.attempts.effect();
        self.facts.user_was_present = finished.attempts.user_was_present;
        self.upstream_request_id = finished.upstream_request_id;
        // The read before the deletion may have changed the facts in the records.
        let user = &mut self.request.fields.user;
        if !finished.identifiers.is_empty() || *user != finished.user_name {
            self.members.take();
        }
        if !finished.user_name.is_empty() {
            *user = finished.user_name;
        }
        for (key, value) in finished.identifiers {
            self.facts.identifiers.retain(|(known, _)| *known != key);
            self.facts.identifiers.push((key, value));
        }
        finished.result
    }
}

#[cfg(test)]
mod tests {
    use std::{
        env, fs,
        sync::{Arc, Mutex},
    };

    use serde_json::Value;
    use tonic::Code;
    use tonic_types::StatusExt as _;
    use uuid::Uuid;

    use crate::{
        config::{self, Allow, AuditSink, Caller},
        identity::Identity,
        pattern::Pattern,
        service::{
            Shared,
            call_context::CallContext,
            operation::{DeleteRequest, Finished, Operation, RequestFields},
            validate::Validation,
        },
        upstream::{attempts::Attempts, azure_batch::NAMES, call_limits::CallLimits},
    };

    const RPC: &str = "DeleteBatchNodeUser";
    static LOCK: Mutex<()> = Mutex::new(());

    fn request() -> DeleteRequest {
        DeleteRequest {
            rpc: RPC,
            names: &NAMES,
            alias: "prod".to_owned(),
            alias_omitted: false,
            outcomes: None,
            acts_for_caller: false,
            protected: false,
            fields: RequestFields::default(),
            validation: Validation::default(),
        }
    }

    /// Starts this number of DELETEs, and panics.
    fn work(deletes: u32, limits: &CallLimits) -> Finished<()> {
        let mut attempts = Attempts::default();
        for _ in 0..deletes {
            let _started = attempts.start(limits);
        }
        // The panic poisons the lock, which must not stop later calls.
        let _held = crate::lock(&LOCK);
        unreachable!("on purpose")
    }

    #[tokio::test]
    async fn panicking_call_is_recorded_with_its_attempts() -> Result<(), String> {
        let file = env::temp_dir().join(format!("useradmin-test-{}.jsonl", Uuid::new_v4()));
        let mut config = config::defaults().ok_or("the defaults are valid")?;
        config.audit.sink = AuditSink::File(file.clone());
        config.callers = vec![Caller {
            identity: Identity::Anonymous,
            allow: vec![Allow {
                rpc: RPC,
                targets: vec![Pattern::exact("*")],
                pools: None,
            }],
            deletes_per_minute: Some(2),
        }];
        let shared = Arc::new(Shared::new(&config).await?);
        for (deletes, outcome) in [(0, "not_sent"), (2, "unknown"), (1, "unknown")] {
            let call = CallContext::new(None, None);
            call.set_caller(Ok(Identity::Anonymous));
            let operation = Operation::new(Arc::clone(&shared), Arc::new(call), request());
            let work = move |limits: CallLimits| async move { work(deletes, &limits) };
            let status = operation.run(Some(work)).await.err().ok_or("it panics")?;
            assert_eq!(status.code(), Code::Internal);
            let info = status.get_details_error_info();
            let metadata = info.map(|info| info.metadata).unwrap_or_default();
            assert_eq!(metadata.get("outcome").map(String::as_str), Some(outcome));
            shared.audit.flush().await;
            let text = fs::read_to_string(&file).unwrap_or_default();
            let last = text.lines().last().unwrap_or_default();
            let last: Value = serde_json::from_str(last).unwrap_or_default();
            assert_eq!(last["outcome"], outcome);
            assert_eq!(last["attempts"], deletes);
        }
        fs::remove_file(file).map_err(|error| error.to_string())
    }
}
