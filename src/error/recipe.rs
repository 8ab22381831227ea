//! The recipe of each reason: code, message and details of its status. The recipes are a `match` without `_`: the
//! crate does not compile if the proto has a reason without a recipe. The texts are fixed ASCII texts, and contain
//! nothing that an upstream sent.

use std::time::Duration;

use tonic::Code;

use super::resource::Level;
use crate::proto::ErrorReason as R;

/// A standard detail of a status, in addition to `ErrorInfo` and `RequestInfo`, which every status has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extra {
    /// `BadRequest`: the fields that break their rules. The detail is left out if there are none.
    BadRequest,
    /// `ResourceInfo` of the configured target: a Batch account or an HMC.
    Target,
    /// `ResourceInfo` of the resource at this level that the request names.
    Resource(Level),
    /// `PreconditionFailure`, with the type and the description of the violation.
    Precondition(&'static str, &'static str),
    /// `QuotaFailure`, with the subject and the description of the exhausted quota.
    Quota(Subject, &'static str),
    /// `RetryInfo`, with the default delay before the same request is repeated, in seconds.
    Retry(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    Caller,
    Target,
}

/// The second code of a reason.
#[derive(Clone, Copy, Debug)]
pub struct Alternate {
    pub code: Code,
    /// Details beside those that every status has.
    pub extras: &'static [Extra],
    /// Condition under which this code applies. It is shown in the documentation.
    pub when: &'static str,
}

/// Code, message and details of the status of one reason.
#[derive(Clone, Copy, Debug)]
pub struct Recipe {
    pub code: Code,
    /// `grpc-message`.
    pub message: &'static str,
    /// Details beside those that every status has.
    pub extras: &'static [Extra],
    pub alternate: Option<Alternate>,
    /// Whether a client library may repeat the call automatically if no DELETE was sent. It must not repeat calls
    /// with other reasons, because the server has already made its own attempts, which would be multiplied.
    pub client_may_retry: bool,
}

impl Recipe {
    const fn new(code: Code, message: &'static str, extras: &'static [Extra]) -> Self {
        Self {
            code,
            message,
            extras,
            alternate: None,
            client_may_retry: false,
        }
    }

    const fn client_may_retry(mut self) -> Self {
        self.client_may_retry = true;
        self
    }

    const fn or(mut self, code: Code, extras: &'static [Extra], when: &'static str) -> Self {
        self.alternate = Some(Alternate { code, extras, when });
        self
    }
}

/// Returns the default delay before the request is repeated, or `None` if a repetition does not help.
pub fn retry_delay(extras: &[Extra]) -> Option<Duration> {
    extras.iter().find_map(|extra| match extra {
        Extra::Retry(seconds) => Some(Duration::from_secs(*seconds)),
        _ => None,
    })
}

#[rustfmt::skip]
#[allow(clippy::too_many_lines, reason = "one table, read as one")]
pub const fn recipe(reason: R) -> Recipe {
    use Extra::{BadRequest, Precondition, Quota, Resource, Retry, Target};
    match reason {
        R::Unspecified | R::Internal => Recipe::new(Code::Internal, "internal error of this service", &[]),
        R::InvalidRequest => Recipe::new(Code::InvalidArgument,
            "a field of the request breaks its rule; see the BadRequest detail",
            &[BadRequest]),
        R::CallerUnauthenticated => Recipe::new(Code::Unauthenticated,
            "the caller did not show a valid identity",
            &[]),
        R::CallerNotAuthorized => Recipe::new(Code::PermissionDenied,
            "the caller is not allowed to make this call on this target",
            &[]),
        R::UnknownTarget => Recipe::new(Code::NotFound,
            "no target with this alias is configured",
            &[Target]),
        R::ProtectedUser => Recipe::new(Code::FailedPrecondition,
            "the user is on the list of protected users; nothing was sent that deletes",
            &[Precondition("PROTECTED_USER", "take the user off the protected_users list of the target first")]),
        R::DeleteQuotaExceeded => Recipe::new(Code::ResourceExhausted,
            "this caller's deletions per minute are used up",
            &[Quota(Subject::Caller, "deletions per minute of this caller"), Retry(1)]).client_may_retry(),
        R::Overloaded => Recipe::new(Code::ResourceExhausted,
            "too many calls are in progress",
            &[Retry(1)]).client_may_retry(),
        R::CircuitOpen => Recipe::new(Code::Unavailable,
            "the upstream failed too often and is not called for a while",
            &[Retry(5)]).client_may_retry(),
        R::AuditUnavailable => Recipe::new(Code::Unavailable,
            "a required record could not be written; the user was not deleted",
            &[Retry(5)]).client_may_retry(),
        R::ShuttingDown => Recipe::new(Code::Unavailable,
            "this server is shutting down",
            &[Retry(1)]).client_may_retry(),
        R::DeadlineExceeded => Recipe::new(Code::DeadlineExceeded,
            "the deadline passed before a delete could take effect",
            &[Retry(1)]),
        R::OutcomeUnknown => Recipe::new(Code::Unavailable,
            "a delete was sent and its outcome is not known; repeat it with allow_missing",
            &[Retry(1)])
            .or(Code::DeadlineExceeded, &[Retry(1)],
                "the deadline expired, or the server stopped, before the response"),
        R::UserNotFound => Recipe::new(Code::NotFound,
            "the user does not exist, or is not visible to this service",
            &[Resource(Level::User)]),
        R::NodeNotFound => Recipe::new(Code::NotFound,
            "the compute node does not exist",
            &[Resource(Level::Node)]),
        R::PoolNotFound => Recipe::new(Code::NotFound, "the pool does not exist", &[Resource(Level::Pool)]),
        R::NodeNotReady => Recipe::new(Code::FailedPrecondition,
            "the compute node is neither idle nor running",
            &[Precondition("NODE_STATE", "wait until the node is idle or running")]),
        R::NodeUnusable => Recipe::new(Code::FailedPrecondition,
            "the compute node is unusable",
            &[Precondition("NODE_STATE", "recover the node first")]),
        R::PoolNotReady => Recipe::new(Code::FailedPrecondition,
            "the pool is being created, resized or deleted, or does not allow the operation",
            &[Precondition("POOL_STATE", "wait until the pool is steady; the users of a deleted pool go with it")]),
        R::PatternBasedUser => Recipe::new(Code::FailedPrecondition,
            "pattern-based users cannot be deleted",
            &[Precondition("USER_TYPE", "remove the user pattern instead; its users end with it")]),
        R::OwnUser => Recipe::new(Code::FailedPrecondition,
            "the user is the one this service logs on with",
            &[Precondition("OWN_USER", "configure another userid for this HMC first")]),
        R::TemplateUserInUse => Recipe::new(Code::FailedPrecondition,
            "users or user patterns refer to this template user",
            &[Precondition("TEMPLATE_REFERENCES", "remove the users and user patterns that refer to the template first")]),
        R::AutomaticLogonUser => Recipe::new(Code::FailedPrecondition,
            "the user is the console's automatic logon ID",
            &[Precondition("AUTOMATIC_LOGON", "choose another automatic logon ID on the HMC first")]),
        R::LastLocalAdministrator => Recipe::new(Code::FailedPrecondition,
            "the user is the last locally authenticated one that can manage users and roles",
            &[Precondition("LAST_LOCAL_ADMINISTRATOR", "give another locally authenticated user the tasks for users and user roles first")]),
        R::AmbiguousUserName => Recipe::new(Code::FailedPrecondition,
            "more than one user fits the name; name the object ID instead",
            &[Precondition("UNIQUE_NAME", "send user_id in place of user_name")]),
        R::UpstreamConflict => Recipe::new(Code::FailedPrecondition,
            "the upstream cannot delete the user in its present state",
            &[Precondition("UPSTREAM_STATE", "change the state that the upstream's error names")])
            .or(Code::Aborted,
                &[Precondition("UPSTREAM_STATE", "the object is busy or not in the right state; try again later"), Retry(2)],
                "HMC 409 with reason 1 or 2: the object is busy or not in the right state"),
        R::UpstreamResourceNotFound => Recipe::new(Code::NotFound,
            "the upstream does not know a resource that the request names",
            &[Resource(Level::User)]),
        R::UpstreamPermissionDenied => Recipe::new(Code::PermissionDenied,
            "the upstream does not let this service delete the user",
            &[Resource(Level::User)]),
        R::UpstreamCredentialsRejected => Recipe::new(Code::Internal,
            "the upstream refused this service's own credentials",
            &[]),
        R::UpstreamSessionLimit => Recipe::new(Code::ResourceExhausted,
            "the HMC has no session left for this service's user",
            &[Retry(30)]),
        R::UpstreamThrottled => Recipe::new(Code::ResourceExhausted,
            "the upstream receives too many requests",
            &[Quota(Subject::Target, "request rate of the upstream"), Retry(5)]),
        R::UpstreamUnavailable => Recipe::new(Code::Unavailable,
            "the upstream cannot serve the request at present",
            &[Retry(5)]),
        R::UpstreamUnreachable => Recipe::new(Code::Unavailable,
            "the upstream or its token endpoint cannot be reached; nothing was deleted by this attempt",
            &[Retry(5)]),
        R::UpstreamTimedOut => Recipe::new(Code::DeadlineExceeded,
            "the upstream ran out of time; whether the user was deleted is not known",
            &[Retry(5)]),
        R::UpstreamRejectedRequest => Recipe::new(Code::Internal,
            "the upstream refused the form of the request",
            &[])
            .or(Code::InvalidArgument, &[BadRequest],
                "Batch InvalidInput, OutOfRangeInput, InvalidUri, RequestUrlFailedToParse, \
                 or InvalidHeaderValue of a client_request_id that the caller sent"),
        R::UpstreamApiVersionUnsupported => Recipe::new(Code::Internal,
            "the upstream no longer supports the configured API version",
            &[]),
        R::UpstreamProtocolError => Recipe::new(Code::Unavailable,
            "the upstream's answer does not follow its documented protocol",
            &[]),
    }
}
