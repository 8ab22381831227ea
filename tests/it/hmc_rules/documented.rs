//! Responses with the standard error body of the HMC: the reasons of "Delete User", the common reasons, and unknown
//! ones.

use tonic::Code::{
    Aborted, FailedPrecondition, Internal, NotFound, PermissionDenied, ResourceExhausted,
    Unavailable,
};
use useradmin_testkit::ScriptedReply::{Hmc, RetryAfter};

use super::{Row, final_response};

pub fn rows() -> Vec<Row> {
    let mut rows = delete_user();
    rows.extend(documented_for_all_requests());
    rows.extend(unknown_reasons());
    rows.extend(retry_after());
    rows
}

/// Reasons of "Delete User", section "HTTP status and reason codes".
#[rustfmt::skip]
fn delete_user() -> Vec<Row> {
    vec![
        final_response(Hmc(400, 312), FailedPrecondition, "PATTERN_BASED_USER"),
        final_response(Hmc(400, 313), FailedPrecondition, "OWN_USER"),
        final_response(Hmc(403, 1), PermissionDenied, "UPSTREAM_PERMISSION_DENIED"),
        final_response(Hmc(404, 1), NotFound, "USER_NOT_FOUND"),
        final_response(Hmc(409, 317), FailedPrecondition, "TEMPLATE_USER_IN_USE"),
        final_response(Hmc(409, 320), FailedPrecondition, "AUTOMATIC_LOGON_USER"),
        final_response(
            Hmc(409, 321),
            FailedPrecondition,
            "LAST_LOCAL_ADMINISTRATOR",
        ),
    ]
}

/// The common reasons that can occur for a deletion.
fn documented_for_all_requests() -> Vec<Row> {
    let rejected = |reason| final_response(Hmc(400, reason), Internal, "UPSTREAM_REJECTED_REQUEST");
    let expired =
        |reason| final_response(Hmc(403, reason), Internal, "UPSTREAM_CREDENTIALS_REJECTED");
    let busy = |reason| final_response(Hmc(409, reason), Aborted, "UPSTREAM_CONFLICT").retry();
    let defect = |reason| {
        let row = final_response(Hmc(500, reason), Unavailable, "UPSTREAM_UNAVAILABLE");
        row.attempts(3).unknown().retry()
    };
    vec![
        rejected(1),
        rejected(2),
        rejected(4),
        rejected(11),
        rejected(14),
        expired(4).attempts(2),
        expired(5).attempts(2),
        final_response(Hmc(403, 0), PermissionDenied, "UPSTREAM_PERMISSION_DENIED"),
        final_response(Hmc(403, 2), PermissionDenied, "UPSTREAM_PERMISSION_DENIED"),
        final_response(Hmc(403, 3), PermissionDenied, "UPSTREAM_PERMISSION_DENIED"),
        final_response(Hmc(404, 2), NotFound, "UPSTREAM_RESOURCE_NOT_FOUND"),
        final_response(Hmc(404, 4), NotFound, "UPSTREAM_RESOURCE_NOT_FOUND"),
        busy(1),
        busy(2),
        final_response(Hmc(409, 4), FailedPrecondition, "UPSTREAM_CONFLICT"),
        defect(0),
        defect(12),
        defect(39),
        defect(4100),
    ]
}

/// Undocumented reasons: the status decides.
fn unknown_reasons() -> Vec<Row> {
    let rejected = |status| final_response(Hmc(status, 99), Internal, "UPSTREAM_REJECTED_REQUEST");
    let conflict =
        |status| final_response(Hmc(status, 99), FailedPrecondition, "UPSTREAM_CONFLICT");
    let unavailable =
        |status| final_response(Hmc(status, 99), Unavailable, "UPSTREAM_UNAVAILABLE").attempts(3);
    vec![
        rejected(400),
        final_response(Hmc(400, u32::MAX), Internal, "UPSTREAM_REJECTED_REQUEST"),
        final_response(Hmc(401, 99), Internal, "UPSTREAM_CREDENTIALS_REJECTED").attempts(2),
        final_response(Hmc(403, 99), PermissionDenied, "UPSTREAM_PERMISSION_DENIED"),
        final_response(Hmc(404, 99), NotFound, "UPSTREAM_RESOURCE_NOT_FOUND"),
        final_response(Hmc(404, 0), NotFound, "UPSTREAM_RESOURCE_NOT_FOUND"),
        rejected(405),
        rejected(406),
        unavailable(408).unknown().retry(),
        conflict(409),
        rejected(410),
        conflict(412),
        rejected(413),
        rejected(415),
        final_response(Hmc(429, 99), ResourceExhausted, "UPSTREAM_THROTTLED")
            .attempts(3)
            .retry(),
        rejected(499),
        unavailable(500).unknown().retry(),
        rejected(501),
        unavailable(502).unknown().retry(),
        unavailable(503).retry(),
        unavailable(504).unknown().retry(),
        rejected(505),
        unavailable(599).unknown().retry(),
    ]
}

/// A pause of a minute does not fit the deadline, so it is passed on to the caller. A pause in an unknown format is
/// ignored.
#[rustfmt::skip]
fn retry_after() -> Vec<Row> {
    let busy = |after| {
        final_response(
            RetryAfter(429, 1, after),
            ResourceExhausted,
            "UPSTREAM_THROTTLED",
        )
    };
    let unavailable = |after| final_response(RetryAfter(503, 1, after), Unavailable, "UPSTREAM_UNAVAILABLE");
    vec![
        busy("60").retry(),
        busy("3600").retry(),
        busy("Fri, 31 Dec 2100 23:59:59 GMT").retry(),
        unavailable("60").retry(),
        unavailable("soon").attempts(3).retry(),
        unavailable("-5").attempts(3).retry(),
        final_response(RetryAfter(409, 2, "30"), Aborted, "UPSTREAM_CONFLICT").retry(),
        final_response(
            RetryAfter(409, 317, "30"),
            FailedPrecondition,
            "TEMPLATE_USER_IN_USE",
        ),
    ]
}
