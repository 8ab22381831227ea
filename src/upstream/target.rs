//! One configured target, and the attempts of a call, which are the same for every platform.

use std::sync::Arc;

use arc_swap::ArcSwap;
use http::header::AUTHORIZATION;
use tokio::time::Instant;

use super::{
    attempts::Attempts,
    breaker::{Breaker, BreakerPermit},
    bulkhead::Bulkhead,
    call_limits::CallLimits,
    client::{Change, Client},
    platform::{
        Call, NewTarget, Order, Outgoing, Platform, Purpose, ReceivedResponse,
        RequestCredential as _,
    },
    response::RequestError,
    retry::Retries,
    retry_budget::RetryBudget,
};
use crate::{
    config::{self, AuditSink, PlatformSettings as _, Roots},
    error::{Effect, Failure, Repeat},
    metrics::{Outcomes, RequestMetrics, TargetState},
    pattern::Pattern,
    proto::{DeleteOutcome, ErrorReason as R},
};

pub struct Target<P> {
    pub platform: P,
    /// Counters of the outcomes of calls.
    pub outcomes: Outcomes,
    client: Client,
    budget: RetryBudget,
    breaker: Breaker,
    bulkhead: Bulkhead,
    protected: ArcSwap<Vec<Pattern>>,
}

/// Facts about a call that has ended, whether it succeeded or failed.
pub struct RunReport<F> {
    pub attempts: Attempts,
    pub found: F,
    /// The platform's own ID of the last response, or an empty string.
    pub upstream_request_id: String,
}

impl<P: Platform> Target<P> {
    /// Creates a target. Nothing is sent yet. Fails if the URL, the authorities or the settings cannot be used.
    pub fn new(
        config: &config::Target<P::Settings>,
        others: Vec<&P>,
        audit: &AuditSink,
        requests: &RequestMetrics,
        outcomes: Outcomes,
    ) -> Result<Self, String> {
        let (url, roots) = (&config.url, &config.roots);
        let client = Client::new(url, P::Settings::TRUST, roots, P::ALPN, requests.clone())?;
        let platform = P::new(NewTarget {
            config,
            others,
            audit,
            client: client.clone(),
            requests,
        })?;
        Ok(Self {
            platform,
            outcomes,
            client,
            budget: RetryBudget::default(),
            breaker: Breaker::new(requests.target().clone()),
            bulkhead: Bulkhead::new(config.max_in_flight, config.max_queued),
            protected: ArcSwap::from_pointee(config.protected_users.clone()),
        })
    }

    pub fn set_protected_users(&self, protected: &[Pattern]) {
        self.protected.store(Arc::new(protected.to_vec()));
    }

    /// Returns whether a user with this name is never deleted.
    pub fn protects(&self, name: &str) -> bool {
        let protected = self.protected.load();
        protected.iter().any(|pattern| pattern.matches(name))
    }

    /// Returns closures that apply changed certificate authorities. Fails if these cannot be used.
    pub fn prepare_roots(&self, roots: &Roots) -> Result<Vec<Change>, String> {
        let mut changes = self.platform.prepare_roots(roots)?;
        changes.extend(self.client.prepare_roots(roots)?);
        Ok(changes)
    }

    pub fn state(&self) -> TargetState {
        TargetState {
            in_flight: self.bulkhead.in_flight(),
            max_in_flight: self.bulkhead.max_in_flight,
            queued: self.bulkhead.queued(),
            max_queued: self.bulkhead.max_queued,
            breaker_open: self.breaker.is_open(),
            openings: self.breaker.openings(),
            retry_budget: self.budget.tokens(),
            api_version: self.platform.api_version(),
            credential: self.platform.credential_state(),
        }
    }

