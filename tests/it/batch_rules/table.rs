//! Known responses of Azure Batch and the expected results. Based on the vendor's list of codes, recorded responses and
//! the API contract, and independent of the tables in the product.

use tonic::Code::{
    self, DeadlineExceeded, FailedPrecondition, Internal, InvalidArgument, NotFound,
    PermissionDenied, ResourceExhausted, Unavailable,
};

/// Key-value pairs of the document.
pub type Values = &'static [(&'static str, &'static str)];

/// A response and the expected result.
pub struct Row {
    pub status: u16,
    pub code: &'static str,
    pub message: &'static str,
    pub values: Values,
    /// Whether the caller chose the `client-request-id`.
    pub id_is_from_caller: bool,
    pub grpc: Code,
    pub reason: &'static str,
    pub attempts: u32,
    pub outcome: &'static str,
    /// The delay in `RetryInfo`, in seconds.
    pub retry: Option<u64>,
}

/// Returns a row with a permanent failure: one attempt, certainly not deleted, no retry.
const fn row(
    status: u16,
    code: &'static str,
    message: &'static str,
    values: Values,
    grpc: Code,
    reason: &'static str,
) -> Row {
    Row { status, code, message, values, id_is_from_caller: false, grpc, reason, attempts: 1, outcome: "not_deleted", retry: None }
}

impl Row {
    const fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts;
        self
    }

    const fn unknown(mut self) -> Self {
        self.outcome = "unknown";
        self
    }

    const fn retry(mut self, seconds: u64) -> Self {
        self.retry = Some(seconds);
        self
    }

    const fn with_caller_id(mut self) -> Self {
        self.id_is_from_caller = true;
        self
    }
}

const AUTHORIZATION: Values = &[("HeaderName", "Authorization")];
const OCP_DATE: Values = &[("HeaderName", "ocp-date"), ("HeaderValue", "today")];
const CLIENT_ID: Values = &[("HeaderName", "client-request-id"), ("HeaderValue", "{not-a-guid}")];
const TIMEOUT: Values = &[("QueryParameterName", "timeout"), ("QueryParameterValue", "0"), ("MinimumAllowed", "1")];
const VERSION: Values = &[("QueryParameterName", "api-version"), ("QueryParameterValue", "2023-11-01.18.0"), ("Reason", "The version is no longer supported.")];
const AUDIENCE: Values = &[("AuthenticationErrorDetail", "The access token has been obtained from wrong audience or resource 'https://management.core.windows.net/'.")];
const STRING_TO_SIGN: Values = &[("AuthenticationErrorDetail", "The MAC signature found in the HTTP request 'c2ln' is not the same as any computed signature. Server used following string to sign: 'DELETE'.")];

const BEARER: &str = "Server failed to authenticate the request. Make sure the value of Authorization header is formed correctly.";
const SIGNATURE: &str = "Server failed to authenticate the request. Make sure the value of Authorization header is formed correctly including the signature.";
const BUSY: &str = "The server is currently unable to receive requests. Please retry your request.";

