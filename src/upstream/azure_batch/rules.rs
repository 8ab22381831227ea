//! The rules of Azure Batch, which map an HTTP status and a `BatchError` code to a reason. The first row that matches
//! decides.
//!
//! Sources: D, the document "Compute Node - Delete User"; C, "Batch Status and Error Codes"; W, recorded responses of
//! the service. Most rows match a code with every 4xx status, because the service does not always send the documented
//! status.

use crate::{
    error::rule::{self, Body, RequestPart, Rule, rules},
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

/// The rules for responses to the deletion and to the read before it. Document C also contains codes for the rows of
/// HTTP: `TooManyRequests` (429), `InternalError` (500), `NotImplemented` (501), `ServerBusy` (503) and
/// `UnsupportedHttpVersion` (505).
#[rustfmt::skip]
pub const RULES: &[Rule] = rules! { before_http: [
    Rule::new(500..=599, Body::Code("OperationTimedOut"), R::UpstreamTimedOut, "C: 500").backoff().unknown().down(),
    Rule::new(400..=499, Body::Code("OperationTimedOut"), R::UpstreamTimedOut, "C: 500, on another status").backoff().unknown(),
], after_http: [
    // Azure does not document the error code for a version of the API that it no longer serves.
    code("UnsupportedRequestVersion", R::UpstreamApiVersionUnsupported, "C: 400"),
    Rule::new(rule::only(400), Body::Part(RequestPart::QueryParameter(API_VERSION)), R::UpstreamApiVersionUnsupported, "C: 400; W: 400, no api-version"),

    // The service's own credentials.
    refused("AuthenticationFailed", "C: 403; W: 401"),
    refused("InvalidAuthenticationInfo", "C: 400"),
    Rule::new(400..=499, Body::CodeAndPart("MissingRequiredHeader", RequestPart::Header("Authorization")), R::UpstreamCredentialsRejected, "W: 400, no Authorization header").renew(),

    // Missing resources. These rows match the status 404 only.
    rule::code(404, "NodeUserNotFound", R::UserNotFound, "W: 404"),
    rule::code(404, "NodeNotFound", R::NodeNotFound, "C: 404"),
    rule::code(404, "PoolNotFound", R::PoolNotFound, "C: 404"),
    rule::code(404, "ResourceNotFound", R::UpstreamResourceNotFound, "C: 404"),

    // D: users can be deleted only while the node is idle or running.
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

    // Missing permissions of the service's identity.
    code("AuthorizationFailure", R::UpstreamPermissionDenied, "W: 403"),
    code("InsufficientAccountPermissions", R::UpstreamPermissionDenied, "C: 403"),
    code("PermissionMismatch", R::UpstreamPermissionDenied, "assumed from the name"),
    code("AccountIsDisabled", R::UpstreamPermissionDenied, "C: 403"),

    // Errors in the part of the request that the caller chose.
    callers("InvalidInput", "C: 400"),
    callers("OutOfRangeInput", "C: 400"),
    callers("InvalidUri", "C: 400"),
    callers("RequestUrlFailedToParse", "C: 400"),
    Rule::new(400..=499, Body::CodeAndPart("InvalidHeaderValue", RequestPart::Header(CALLERS_HEADER)), R::UpstreamRejectedRequest, "W: 400, a client-request-id that the caller sent").alternate(),
    // Errors in the part of the request that the server chose.
    ours("InvalidHeaderValue", "W: 400"),
    ours("MissingRequiredHeader", "W: 400"),
    ours("MissingRequiredQueryParameter", "W: 400"),
    ours("InvalidQueryParameterValue", "C: 400"),
    ours("OutOfRangeQueryParameterValue", "C: 400"),
    ours("UnsupportedQueryParameter", "C: 400"),
    ours("UnsupportedHeader", "C: 400"),
    ours("InvalidHttpVerb", "C: 400"),
    ours("UnsupportedHttpVerb", "C: 405"),
    ours("UnsupportedHttpVersion", "C"),
    ours("HostInformationNotPresent", "C"),
    ours("MultipleConditionHeadersNotSupported", "C: 400"),
]};

/// The query parameter with the version of the API.
pub const API_VERSION: &str = "api-version";

/// The request header whose value the caller may have chosen. If the server chose the value, this header is not among
/// those that a rule is compared with.
pub const CALLERS_HEADER: &str = "client-request-id";