    /// Deletes a user, or checks whether that is possible. Sends the DELETE at most three times, within the limits of
    /// the call. A read before it is also sent at most three times, and once more if the credential is renewed.
    /// Returns the result, and a report for both success and failure.
    pub async fn run(
        &self,
        order: &Order<P::User>,
        limits: &CallLimits,
    ) -> (Result<DeleteOutcome, Failure>, RunReport<P::Found>) {
        let mut run = Run {
            target: self,
            order,
            limits,
            report: RunReport {
                attempts: Attempts::default(),
                found: P::requested(&order.user),
                upstream_request_id: String::new(),
            },
        };
        let mut result = run.read_and_delete().await;
        if let Err(failure) = &mut result {
            if limits.deadline.is_cancelled() {
                run.report.attempts.explain_stop(failure);
            }
            if failure.upstream_response.is_some() {
                let id = &mut run.report.upstream_request_id;
                failure.upstream_request_id().clone_into(id);
            }
            if let Some(outcome) = run.success_if_absent(failure) {
                result = Ok(outcome);
            }
        }
        (result, run.report)
    }

    /// Checks that the user may be deleted. Fails for the user that the service logs on with and for protected users.
    fn check_deletable(&self, order: &Order<P::User>, found: &P::Found) -> Result<(), Failure> {
        let name = P::name(order, found);
        if name.is_empty() {
            return Err(Failure::internal("a user without a name"));
        }
        if self.platform.is_own_user(name) {
            return Err(Failure::new(R::OwnUser, "the configured userid"));
        }
        if self.protects(name) {
            return Err(Failure::new(R::ProtectedUser, "protected_users"));
        }
        Ok(())
    }
}

struct Run<'a, P: Platform> {
    target: &'a Target<P>,
    order: &'a Order<P::User>,
    limits: &'a CallLimits,
    report: RunReport<P::Found>,
}

