//! The contract between the service and a platform whose users are deleted. [`Platform`] contains everything that
//! differs between platforms; the code in [`super::run`] is the same for all of them.

use std::{future::Future, sync::Arc};

use http::{HeaderValue, Method, StatusCode, header::ACCEPT, uri::PathAndQuery};

use super::{
    call_limits::CallLimits,
    classify::{self, ErrorFacts},
    client::{self, Alpn, Change, Client, HTTP_2_OR_1, Request},
    instrument::Operation,
    path,
    redact::Secrets,
    response::Response,
    retry_budget::RetryBudget,
};
use crate::{
    caller_token::CallerToken,
    config::{AuditSink, PlatformSettings, Roots, Target},
    error::{Failure, resource::ResourceNames, rule::Rule},
    metrics::{CredentialState, RequestMetrics},
    postgres::Database,
    proto::ErrorReason,
};

/// The deletion that a caller requests.
pub struct Order<U> {
    pub user: U,
    /// Whether the request is only checked, and nothing is deleted.
    pub validate_only: bool,
    /// Whether a missing user is a success.
    pub allow_missing: bool,
    /// This server's ID of the call, for the upstream's own log.
    pub request_id: Arc<str>,
    /// The verified identity of the caller, for the upstream's own log.
    pub caller: Arc<str>,
    /// The token of the user who calls, if the target is called under the identity of the caller.
    pub caller_token: Option<Arc<CallerToken>>,
}

impl<U> Order<U> {
    pub fn token(&self) -> Option<&Arc<CallerToken>> {
        self.caller_token.as_ref()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CredentialCheck {
    Accepted,
    /// The credential was not checked, because there is no request for this purpose alone. The text explains why.
    NotChecked(&'static str),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The read before the deletion.
    Read,
    /// A read of further facts, or of the user after a DELETE with an unknown effect.
    ReadDetails,
    Delete,
}

/// A request before its headers are set.
#[derive(Debug)]
pub struct OutgoingRequest {
    pub operation: &'static Operation,
    pub path: PathAndQuery,
    /// The only status that means success.
    pub success: StatusCode,
}

impl OutgoingRequest {
    /// Creates a request for a path of these segments. Fails if the path cannot be built.
    pub fn new(
        operation: &'static Operation,
        segments: &[&str],
        query: &str,
        success: StatusCode,
    ) -> Result<Self, Failure> {
        Ok(Self {
            operation,
            path: path::build(segments, query)?,
            success,
        })
    }

    /// Creates the HTTP request, with the default headers and this `Accept` header.
    pub fn request(self, purpose: Purpose, accept: &'static str) -> Request {
        let method = match purpose {
            Purpose::Read | Purpose::ReadDetails => Method::GET,
            Purpose::Delete => Method::DELETE,
        };
        let mut request = client::request(method, self.path);
        let accept = HeaderValue::from_static(accept);
        request.headers_mut().insert(ACCEPT, accept);
        request
    }
}

/// Everything that a target is created from.
pub struct TargetInputs<'a, P: Platform> {
    pub config: &'a Target<P::Settings>,
    /// The parts of the targets that were created before. A platform may share state between its targets.
    pub others: Vec<&'a P>,
    /// The audit log. A platform may keep a file in its folder.
    pub audit: &'a AuditSink,
    /// The database that replicas share, or `None` if there is none. A platform may share state between replicas.
    pub database: Option<&'a Arc<Database>>,
    /// The HTTP client for the URL of the target.
    pub client: Client,
    pub requests: &'a RequestMetrics,
}

/// The call that a request belongs to.
pub struct Call<'a, P: Platform> {
    pub order: &'a Order<P::User>,
    /// Facts that are known about the user.
    pub found: &'a P::UserFacts,
    pub limits: &'a CallLimits,
}

/// A response, and facts about its request.
pub struct ReceivedResponse<'a, P: Platform> {
    /// The order that the request is part of.
    pub order: &'a Order<P::User>,
    /// Facts that were known about the user before the request.
    pub found: &'a P::UserFacts,
    pub operation: &'static Operation,
    /// The credential that the request was sent with.
    pub credential: &'a P::Credential,
    /// The secrets of the request, which the response may repeat.
    pub secrets: Secrets<'a>,
    pub response: &'a Response,
}

