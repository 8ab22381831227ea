//! Table A of Azure Batch: HTTP status and `BatchError` code -> reason. The first row that fits decides.
//!
//! Sources: D, the document "Compute Node - Delete User"; C, "Batch Status and Error Codes"; W, recorded
//! responses of the service; H, HTTP itself. Codes decide before statuses, because the documented status of a
//! code is not always the one on the wire; a code decides only within 4xx, for what a 5xx says is said by it.

use crate::{
    error::rule::{self, Body, Rule, any, own},
    proto::ErrorReason as R,
};

const fn code(code: &'static str, reason: R, source: &'static str) -> Rule {
    Rule::new(400..=499, Body::Code(code), reason, source)
}

const fn refused(code: &'static str, source: &'static str) -> Rule {
    self::code(code, R::UpstreamCredentialsRejected, source).renew()
}

const fn ours(code: &'static str, source: &'static str) -> Rule {
    self::code(code, R::UpstreamRejectedRequest, source)
}

const fn callers(code: &'static str, source: &'static str) -> Rule {
    ours(code, source).alternate()
}

/// The table.
#[rustfmt::skip]
pub const RULES: &[Rule] = &[
    // Whatever the body.
    any(429, R::UpstreamThrottled, "C: TooManyRequests; W").backoff(),
    Rule::new(500..=599, Body::Code("OperationTimedOut"), R::UpstreamTimedOut, "C: 500").backoff().unknown().down(),
    Rule::new(400..=499, Body::Code("OperationTimedOut"), R::UpstreamTimedOut, "C: 500, on another status").backoff().unknown(),
    any(408, R::UpstreamUnavailable, "H").backoff().unknown(),
    any(501, R::UpstreamRejectedRequest, "C: NotImplemented; H").down(),
    any(505, R::UpstreamRejectedRequest, "C: UnsupportedHttpVersion; H").down(),
    any(503, R::UpstreamUnavailable, "C: ServerBusy").backoff().down(),
    Rule::new(500..=599, Body::Any, R::UpstreamUnavailable, "C: InternalError; H").backoff().unknown().down(),
    any(401, R::UpstreamCredentialsRejected, "W: AuthenticationFailed of a bearer token").renew(),

    // The service's own credentials.
    refused("AuthenticationFailed", "C: 403; W: 401"),
    refused("InvalidAuthenticationInfo", "C: 400"),
    Rule::new(400..=499, Body::Header("MissingRequiredHeader", "Authorization"), R::UpstreamCredentialsRejected, "W: 400, no Authorization header").renew(),

    // What is not there. Only a 404 may say so.
    rule::code(404, "NodeUserNotFound", R::UserNotFound, "W: 404"),
    rule::code(404, "NodeNotFound", R::NodeNotFound, "C: 404"),
    rule::code(404, "PoolNotFound", R::PoolNotFound, "C: 404"),
    rule::code(404, "ResourceNotFound", R::UpstreamResourceNotFound, "C: 404"),

    // D: a user can be deleted only when the node is idle or running.
    code("NodeBeingCreated", R::NodeNotReady, "C: 409"),
    code("NodeBeingStarted", R::NodeNotReady, "C: 409"),
    code("NodeBeingRebooted", R::NodeNotReady, "C: 409"),
    code("NodeBeingReimaged", R::NodeNotReady, "C: 409"),
    code("OperationInvalidForCurrentState", R::NodeNotReady, "C: 409"),
    code("OperationNotValidOnNode", R::NodeNotReady, "C: 409"),
    code("NodeStateUnusable", R::NodeUnusable, "C: 409"),
    code("PoolBeingCreated", R::PoolNotReady, "C: 409"),
    code("PoolBeingDeleted", R::PoolNotReady, "C: 409"),
    code("PoolBeingResized", R::PoolNotReady, "C: 409"),
    code("OperationNotValidOnPool", R::PoolNotReady, "C: 409"),
    code("NodeUserExists", R::UpstreamConflict, "C: 409"),
    code("ResourceAlreadyExists", R::UpstreamConflict, "C: 409"),
    code("InvalidRestAPIForAccountSetting", R::UpstreamConflict, "C"),
    code("ConditionNotMet", R::UpstreamConflict, "C: 412"),

    // What the service's identity may not do.
    code("AuthorizationFailure", R::UpstreamPermissionDenied, "W: 403"),
    code("InsufficientAccountPermissions", R::UpstreamPermissionDenied, "C: 403"),
    code("PermissionMismatch", R::UpstreamPermissionDenied, "no source; by its name"),
    code("AccountIsDisabled", R::UpstreamPermissionDenied, "C: 403"),

    // The form of the request: the caller's part of it ...
    callers("InvalidInput", "C: 400"),
    callers("OutOfRangeInput", "C: 400"),
    callers("InvalidUri", "C: 400"),
    callers("RequestUrlFailedToParse", "C: 400"),
    Rule::new(400..=499, Body::Header("InvalidHeaderValue", CALLERS_HEADER), R::UpstreamRejectedRequest, "W: 400, a client-request-id that the caller sent").alternate(),
    // ... and ours.
    ours("InvalidHeaderValue", "W: 400"),
    ours("MissingRequiredHeader", "W: 400"),
    ours("MissingRequiredQueryParameter", "W: 400"),
    ours("InvalidQueryParameterValue", "C: 400"),
    ours("OutOfRangeQueryParameterValue", "C: 400"),
    ours("UnsupportedQueryParameter", "C: 400"),
    ours("UnsupportedHeader", "C: 400"),
    ours("UnsupportedRequestVersion", "C: 400"),
    ours("InvalidHttpVerb", "C: 400"),
    ours("UnsupportedHttpVerb", "C: 405"),
    ours("UnsupportedHttpVersion", "C"),
    ours("HostInformationNotPresent", "C"),
    ours("MultipleConditionHeadersNotSupported", "C: 400"),

    // Any other code: by status.
    own(403, R::UpstreamPermissionDenied, "H; C: IOError"),
    own(404, R::UpstreamResourceNotFound, "H"),
    own(409, R::UpstreamConflict, "H"),
    own(412, R::UpstreamConflict, "H"),
    Rule::new(400..=499, Body::Own, R::UpstreamRejectedRequest, "H"),

    // Not Azure Batch's words: a redirect, an unexpected success, a proxy's page.
    Rule::new(0..=u16::MAX, Body::Any, R::UpstreamProtocolError, "H").unknown(),
];

/// Stands for `client-request-id` when its value came from the caller; ours is never the caller's fault.
pub const CALLERS_HEADER: &str = "client-request-id";