/// One row for each documented code.
pub const CODES: &[Row] = &[
    row(404, "NodeUserNotFound", "The specified node user does not exist.", &[], NotFound, "USER_NOT_FOUND"),
    row(404, "NodeNotFound", "The specified node does not exist.", &[], NotFound, "NODE_NOT_FOUND"),
    row(404, "PoolNotFound", "The specified pool does not exist.", &[], NotFound, "POOL_NOT_FOUND"),
    row(404, "ResourceNotFound", "The specified resource does not exist.", &[], NotFound, "UPSTREAM_RESOURCE_NOT_FOUND"),

    row(409, "OperationInvalidForCurrentState", "The operation is not valid for the current state of the resource.", &[], FailedPrecondition, "NODE_NOT_READY"),
    row(409, "NodeBeingCreated", "The specified node is being created.", &[], FailedPrecondition, "NODE_NOT_READY"),
    row(409, "NodeBeingStarted", "The specified node is being started.", &[], FailedPrecondition, "NODE_NOT_READY"),
    row(409, "NodeBeingRebooted", "The specified node is being rebooted.", &[], FailedPrecondition, "NODE_NOT_READY"),
    row(409, "NodeBeingReimaged", "The specified node is being reimaged.", &[], FailedPrecondition, "NODE_NOT_READY"),
    row(409, "OperationNotValidOnNode", "The specified operation is not valid on the node.", &[], FailedPrecondition, "NODE_NOT_READY"),
    row(409, "NodeStateUnusable", "The state of the specified node is unusable.", &[], FailedPrecondition, "NODE_UNUSABLE"),
    row(409, "OperationNotValidOnPool", "The specified operation is not valid on the pool.", &[], FailedPrecondition, "POOL_NOT_READY"),
    row(409, "PoolBeingDeleted", "The specified pool has been marked for deletion and is being reclaimed.", &[], FailedPrecondition, "POOL_NOT_READY"),
    row(409, "PoolBeingResized", "The specified pool is being resized.", &[], FailedPrecondition, "POOL_NOT_READY"),
    row(409, "PoolBeingCreated", "The specified pool is being created.", &[], FailedPrecondition, "POOL_NOT_READY"),
    row(409, "NodeUserExists", "The specified node user already exists.", &[], FailedPrecondition, "UPSTREAM_CONFLICT"),
    row(409, "ResourceAlreadyExists", "The specified resource already exists.", &[], FailedPrecondition, "UPSTREAM_CONFLICT"),
    row(409, "InvalidRestAPIForAccountSetting", "The API is not allowed by the account's setting.", &[], FailedPrecondition, "UPSTREAM_CONFLICT"),
    // The status of this code is not documented.
    row(403, "InvalidRestAPIForAccountSetting", "The API is not allowed by the account's setting.", &[], FailedPrecondition, "UPSTREAM_CONFLICT"),
    row(412, "ConditionNotMet", "The condition in the conditional headers was not met.", &[], FailedPrecondition, "UPSTREAM_CONFLICT"),

    row(400, "MissingRequiredHeader", "An HTTP header that's mandatory for this request is not specified.", AUTHORIZATION, Internal, "UPSTREAM_CREDENTIALS_REJECTED").attempts(2),
    row(400, "MissingRequiredHeader", "An HTTP header that's mandatory for this request is not specified.", OCP_DATE, Internal, "UPSTREAM_REJECTED_REQUEST"),
    row(400, "MissingRequiredQueryParameter", "A query parameter that's mandatory for this request is not specified.", &[("QueryParameterName", "timeout")], Internal, "UPSTREAM_REJECTED_REQUEST"),
    row(400, "InvalidHeaderValue", "The value for one of the HTTP headers is not in the correct format.", CLIENT_ID, InvalidArgument, "UPSTREAM_REJECTED_REQUEST").with_caller_id(),
    row(400, "InvalidHeaderValue", "The value for one of the HTTP headers is not in the correct format.", CLIENT_ID, Internal, "UPSTREAM_REJECTED_REQUEST"),
    row(400, "InvalidHeaderValue", "The value for one of the HTTP headers is not in the correct format.", OCP_DATE, Internal, "UPSTREAM_REJECTED_REQUEST").with_caller_id(),
    row(400, "InvalidQueryParameterValue", "Value for one of the query parameters specified in the request URI is invalid.", TIMEOUT, Internal, "UPSTREAM_REJECTED_REQUEST"),
    row(400, "OutOfRangeQueryParameterValue", "A query parameter specified in the request URI is outside the permissible range.", TIMEOUT, Internal, "UPSTREAM_REJECTED_REQUEST"),
    row(400, "UnsupportedQueryParameter", "One of the query parameters specified in the request URI is not supported.", &[], Internal, "UPSTREAM_REJECTED_REQUEST"),
    row(400, "UnsupportedHeader", "One of the HTTP headers specified in the request is not supported.", &[], Internal, "UPSTREAM_REJECTED_REQUEST"),
    // A version that is no longer served, in the forms that are documented or likely.
    row(400, "UnsupportedRequestVersion", "The specified request version is not supported.", &[], Internal, "UPSTREAM_API_VERSION_UNSUPPORTED"),
    row(400, "MissingRequiredQueryParameter", "A query parameter that's mandatory for this request is not specified.", VERSION, Internal, "UPSTREAM_API_VERSION_UNSUPPORTED"),
    row(400, "InvalidQueryParameterValue", "Value for one of the query parameters specified in the request URI is invalid.", VERSION, Internal, "UPSTREAM_API_VERSION_UNSUPPORTED"),
    row(400, "OutOfRangeQueryParameterValue", "A query parameter specified in the request URI is outside the permissible range.", VERSION, Internal, "UPSTREAM_API_VERSION_UNSUPPORTED"),
    row(400, "UnsupportedQueryParameter", "One of the query parameters specified in the request URI is not supported.", &[("QueryParameterName", "API-Version")], Internal, "UPSTREAM_API_VERSION_UNSUPPORTED"),
    row(400, "Nameless", "", VERSION, Internal, "UPSTREAM_API_VERSION_UNSUPPORTED"),
    // Only a 400 reports the version, and only a query parameter with this name is one.
    row(404, "Nameless", "", VERSION, NotFound, "UPSTREAM_RESOURCE_NOT_FOUND"),
    row(400, "InvalidHeaderValue", "The value for one of the HTTP headers is not in the correct format.", &[("HeaderName", "api-version")], Internal, "UPSTREAM_REJECTED_REQUEST"),
    row(400, "MultipleConditionHeadersNotSupported", "Multiple condition headers are not supported.", &[], Internal, "UPSTREAM_REJECTED_REQUEST"),
    row(400, "InvalidHttpVerb", "The HTTP verb specified was not recognized by the server.", &[], Internal, "UPSTREAM_REJECTED_REQUEST"),
    row(405, "UnsupportedHttpVerb", "The resource doesn't support the specified HTTP verb.", &[], Internal, "UPSTREAM_REJECTED_REQUEST"),
    row(400, "UnsupportedHttpVersion", "The specified HTTP version is not supported.", &[], Internal, "UPSTREAM_REJECTED_REQUEST"),
    row(505, "UnsupportedHttpVersion", "The specified HTTP version is not supported.", &[], Internal, "UPSTREAM_REJECTED_REQUEST"),
    row(501, "NotImplemented", "The requested operation is not implemented on the specified resource.", &[], Internal, "UPSTREAM_REJECTED_REQUEST"),
    row(400, "HostInformationNotPresent", "The required host information is not present in the request.", &[], Internal, "UPSTREAM_REJECTED_REQUEST"),
    row(400, "RequestUrlFailedToParse", "The url in the request could not be parsed.", &[], InvalidArgument, "UPSTREAM_REJECTED_REQUEST"),
    row(400, "InvalidUri", "The requested URI does not represent any resource on the server.", &[], InvalidArgument, "UPSTREAM_REJECTED_REQUEST"),
    row(400, "InvalidInput", "One of the request inputs is not valid.", &[], InvalidArgument, "UPSTREAM_REJECTED_REQUEST"),
    row(400, "OutOfRangeInput", "One of the request inputs is out of range.", &[], InvalidArgument, "UPSTREAM_REJECTED_REQUEST"),

    row(400, "InvalidAuthenticationInfo", "The authentication information was not provided in the correct format.", &[], Internal, "UPSTREAM_CREDENTIALS_REJECTED").attempts(2),
    row(401, "AuthenticationFailed", BEARER, AUDIENCE, Internal, "UPSTREAM_CREDENTIALS_REJECTED").attempts(2),
    row(403, "AuthenticationFailed", SIGNATURE, STRING_TO_SIGN, Internal, "UPSTREAM_CREDENTIALS_REJECTED").attempts(2),
    row(403, "AuthorizationFailure", "This request is not authorized to perform this operation.", &[], PermissionDenied, "UPSTREAM_PERMISSION_DENIED"),
    row(403, "InsufficientAccountPermissions", "The account being accessed does not have sufficient permissions.", &[], PermissionDenied, "UPSTREAM_PERMISSION_DENIED"),
    row(403, "PermissionMismatch", "The permissions do not match.", &[], PermissionDenied, "UPSTREAM_PERMISSION_DENIED"),
    row(403, "AccountIsDisabled", "The specified account is disabled.", &[], PermissionDenied, "UPSTREAM_PERMISSION_DENIED"),
    row(403, "IOError", "An I/O error occurred when accessing the specified resource.", &[], PermissionDenied, "UPSTREAM_PERMISSION_DENIED"),

    row(429, "TooManyRequests", "Request failed as server encountered too many requests. Please try again.", &[], ResourceExhausted, "UPSTREAM_THROTTLED").attempts(3).retry(5),
    row(503, "ServerBusy", BUSY, &[], Unavailable, "UPSTREAM_UNAVAILABLE").attempts(3).retry(5),
    row(500, "InternalError", "The server encountered an internal error. Please retry the request.", &[], Unavailable, "UPSTREAM_UNAVAILABLE").attempts(3).unknown().retry(5),
    row(500, "OperationTimedOut", "The operation could not be completed within the permitted time.", &[], DeadlineExceeded, "UPSTREAM_TIMED_OUT").attempts(3).unknown().retry(5),
    row(408, "OperationTimedOut", "The operation could not be completed within the permitted time.", &[], DeadlineExceeded, "UPSTREAM_TIMED_OUT").attempts(3).unknown().retry(5),
    row(429, "OperationTimedOut", "The operation could not be completed within the permitted time.", &[], ResourceExhausted, "UPSTREAM_THROTTLED").attempts(3).retry(5),
];