/// The credential of one request, such as a token, a key or a session.
pub trait RequestCredential: Send + Sync {
    /// Returns the secrets that no caller may receive. `authorization` is the `Authorization` header of the request.
    fn secrets<'a>(&'a self, authorization: Option<&'a HeaderValue>) -> Secrets<'a>;

    /// Records that the upstream accepted the credential.
    fn accepted(&self) {}

    /// Records that the upstream refused the credential, even if the request is not repeated with another one.
    fn refused(&self) {}
}

/// The part of a configured target that differs between platforms.
pub trait Platform: Sized + Send + Sync + 'static {
    /// Names in error details, metrics and logs.
    const NAMES: &'static ResourceNames;
    /// The table of rules for the responses to the deletion and to the reads before it.
    const RULES: &'static [Rule];
    /// Other tables of rules, each with the name of its request.
    const OTHER_RULES: &'static [(&'static str, &'static [Rule])] = &[];
    /// HTTP versions that the client offers to a target, in order of preference.
    const ALPN: Alpn = HTTP_2_OR_1;
    const ACCEPT: &'static str = "application/json";
    /// Whether [`Self::read`] reads the user itself, so that a missing user is known before the deletion. False if it
    /// reads something that contains users, or if the platform reads nothing.
    const READS_USER: bool = false;
    /// Whether the target issues the credentials, so that a failure to obtain one counts for its circuit breaker.
    const ISSUES_CREDENTIALS: bool = false;

    /// Configuration keys of the platform, in addition to those that all targets have.
    type Settings: PlatformSettings;
    /// The user as a request identifies it.
    type User: Send + Sync + 'static;
    /// Facts that were read about the user.
    type UserFacts: Clone + Default + Send + Sync + 'static;
    type Credential: RequestCredential;

    /// Creates the platform's part of a target. Nothing is sent yet. Fails if the settings cannot be used.
    fn new(target: TargetInputs<'_, Self>) -> Result<Self, String>;

    /// Returns the facts about the user that the request itself contains.
    fn facts_from_request(_user: &Self::User) -> Self::UserFacts {
        Self::UserFacts::default()
    }

    /// Returns whether [`Self::read`] must be sent before the user is deleted or the order is validated.
    fn reads_first(_order: &Order<Self::User>) -> bool {
        false
    }

    fn read(&self, _call: &Call<'_, Self>) -> Result<OutgoingRequest, Failure> {
        Err(Failure::internal("this platform reads nothing"))
    }

    /// Returns whether [`Self::read_details`] reads facts that `found` does not contain. It is then sent for an order
    /// that is only validated, after all checks. The order is valid even if the details cannot be read.
    fn lacks_details(_found: &Self::UserFacts) -> bool {
        false
    }

    /// Returns the request that reads further facts. If [`Self::READS_USER`] is true, it reads the user that was found
    /// before, and is also sent after a DELETE with an unknown effect, because a missing user shows the effect.
    fn read_details(&self, _call: &Call<'_, Self>) -> Result<OutgoingRequest, Failure> {
        Err(Failure::internal("this platform reads no details"))
    }

    /// Returns the facts about the user from a successful response to [`Self::read`] or [`Self::read_details`]. The
    /// reason of the failure is `UPSTREAM_PROTOCOL_ERROR` if, and only if, the response cannot be parsed.
    fn parse_facts(
        &self,
        _received: &ReceivedResponse<'_, Self>,
    ) -> Result<Self::UserFacts, Failure> {
        Err(Failure::internal("this platform reads nothing"))
    }

    /// Returns the name of the user. A user without a name is not deleted.
    fn name<'a>(order: &'a Order<Self::User>, found: &'a Self::UserFacts) -> &'a str;

    /// Returns metadata keys and their values, which are facts about the user.
    fn identifiers(_found: &Self::UserFacts) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    /// Returns whether this is the user that the service itself logs on with.
    fn is_own_user(&self, _name: &str) -> bool {
        false
    }

    /// Fails if the facts about the user forbid the deletion. Called for an order that is only validated.
    fn validate(_found: &Self::UserFacts) -> Result<(), Failure> {
        Ok(())
    }

    fn delete(&self, call: &Call<'_, Self>) -> Result<OutgoingRequest, Failure>;

    /// Checks that a response with the status of success is the platform's own response to [`Self::delete`]. The body
    /// is not available: a deletion has succeeded as soon as the status line arrives.
    fn check_deleted(&self, _received: &ReceivedResponse<'_, Self>) -> Result<(), Failure> {
        Ok(())
    }

    /// Returns the platform's own ID of a response, redacted if it repeats one of the secrets.
    fn request_id(_response: &Response, _secrets: &Secrets) -> Option<String> {
        None
    }

    /// Returns the content of a response whose status is not that of success. The content must not contain secrets.
    fn error_facts(received: &ReceivedResponse<'_, Self>) -> ErrorFacts;

    /// Returns the failure for a response whose status is not that of success, by the table of rules.
    fn classify(received: &ReceivedResponse<'_, Self>) -> Failure {
        let facts = Self::error_facts(received);
        classify::failure(Self::NAMES, Self::RULES, received.response, facts)
    }

    /// Returns whether the target is called under the identity of the caller, with a credential that is obtained with
    /// the caller's token. Callers without the token of a user are then refused.
    fn acts_for_caller(&self) -> bool {
        false
    }

    /// Returns the credential for one request. Obtains one within the limits of the call if there is none. `caller` is
    /// [`Order::token`].
    fn credential(
        &self,
        caller: Option<&Arc<CallerToken>>,
        limits: &CallLimits,
    ) -> impl Future<Output = Result<Self::Credential, Failure>> + Send;

    /// Checks that the target accepts the service's credential, with at most one request, which concerns no user. If
    /// the check opens a session, [`Self::close`] ends it.
    fn check_credential(
        &self,
        limits: &CallLimits,
    ) -> impl Future<Output = Result<CredentialCheck, Failure>> + Send {
        async {
            let _obtained = self.credential(None, limits).await?;
            Ok(CredentialCheck::Accepted)
        }
    }

    /// Sets the headers of a request, except `Accept`.
    fn add_headers(
        &self,
        request: &mut Request,
        credential: &Self::Credential,
        order: &Order<Self::User>,
    ) -> Result<(), Failure>;

    /// Records whether a response shows that the credential is still valid. `failure` is `None` if the response was
    /// expected, even if it means that the user cannot be deleted.
    fn record_response(
        &self,
        _purpose: Purpose,
        credential: &Self::Credential,
        failure: Option<&Failure>,
        _budget: &RetryBudget,
    ) {
        let reason = failure.map(|failure| failure.reason);
        if reason == Some(ErrorReason::UpstreamCredentialsRejected) {
            credential.refused();
        } else if failure.is_none_or(classify::reached_authorization) {
            credential.accepted();
        }
    }

    /// Records a refused credential. Returns whether the request may be repeated with another one.
    fn renew(&self, credential: &Self::Credential, budget: &RetryBudget) -> bool;

    /// Returns the version of the upstream's API that requests name, or `None` if they name none.
    fn api_version(&self) -> Option<&'static str> {
        None
    }

    /// Returns the state of the credential in use, or `None` if there is none or its kind has no state.
    fn credential_state(&self) -> Option<CredentialState> {
        None
    }

    /// Returns closures that apply changed certificate authorities to the additional clients of the platform. The
    /// client of the target itself is not one of them.
    fn prepare_roots(&self, _roots: &Roots) -> Result<Vec<Change>, String> {
        Ok(Vec::new())
    }

    /// Ends the sessions and processes that the target uses.
    fn close(&self) -> impl Future<Output = ()> + Send {
        async {}
    }
}
