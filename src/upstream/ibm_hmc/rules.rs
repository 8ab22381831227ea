//! The rules of the HMC, which map an HTTP status and a reason code of the HMC to a reason. The first row that
//! matches decides.
//!
//! Sources: D, the document "Delete User"; V, "Common request validation reason codes"; P, "Common request processing
//! reason codes"; S, "HTTP status codes"; L, "Change Logon Password"; Z, the zhmcclient library.

use crate::{
    error::rule::{Body, Rule, any, any_error_document, code, rules},
    proto::ErrorReason as R,
};

/// The rules for responses to the deletion and to the reads before it. The sources S, P and Z also describe the rows
/// of HTTP. The 503 that Z describes has an HTML page, and is sent while the Web Services API is disabled.
#[rustfmt::skip]
pub const RULES: &[Rule] = rules! { before_http: [], after_http: [
    // The session.
    code(403, "4", R::UpstreamCredentialsRejected, "Z: no session ID").renew(),
    code(403, "5", R::UpstreamCredentialsRejected, "Z: session ID not valid").renew(),

    // D
    code(400, "312", R::PatternBasedUser, "D"),
    code(400, "313", R::OwnUser, "D"),
    code(403, "1", R::UpstreamPermissionDenied, "D"),
    code(404, "1", R::UserNotFound, "D"),
    code(409, "317", R::TemplateUserInUse, "D"),
    code(409, "320", R::AutomaticLogonUser, "D"),
    code(409, "321", R::LastLocalAdministrator, "D"),
    code(409, "1", R::UpstreamConflict, "Z: not in the right state").alternate(),
    code(409, "2", R::UpstreamConflict, "Z: busy").alternate(),

    // "Additional standard status and reason codes can be returned" (D).
    code(400, "1", R::UpstreamRejectedRequest, "V: query parameter"),
    code(400, "2", R::UpstreamRejectedRequest, "V: required header"),
    code(400, "4", R::UpstreamRejectedRequest, "V: body where none is allowed"),
    code(400, "11", R::UpstreamRejectedRequest, "V: Content-Length"),
    code(400, "14", R::UpstreamRejectedRequest, "V: query parameter malformed"),
    any_error_document(405, R::UpstreamRejectedRequest, "S"),
    any_error_document(406, R::UpstreamRejectedRequest, "S"),
]};

/// The rules for responses to the logon, `POST /api/sessions`, except a 200 that contains a session.
#[rustfmt::skip]
pub const LOGON_RULES: &[Rule] = &[
    any(429, R::UpstreamThrottled, "HTTP").backoff(),
    any(408, R::UpstreamUnavailable, "HTTP").backoff(),
    any(501, R::UpstreamRejectedRequest, "S").down(),
    any(505, R::UpstreamRejectedRequest, "S").down(),
    Rule::new(500..=599, Body::Any, R::UpstreamUnavailable, "P; Z").backoff().down(),
    any(201, R::UpstreamCredentialsRejected, "L: partially authenticated session"),
    any(401, R::UpstreamCredentialsRejected, "HTTP"),
    any(403, R::UpstreamCredentialsRejected, "Z: logon refused"),
    code(400, "13", R::UpstreamSessionLimit, "V: maximum of sessions for this user"),
    code(409, "50", R::UpstreamCredentialsRejected, "L: another factor is needed"),
    code(409, "51", R::UpstreamCredentialsRejected, "L: a new password is needed"),
    code(409, "1", R::UpstreamConflict, "Z: not in the right state").alternate(),
    code(409, "2", R::UpstreamConflict, "Z: busy").alternate(),
    any_error_document(409, R::UpstreamConflict, "S"),
    any_error_document(412, R::UpstreamConflict, "HTTP"),
    Rule::new(400..=499, Body::AnyErrorDocument, R::UpstreamRejectedRequest, "V: 400/2,3,5,6,7,9,11; S: 415"),
    Rule::new(0..=u16::MAX, Body::Any, R::UpstreamProtocolError, "HTTP"),
];