/// Undocumented codes are classified by their status.
pub const STATUSES: &[Row] = &[
    row(302, "Nameless", "", &[], Unavailable, "UPSTREAM_PROTOCOL_ERROR").unknown(),
    row(400, "Nameless", "", &[], Internal, "UPSTREAM_REJECTED_REQUEST"),
    row(401, "Nameless", "", &[], Internal, "UPSTREAM_CREDENTIALS_REJECTED").attempts(2),
    row(403, "Nameless", "", &[], PermissionDenied, "UPSTREAM_PERMISSION_DENIED"),
    row(404, "Nameless", "", &[], NotFound, "UPSTREAM_RESOURCE_NOT_FOUND"),
    row(405, "Nameless", "", &[], Internal, "UPSTREAM_REJECTED_REQUEST"),
    row(408, "Nameless", "", &[], Unavailable, "UPSTREAM_UNAVAILABLE").attempts(3).unknown().retry(5),
    row(409, "Nameless", "", &[], FailedPrecondition, "UPSTREAM_CONFLICT"),
    row(412, "Nameless", "", &[], FailedPrecondition, "UPSTREAM_CONFLICT"),
    row(413, "Nameless", "", &[], Internal, "UPSTREAM_REJECTED_REQUEST"),
    row(429, "Nameless", "", &[], ResourceExhausted, "UPSTREAM_THROTTLED").attempts(3).retry(5),
    row(500, "Nameless", "", &[], Unavailable, "UPSTREAM_UNAVAILABLE").attempts(3).unknown().retry(5),
    row(501, "Nameless", "", &[], Internal, "UPSTREAM_REJECTED_REQUEST"),
    row(502, "Nameless", "", &[], Unavailable, "UPSTREAM_UNAVAILABLE").attempts(3).unknown().retry(5),
    row(503, "Nameless", "", &[], Unavailable, "UPSTREAM_UNAVAILABLE").attempts(3).retry(5),
    row(504, "Nameless", "", &[], Unavailable, "UPSTREAM_UNAVAILABLE").attempts(3).unknown().retry(5),
    row(505, "Nameless", "", &[], Internal, "UPSTREAM_REJECTED_REQUEST"),
];
