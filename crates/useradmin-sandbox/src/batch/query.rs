//! Checks of the query parameters of a request to the Batch service.

use super::checks::Target;
use super::reply::Fault;
use crate::net::Incoming;

/// The versions that the service supports, and the name of the parameter with the time limit in each.
const VERSIONS: [(&str, &str); 5] = [
    ("2023-11-01.18.0", "timeout"),
    ("2024-02-01.19.0", "timeout"),
    ("2024-07-01.20.0", "timeOut"),
    ("2025-06-01", "timeOut"),
    ("2026-10-01", "timeOut"),
];

/// Checks `api-version`, then the time limit, and then that all other parameters are supported. The version comes first,
/// because the service needs it to know which parameters are supported.
pub(super) fn check(call: &Incoming, target: &Target) -> Result<(), Fault> {
    let pairs = call
        .query_pairs()
        .ok_or_else(|| Fault::new("RequestUrlFailedToParse"))?;
    let parameter = |expected: &'static str| {
        let mut values = pairs
            .iter()
            .filter(move |(name, _)| name.eq_ignore_ascii_case(expected));
        (
            values.next().map(|(_, value)| value.as_str()),
            values.next().map(|(_, value)| value.as_str()),
        )
    };
    let version = match parameter("api-version") {
        (None, _) => return Err(Fault::new("MissingRequiredQueryParameter")),
        (Some(version), None) => version,
        (Some(_), Some(second)) => {
            return Err(invalid("api-version", second, "specified more than once"));
        }
    };
    let Some((_, limit)) = VERSIONS.iter().find(|(name, _)| *name == version) else {
        return Err(if looks_like_a_version(version) {
            Fault::new("UnsupportedRequestVersion")
        } else {
            invalid("api-version", version, "not a version")
        });
    };
    match parameter(limit) {
        (Some(_), Some(second)) => {
            return Err(invalid(limit, second, "specified more than once"));
        }
        (Some(seconds), None) => timeout(limit, seconds)?,
        (None, _) => {}
    }
    // The simulated service requires the exact name of the time limit in the version, which the vendor does not
    // document as necessary.
    let is_known = |name: &str| match name.to_ascii_lowercase().as_str() {
        "api-version" => true,
        "timeout" => name == *limit,
        "$select" => !matches!(target, Target::User { .. }),
        _ => false,
    };
    match pairs.iter().find(|(name, _)| !is_known(name)) {
        Some((name, _)) => {
            Err(Fault::new("UnsupportedQueryParameter").values([("QueryParameterName", name)]))
        }
        None => Ok(()),
    }
}

/// Checks the time limit. Values above 30 seconds are valid; the real service treats them as 30 seconds.
fn timeout(name: &str, text: &str) -> Result<(), Fault> {
    let seconds: i32 = text
        .parse()
        .map_err(|_| invalid(name, text, "not a 32-bit integer"))?;
    if seconds > 0 {
        return Ok(());
    }
    Err(Fault::new("OutOfRangeQueryParameterValue").values([
        ("QueryParameterName", name),
        ("QueryParameterValue", text),
        ("MinimumAllowed", "1"),
        ("MaximumAllowed", "2147483647"),
    ]))
}

fn invalid(name: &str, value: &str, reason: &str) -> Fault {
    Fault::new("InvalidQueryParameterValue").values([
        ("QueryParameterName", name),
        ("QueryParameterValue", value),
        ("Reason", reason),
    ])
}

/// Returns whether the text has the format `YYYY-MM-DD` or `YYYY-MM-DD.major.minor`.
fn looks_like_a_version(text: &str) -> bool {
    let are_digits =
        |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let mut parts = text.split('.');
    let date = parts.next().unwrap_or_default();
    let numbers: Vec<_> = parts.collect();
    let is_date = date.split('-').map(str::len).eq([4, 2, 2]) && date.split('-').all(are_digits);
    is_date && matches!(numbers.len(), 0 | 2) && numbers.into_iter().all(are_digits)
}
