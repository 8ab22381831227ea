//! The reasons why no access token could be obtained. Callers receive them in the metadata key `cause`.

use crate::{error::Failure, proto::ErrorReason, upstream::static_credential::CREDENTIAL_UNUSABLE};

/// Microsoft Entra refused a token without one of the known OAuth errors.
pub const CREDENTIAL_REFUSED: &str = "credential_refused";
/// No connection to the token endpoint could be established, or it was closed.
pub const TOKEN_ENDPOINT_UNREACHABLE: &str = "token_endpoint_unreachable";
/// The token endpoint answered 408, 410, 429 or 5xx, or with an error that Microsoft documents as transient.
pub const TOKEN_ENDPOINT_UNAVAILABLE: &str = "token_endpoint_unavailable";
/// The response of the token endpoint contains no usable token.
pub const TOKEN_RESPONSE_NOT_UNDERSTOOD: &str = "token_response_not_understood";
/// No token was received within `token_timeout_seconds` or before the deadline of the call.
pub const TOKEN_TIMED_OUT: &str = "token_timed_out";
/// The program `az` was not found.
pub const AZURE_CLI_NOT_FOUND: &str = "azure_cli_not_found";
/// No account is logged in to the Azure CLI.
pub const AZURE_CLI_NOT_LOGGED_IN: &str = "azure_cli_not_logged_in";
/// The Azure CLI does not know the command or its arguments.
pub const AZURE_CLI_TOO_OLD: &str = "azure_cli_too_old";
/// The output of the Azure CLI contains no usable token.
pub const AZURE_CLI_OUTPUT_NOT_UNDERSTOOD: &str = "azure_cli_output_not_understood";
/// The Azure CLI failed in another way.
pub const AZURE_CLI_FAILED: &str = "azure_cli_failed";
/// Microsoft Entra requires a user to sign in, such as with a second factor, or to consent.
pub const INTERACTION_REQUIRED: &str = "interaction_required";
/// Microsoft Entra did not accept the token of the caller, for example because it has expired or has another audience.
pub const ASSERTION_REJECTED: &str = "assertion_rejected";
pub const CONSENT_REQUIRED: &str = "consent_required";
pub const INVALID_GRANT: &str = "invalid_grant";
pub const LOGIN_REQUIRED: &str = "login_required";

const TEMPORARILY_UNAVAILABLE: &str = "temporarily_unavailable";
const SERVER_ERROR: &str = "server_error";

/// OAuth 2.0 errors of Microsoft Entra. They are causes under their own names.
const OAUTH_ERRORS: [&str; 13] = [
    "access_denied",
    CONSENT_REQUIRED,
    INTERACTION_REQUIRED,
    "invalid_client",
    INVALID_GRANT,
    "invalid_request",
    "invalid_resource",
    "invalid_scope",
    LOGIN_REQUIRED,
    SERVER_ERROR,
    TEMPORARILY_UNAVAILABLE,
    "unauthorized_client",
    "unsupported_grant_type",
];

const OTHER_CAUSES: [&str; 12] = [
    ASSERTION_REJECTED,
    CREDENTIAL_UNUSABLE,
    CREDENTIAL_REFUSED,
    TOKEN_ENDPOINT_UNREACHABLE,
    TOKEN_ENDPOINT_UNAVAILABLE,
    TOKEN_RESPONSE_NOT_UNDERSTOOD,
    TOKEN_TIMED_OUT,
    AZURE_CLI_NOT_FOUND,
    AZURE_CLI_NOT_LOGGED_IN,
    AZURE_CLI_TOO_OLD,
    AZURE_CLI_OUTPUT_NOT_UNDERSTOOD,
    AZURE_CLI_FAILED,
];

/// `AADSTS` errors that Microsoft documents as transient.
const TRANSIENT_CODES: [u32; 11] = [
    40_010, // OAuth2IdPRetryableServerError
    50_033, // RetryableError
    50_087, // SasRetryableError
    70_012, // MsaServerError
    90_006, // ExternalServerRetryableError
    90_012, // RequestTimeout
    90_024, // RequestBudgetExceededError
    90_033, // MsodsServiceUnavailable
    90_055, // TenantThrottlingError
    90_090, // GraphRetryableError
    90_091, // GraphServiceUnreachable
];

pub fn all() -> impl Iterator<Item = &'static str> {
    OAUTH_ERRORS.into_iter().chain(OTHER_CAUSES)
}

/// Returns the OAuth error with this name, or `None` if it is not a known one.
pub fn oauth_error(text: &str) -> Option<&'static str> {
    OAUTH_ERRORS.into_iter().find(|known| *known == text)
}

/// Returns the number of the first `AADSTS` error in a text.
pub fn aadsts_code(text: &str) -> Option<u32> {
    let (_, rest) = text.split_once("AADSTS")?;
    let end = rest.find(|c: char| !c.is_ascii_digit());
    rest[..end.unwrap_or(rest.len())].parse().ok()
}

/// Returns whether Microsoft documents one of these errors as transient.
pub fn is_transient(oauth_error: Option<&str>, aadsts: Option<u32>) -> bool {
    matches!(oauth_error, Some(TEMPORARILY_UNAVAILABLE | SERVER_ERROR))
        || aadsts.is_some_and(|code| TRANSIENT_CODES.contains(&code))
}

/// Returns the failure for a credential that is refused or unusable until the operator corrects it.
pub fn rejected(cause: &'static str, context: impl Into<String>) -> Failure {
    Failure {
        cause: Some(cause),
        ..Failure::new(ErrorReason::UpstreamCredentialsRejected, context)
    }
}

/// Returns the failure of a token request that may succeed if it is repeated.
pub fn unreachable(cause: &'static str, context: impl Into<String>) -> Failure {
    Failure {
        cause: Some(cause),
        ..Failure::new(ErrorReason::UpstreamUnreachable, context).repeatable()
    }
}
