//! Error codes with which the service can respond to a request for a node. Each row comes from the vendor's table
//! "Batch Status and Error Codes" or, for values missing there, from recorded traffic.
//!
//! This module contains data only. A deletion of the user `answer-<Code>` on `pool-1/node-idle` returns the error in
//! the row of that code.

/// An error of the service.
pub(super) struct Row {
    pub(super) code: &'static str,
    pub(super) status: u16,
    pub(super) message: &'static str,
    /// Default `values` of the error, which are used if the check that reports the error provides none.
    pub(super) values: &'static [(&'static str, &'static str)],
    /// Value of the `Retry-After` header, in seconds.
    pub(super) retry_after: Option<u32>,
}

impl Row {
    const fn values(mut self, values: &'static [(&'static str, &'static str)]) -> Self {
        self.values = values;
        self
    }

    const fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }
}

const fn row(code: &'static str, status: u16, message: &'static str) -> Row {
    Row {
        code,
        status,
        message,
        values: &[],
        retry_after: None,
    }
}

/// Returns the row of a code, or `None` if the code is not in the table. Codes are compared exactly.
pub(super) fn find(code: &str) -> Option<&'static Row> {
    CODES.iter().find(|row| row.code == code)
}

/// The row that is used for a code that is not in the table.
pub(super) const INTERNAL_ERROR: Row = row(
    "InternalError",
    500,
    "The server encountered an internal error. Please retry the request.",
);

static CODES: &[Row] = &[
    // 404
    row("NodeUserNotFound", 404, "The specified node user does not exist."),
    row("NodeNotFound", 404, "The specified node does not exist."),
    row("PoolNotFound", 404, "The specified pool does not exist."),
    row("ResourceNotFound", 404, "The specified resource does not exist."),
    // 409: the node
    row(
        "OperationInvalidForCurrentState",
        409,
        "The specified operation is not valid for the current state of the resource.",
    ),
    row("NodeBeingCreated", 409, "The specified node is being created."),
    row("NodeBeingStarted", 409, "The specified node is being started."),
    row("NodeBeingRebooted", 409, "The specified node is being rebooted."),
    row("NodeBeingReimaged", 409, "The specified node is being reimaged."),
    row("NodeStateUnusable", 409, "The state of the specified node is unusable."),
    row("OperationNotValidOnNode", 409, "The specified operation is not valid on the node."),
    // 409: the pool
    row("OperationNotValidOnPool", 409, "The specified operation is not valid on the pool."),
    row("PoolBeingDeleted", 409, "The specified pool has been marked for deletion and is being reclaimed."),
    row("PoolBeingResized", 409, "The specified pool is being resized."),
    row("PoolBeingCreated", 409, "The specified pool is being created."),
    // 409: others
    row("NodeUserExists", 409, "The specified node user already exists."),
    row("ResourceAlreadyExists", 409, "The specified resource already exists."),
    // The HTTP status of this code is not documented.
    row(
        "InvalidRestAPIForAccountSetting",
        409,
        "The specified REST API is not allowed by the current setting of the Batch account.",
    ),
    // 400: headers and query
    row("MissingRequiredHeader", 400, "An HTTP header that's mandatory for this request is not specified.")
        .values(&[("HeaderName", "Authorization")]),
    row("MissingRequiredQueryParameter", 400, "A query parameter that's mandatory for this request is not specified.")
        .values(&[("QueryParameterName", "api-version")]),
    row("InvalidHeaderValue", 400, "The value for one of the HTTP headers is not in the correct format.")
        .values(&[("HeaderName", "client-request-id"), ("HeaderValue", "{not-a-guid}")]),
    row(
        "InvalidQueryParameterValue",
        400,
        "Value for one of the query parameters specified in the request URI is invalid.",
    )
    .values(&[
        ("QueryParameterName", "timeout"),
        ("QueryParameterValue", "soon"),
        ("Reason", "not an integer"),
    ]),
    row(
        "OutOfRangeQueryParameterValue",
        400,
        "A query parameter specified in the request URI is outside the permissible range.",
    )
    .values(&[
        ("QueryParameterName", "timeout"),
        ("QueryParameterValue", "0"),
        ("MinimumAllowed", "1"),
        ("MaximumAllowed", "2147483647"),
    ]),
    row("UnsupportedQueryParameter", 400, "One of the query parameters specified in the request URI is not supported.")
        .values(&[("QueryParameterName", "maxresults")]),
    row("UnsupportedHeader", 400, "One of the HTTP headers specified in the request is not supported.")
        .values(&[("HeaderName", "If-Match")]),
    row("UnsupportedRequestVersion", 400, "The specified request version is not supported."),
    row("MultipleConditionHeadersNotSupported", 400, "Multiple condition headers are not supported."),
    row("HostInformationNotPresent", 400, "The required host information is not present in the request."),
    // 400: the URL, the body, the verb
    row("RequestUrlFailedToParse", 400, "The url in the request could not be parsed."),
    row("InvalidUri", 400, "The requested URI does not represent any resource on the server."),
    row("InvalidInput", 400, "One of the request inputs is not valid."),
    row("OutOfRangeInput", 400, "One of the request inputs is out of range."),
    row("InvalidRequestBody", 400, "The specified Request Body is not syntactically valid."),
    row("InvalidHttpVerb", 400, "The HTTP verb specified was not recognized by the server."),
    row("UnsupportedHttpVerb", 405, "The resource doesn't support the specified HTTP verb."),
    row("RequestBodyTooLarge", 413, "The size of the request body exceeds the maximum size permitted."),
    row("UnsupportedHttpVersion", 505, "The specified HTTP version is not supported."),
    row("NotImplemented", 501, "The requested operation is not implemented on the specified resource."),
    // Authentication and authorization
    row(
        "InvalidAuthenticationInfo",
        400,
        "The authentication information was not provided in the correct format. Verify the value of Authorization \
         header.",
    ),
    row(
        "AuthenticationFailed",
        403,
        "Server failed to authenticate the request. Make sure the value of Authorization header is formed correctly \
         including the signature.",
    )
    .values(&[(
        "AuthenticationErrorDetail",
        "The specified type of authentication SharedKey is not allowed for this account.",
    )]),
    row("AuthorizationFailure", 403, "This request is not authorized to perform this operation."),
    row(
        "InsufficientAccountPermissions",
        403,
        "The account being accessed does not have sufficient permissions to execute this operation.",
    ),
    row("PermissionMismatch", 403, "The permissions of the caller do not match those that the operation needs."),
    row("AccountIsDisabled", 403, "The specified account is disabled."),
    row("IOError", 403, "An I/O error occurred when accessing the specified resource."),
    // The state of the service
    row(
        "ConditionNotMet",
        412,
        "The condition specified in the conditional header(s) was not met for a write operation.",
    ),
    row(
        "TooManyRequests",
        429,
        "Request failed as server encountered too many requests. Please try again.",
    )
    .retry_after(2),
    row("ServerBusy", 503, "The server is currently unable to receive requests. Please retry your request.")
        .retry_after(1),
    INTERNAL_ERROR,
    row("OperationTimedOut", 500, "The operation could not be completed within the permitted time."),
];
