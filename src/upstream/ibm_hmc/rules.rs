//! Table A of the HMC: HTTP status and reason code -> reason. The first row that fits decides.
//!
//! Sources: D, the document "Delete User"; V, "Common request validation reason codes"; P, "Common request
//! processing reason codes"; S, "HTTP status codes"; L, "Change Logon Password"; Z, the zhmcclient library;
//! H, HTTP itself.

use crate::{
    error::rule::{Body, Rule, any, code, own},
    proto::ErrorReason as R,
};

/// Answers to `DELETE /api/users/{user-id}` and to the reads before it.
#[rustfmt::skip]
pub const RULES: &[Rule] = &[
    // Whatever the body.
    any(429, R::UpstreamThrottled, "H").backoff(),
    any(408, R::UpstreamUnavailable, "H").backoff().unknown(),
    any(501, R::UpstreamRejectedRequest, "S").down(),
    any(505, R::UpstreamRejectedRequest, "S").down(),
    any(503, R::UpstreamUnavailable, "S").backoff().down(),
    Rule::new(500..=599, Body::Any, R::UpstreamUnavailable, "P: 500/0-39; Z: HTML when Web Services are off").backoff().unknown().down(),

    // The session: renewed once.
    any(401, R::UpstreamCredentialsRejected, "H").renew(),
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

    // Any other: by status. "Additional standard status and reason codes can be returned" (D).
    code(400, "1", R::UpstreamRejectedRequest, "V: query parameter"),
    code(400, "2", R::UpstreamRejectedRequest, "V: required header"),
    code(400, "4", R::UpstreamRejectedRequest, "V: body where none is allowed"),
    code(400, "11", R::UpstreamRejectedRequest, "V: Content-Length"),
    code(400, "14", R::UpstreamRejectedRequest, "V: query parameter malformed"),
    own(405, R::UpstreamRejectedRequest, "S"),
    own(406, R::UpstreamRejectedRequest, "S"),
    own(403, R::UpstreamPermissionDenied, "S"),
    own(404, R::UpstreamResourceNotFound, "S"),
    own(409, R::UpstreamConflict, "S"),
    own(412, R::UpstreamConflict, "H"),
    Rule::new(400..=499, Body::Own, R::UpstreamRejectedRequest, "V; S"),

    // Not the HMC's words: a redirect, an unexpected success, a proxy's page.
    Rule::new(0..=u16::MAX, Body::Any, R::UpstreamProtocolError, "H").unknown(),
];

/// Answers to the logon, `POST /api/sessions`. A 200 that holds a session does not come here.
#[rustfmt::skip]
pub const LOGON_RULES: &[Rule] = &[
    any(429, R::UpstreamThrottled, "H").backoff(),
    any(408, R::UpstreamUnavailable, "H").backoff(),
    any(501, R::UpstreamRejectedRequest, "S").down(),
    any(505, R::UpstreamRejectedRequest, "S").down(),
    Rule::new(500..=599, Body::Any, R::UpstreamUnavailable, "P; Z").backoff().down(),
    any(201, R::UpstreamCredentialsRejected, "L: partially authenticated session"),
    any(401, R::UpstreamCredentialsRejected, "H"),
    any(403, R::UpstreamCredentialsRejected, "Z: logon refused; H"),
    code(400, "13", R::UpstreamSessionLimit, "V: maximum of sessions for this user"),
    code(409, "50", R::UpstreamCredentialsRejected, "L: another factor is needed"),
    code(409, "51", R::UpstreamCredentialsRejected, "L: a new password is needed"),
    code(409, "1", R::UpstreamConflict, "Z: not in the right state").alternate(),
    code(409, "2", R::UpstreamConflict, "Z: busy").alternate(),
    own(409, R::UpstreamConflict, "S"),
    own(412, R::UpstreamConflict, "H"),
    Rule::new(400..=499, Body::Own, R::UpstreamRejectedRequest, "V: 400/2,3,5,6,7,9,11; S: 415"),
    Rule::new(0..=u16::MAX, Body::Any, R::UpstreamProtocolError, "H"),
];
