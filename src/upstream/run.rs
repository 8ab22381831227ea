//! The requests of one call to a target: the reads, the attempts of the deletion, and the read after an unknown effect.
//! They are the same for every platform.

use std::{borrow::Cow, time::Duration};

use http::{HeaderValue, header::AUTHORIZATION};
use tokio::time::Instant;

use super::{
    attempts::Attempts,
    breaker::BreakerPermit,
    call_limits::CallLimits,
    client::Request,
    deadline::MIN_ATTEMPT,
    platform::{
        Call, Order, OutgoingRequest, Platform, Purpose, ReceivedResponse, RequestCredential as _,
    },
    response::RequestError,
    retry::Retries,
    target::Target,
};
use crate::{
    error::{Effect, Failure, Repeat},
    proto::{DeleteOutcome, ErrorReason as R},
};

/// Time limit of the read of details during a validation.
const DETAILS_TIME: Duration = Duration::from_secs(2);
/// Time limit of the reads after a DELETE with an unknown effect.
const OBSERVE_TIME: Duration = Duration::from_secs(5);
/// Part of the remaining time that a DELETE leaves for these reads, as a divisor, and its maximum.
const RESERVED_PART: u32 = 8;
const MAX_RESERVED: Duration = Duration::from_secs(1);

/// Parses a response with the status of success.
type Parse<P, T> = fn(&P, &ReceivedResponse<'_, P>) -> Result<T, Failure>;

/// Facts about a call that has ended, whether it succeeded or failed.
pub struct RunReport<F> {
    pub attempts: Attempts,
    pub found: F,
    /// The platform's own ID of the last response, or an empty string.
    pub upstream_request_id: String,
}

impl<P: Platform> Target<P> {
    /// Deletes a user, or checks whether that is possible. Sends the DELETE at most three times, within the limits of
    /// the call. A read before it is also sent at most three times, and once more if the credential is renewed. The
    /// same holds for the read after a DELETE with an unknown effect. A read of details is sent once. Returns the
    /// result, and a report for both success and failure.
    pub async fn run(
        &self,
        order: &Order<P::User>,
        limits: &CallLimits,
    ) -> (Result<DeleteOutcome, Failure>, RunReport<P::UserFacts>) {
        let mut run = Run {
            target: self,
            order,
            limits,
            report: RunReport {
                attempts: Attempts::default(),
                found: P::facts_from_request(&order.user),
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
}

/// One call to a target.
struct Run<'a, P: Platform> {
    target: &'a Target<P>,
    order: &'a Order<P::User>,
    limits: &'a CallLimits,
    report: RunReport<P::UserFacts>,
}

impl<P: Platform> Run<'_, P> {
    async fn read_and_delete(&mut self) -> Result<DeleteOutcome, Failure> {
        let permit = &mut self.target.breaker.admit()?;
        self.target.budget.deposit();
        if P::reads_first(self.order) {
            self.report.found = self.retry(Purpose::Read, permit, P::parse_facts).await?;
        }
        self.target
            .check_deletable(self.order, &self.report.found)?;
        if self.order.validate_only {
            P::validate(&self.report.found)?;
            if P::lacks_details(&self.report.found) {
                // Boxed like the future of `observe`, because these futures are large, and few calls need them.
                Box::pin(self.read_details(permit)).await?;
            }
            return Ok(DeleteOutcome::Validated);
        }
        match self.retry(Purpose::Delete, permit, P::check_deleted).await {
            Ok(()) => Ok(DeleteOutcome::Deleted),
            Err(failure) if self.can_observe(&failure) => {
                Box::pin(self.observe(permit, failure)).await
            }
            Err(failure) => Err(failure),
        }
    }

    /// Reads the details of a valid order, and checks the order again. If the request fails, the details stay unknown,
    /// unless the user does not exist any more.
    async fn read_details(&mut self, permit: &mut BreakerPermit<'_>) -> Result<(), Failure> {
        let limits = self.limits.within(DETAILS_TIME);
        let mut run = self.additional(&limits);
        match run
            .send_request(Purpose::ReadDetails, permit, P::parse_facts)
            .await
        {
            Ok(found) => self.report.found = found,
            Err(failure) if failure.reason == R::UserNotFound => return Err(failure),
            Err(failure) => self.log_failed_read(&failure, "details of the user not read"),
        }
        self.target
            .check_deletable(self.order, &self.report.found)?;
        P::validate(&self.report.found)
    }

    /// Returns whether reading the user can show the effect of a DELETE with an unknown effect. After a missing
    /// permission, a user that cannot be read may be invisible. After refused credentials, it cannot be read.
    fn can_observe(&self, failure: &Failure) -> bool {
        let is_excluded = matches!(
            failure.reason,
            R::UserNotFound | R::UpstreamPermissionDenied | R::UpstreamCredentialsRejected
        );
        P::READS_USER
            && self.report.attempts.is_ambiguous()
            && !is_excluded
            && self.limits.deadline.allows_attempt()
    }

    /// Reads the user after the last DELETE, whose effect is unknown, even if the caller has disconnected. A user that
    /// is absent now was most likely deleted. A user that is present may still be deleted by a request in progress,
    /// so the effect remains unknown, and the failure reports that the user was present.
    async fn observe(
        &mut self,
        permit: &mut BreakerPermit<'_>,
        mut failure: Failure,
    ) -> Result<DeleteOutcome, Failure> {
        let limits = self.limits.after_disconnection().within(OBSERVE_TIME);
        let mut run = self.additional(&limits);
        let result_of_deletion = permit.result();
        let read = run
            .retry(Purpose::ReadDetails, permit, P::parse_facts)
            .await;
        match read {
            Ok(_) => {
                self.report.attempts.user_was_present = true;
                failure.context += "; the user was present afterwards";
            }
            Err(read) if read.reason == R::UserNotFound => {
                return Ok(DeleteOutcome::AbsentAfterRetry);
            }
            Err(read) => self.log_failed_read(&read, "user not read after an unknown outcome"),
        }
        // The call has failed, even if the target responds to reads.
        permit.set_result(result_of_deletion);
        Err(failure)
    }

    /// Returns a run for further reads, whose attempts do not count as those of the deletion.
    fn additional<'a>(&'a self, limits: &'a CallLimits) -> Run<'a, P> {
        Run {
            target: self.target,
            order: self.order,
            limits,
            report: RunReport {
                attempts: Attempts::default(),
                found: self.report.found.clone(),
                upstream_request_id: String::new(),
            },
        }
    }

    fn log_failed_read(&self, failure: &Failure, event: &'static str) {
        let request_id = &*self.order.request_id;
        let (reason, context) = (failure.reason.as_str_name(), failure.context.as_str());
        tracing::info!(request_id, reason, context, "{event}");
    }

    /// Sends a request, and repeats it within the limits of the call. Returns the result of `parse`.
    async fn retry<T>(
        &mut self,
        purpose: Purpose,
        breaker_permit: &mut BreakerPermit<'_>,
        parse: Parse<P, T>,
    ) -> Result<T, Failure> {
        let mut retries = Retries::new(self.limits, &self.target.budget);
        loop {
            match self.send_request(purpose, breaker_permit, parse).await {
                Ok(parsed) => return Ok(parsed),
                Err(failure) => retries.wait(&mut self.report.attempts, failure).await?,
            }
        }
    }

    /// Returns the limits of a request. A DELETE leaves time to read the user if it gets no response.
    fn request_limits(&self, purpose: Purpose) -> Cow<'_, CallLimits> {
        if purpose != Purpose::Delete || !P::READS_USER {
            return Cow::Borrowed(self.limits);
        }
        let remaining = self.limits.deadline.remaining();
        let reserved = MAX_RESERVED.min(remaining / RESERVED_PART);
        if reserved >= MIN_ATTEMPT {
            Cow::Owned(self.limits.within(remaining.saturating_sub(reserved)))
        } else {
            Cow::Borrowed(self.limits)
        }
    }

    fn outgoing(&self, purpose: Purpose) -> Result<OutgoingRequest, Failure> {
        let call = Call::<P> {
            order: self.order,
            found: &self.report.found,
            limits: self.limits,
        };
        match purpose {
            Purpose::Read => self.target.platform.read(&call),
            Purpose::ReadDetails => self.target.platform.read_details(&call),
            Purpose::Delete => self.target.platform.delete(&call),
        }
    }

    /// Returns a complete request, and its `Authorization` header.
    fn request(
        &self,
        outgoing: OutgoingRequest,
        purpose: Purpose,
        credential: &P::Credential,
    ) -> Result<(Request, Option<HeaderValue>), Failure> {
        let mut request = outgoing.request(purpose, P::ACCEPT);
        let platform = &self.target.platform;
        platform.add_headers(&mut request, credential, self.order)?;
        let authorization = request.headers().get(AUTHORIZATION).cloned();
        Ok((request, authorization))
    }

    /// Sends one request. Returns the result of `parse` for the status of success, and the failure otherwise.
    async fn send_request<T>(
        &mut self,
        purpose: Purpose,
        breaker_permit: &mut BreakerPermit<'_>,
        parse: Parse<P, T>,
    ) -> Result<T, Failure> {
        let (target, limits) = (self.target, self.limits);
        let platform = &target.platform;
        let _permit = target.bulkhead.acquire(limits).await?;
        let credential = platform.credential(self.order.token(), limits).await;
        if let (true, Err(failure)) = (P::ISSUES_CREDENTIALS, &credential) {
            breaker_permit.record_credential_failure(failure);
        }
        let credential = credential?;
        let outgoing = self.outgoing(purpose)?;
        let (operation, success) = (outgoing.operation, outgoing.success);
        let (request, authorization) = self.request(outgoing, purpose, &credential)?;
        match purpose {
            Purpose::Read | Purpose::ReadDetails => limits.check("before reading")?,
            Purpose::Delete => self.report.attempts.start(limits)?,
        }
        // The body of a response to a successful DELETE is not used.
        let no_body_status = (purpose == Purpose::Delete).then_some(success);
        let limits = self.request_limits(purpose);
        let begun = Instant::now();
        let sent = target
            .client
            .send(operation, request, no_body_status, &limits);
        let response = match sent.await {
            Ok(response) => response,
            Err(error) => {
                breaker_permit.record_error(&error, begun.elapsed());
                return Err(self.record_request_error(purpose, error));
            }
        };
        let received = ReceivedResponse {
            order: self.order,
            found: &self.report.found,
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
        let unexpected = failure.filter(|failure| is_unexpected(failure, is_success));
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
            Purpose::Read | Purpose::ReadDetails => error.into_read_failure(),
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
            Purpose::Read | Purpose::ReadDetails => failure.for_read(),
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

/// Returns whether a failure means that the response was unexpected: an error status, or a response that cannot be
/// parsed. A list that can be parsed but does not contain the user is a failure of the call, but expected.
fn is_unexpected(failure: &Failure, is_success: bool) -> bool {
    !is_success || failure.reason == R::UpstreamProtocolError
}