impl<P: Platform> Run<'_, P> {
    async fn read_and_delete(&mut self) -> Result<DeleteOutcome, Failure> {
        let permit = &mut self.target.breaker.admit()?;
        self.target.budget.deposit();
        if P::reads_first(self.order) {
            self.report.found = self.retry(Purpose::Read, permit, P::found).await?;
        }
        self.target
            .check_deletable(self.order, &self.report.found)?;
        if self.order.validate_only {
            P::validate(&self.report.found)?;
            return Ok(DeleteOutcome::Validated);
        }
        self.retry(Purpose::Delete, permit, P::deleted).await?;
        Ok(DeleteOutcome::Deleted)
    }

    /// Sends a request, and repeats it within the limits of the call. Returns the result of `parse`.
    async fn retry<T>(
        &mut self,
        purpose: Purpose,
        breaker_permit: &mut BreakerPermit<'_>,
        parse: fn(&P, &ReceivedResponse<'_, P>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut retries = Retries::new(self.limits, &self.target.budget);
        loop {
            match self.send_request(purpose, breaker_permit, parse).await {
                Ok(parsed) => return Ok(parsed),
                Err(failure) => retries.wait(&mut self.report.attempts, failure).await?,
            }
        }
    }

    fn outgoing(&self, purpose: Purpose) -> Result<Outgoing, Failure> {
        let call = Call::<P> {
            order: self.order,
            found: &self.report.found,
            limits: self.limits,
        };
        match purpose {
            Purpose::Read => self.target.platform.read(&call),
            Purpose::Delete => self.target.platform.delete(&call),
        }
    }

    /// Sends one request. Returns the result of `parse` for the status of success, and the failure otherwise.
    async fn send_request<T>(
        &mut self,
        purpose: Purpose,
        breaker_permit: &mut BreakerPermit<'_>,
        parse: fn(&P, &ReceivedResponse<'_, P>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let (target, limits) = (self.target, self.limits);
        let platform = &target.platform;
        let _permit = target.bulkhead.acquire(limits).await?;
        let credential = platform.credential(limits).await;
        if let (true, Err(failure)) = (P::ISSUES_CREDENTIALS, &credential) {
            breaker_permit.record_credential_failure(failure);
        }
        let credential = credential?;
        let outgoing = self.outgoing(purpose)?;
        let (operation, success) = (outgoing.operation, outgoing.success);
        let (authorization, sent) = {
            let mut request = outgoing.request(purpose, P::ACCEPT);
            platform.authorize(&mut request, &credential, self.order)?;
            let authorization = request.headers().get(AUTHORIZATION).cloned();
            match purpose {
                Purpose::Read => limits.check("before reading")?,
                Purpose::Delete => self.report.attempts.start(limits)?,
            }
            // The body of a response to a successful DELETE is not used.
            let no_body_status = (purpose == Purpose::Delete).then_some(success);
            let sent = target
                .client
                .send(operation, request, no_body_status, limits);
            (authorization, sent)
        };
        let begun = Instant::now();
        let response = match sent.await {
            Ok(response) => response,
            Err(error) => {
                breaker_permit.record_error(&error, begun.elapsed());
                return Err(self.record_request_error(purpose, error));
            }
        };
        let received = ReceivedResponse {
            order: self.order,
            operation,
            credential: &credential,
            secrets: credential.secrets(authorization.as_ref()),
            response: &response,
        };
        let is_success = response.status == success;
        let result = if is_success {
            parse(platform, &received)
        } else {
            Err(P::classify(&received))
        };
        let failure = result.as_ref().err();
        breaker_permit.record_response(failure.is_some_and(|failure| failure.target_down));
        // Error statuses and responses that cannot be parsed are unexpected. A list that can be parsed but does not
        // contain the user is a failure of the call, but an expected response.
        let unparseable = R::UpstreamProtocolError;
        let unexpected = failure.filter(|failure| !is_success || failure.reason == unparseable);
        platform.record_response(purpose, &credential, unexpected, &target.budget);
        match result {
            Ok(parsed) => {
                let id = P::request_id(&response, &received.secrets);
                self.report.upstream_request_id = id.unwrap_or_default();
                Ok(parsed)
            }
            Err(failure) => Err(self.response_failure(purpose, &credential, failure)),
        }
    }

    /// Converts the error of a request without a response, and records it if the request was a DELETE.
    fn record_request_error(&mut self, purpose: Purpose, error: RequestError) -> Failure {
        match purpose {
            Purpose::Read => error.into_read_failure(),
            Purpose::Delete => {
                let failure = error.into_delete_failure();
                self.report.attempts.record_failure(&failure);
                failure
            }
        }
    }

    /// Completes the failure of an attempt that got a response. Renews the credential if the failure requires that;
    /// if the credential cannot be renewed, the request is not repeated.
    fn response_failure(
        &mut self,
        purpose: Purpose,
        credential: &P::Credential,
        mut failure: Failure,
    ) -> Failure {
        let target = self.target;
        if failure.repeat == Repeat::Renew
            && !(self.report.attempts.may_renew()
                && target.platform.renew(credential, &target.budget))
        {
            failure.repeat = Repeat::Never;
        }
        match purpose {
            Purpose::Read => failure.for_read(),
            Purpose::Delete => {
                // A DELETE that got a response was sent.
                if failure.effect == Effect::NotSent {
                    failure.effect = Effect::Unknown;
                }
                self.report.attempts.record_failure(&failure);
                failure
            }
        }
    }

    /// Returns the outcome of the call if the failure is that the user does not exist and this is a success, or
    /// `None` otherwise. After an attempt with an unknown effect, this attempt most likely deleted the user. In all
    /// other cases a missing user is a success only with `allow_missing`.
    fn success_if_absent(&self, failure: &Failure) -> Option<DeleteOutcome> {
        let was_read = self.report.attempts.count() == 0;
        if failure.reason != R::UserNotFound || (was_read && !P::READS_USER) {
            return None;
        }
        let outcome = if self.report.attempts.is_ambiguous() {
            DeleteOutcome::AbsentAfterRetry
        } else {
            DeleteOutcome::AlreadyAbsent
        };
        let success = self.report.attempts.is_ambiguous() || self.order.allow_missing;
        success.then_some(if self.order.validate_only {
            DeleteOutcome::Validated
        } else {
            outcome
        })
    }
}
