//! Checks of the query parameters of a request to the Batch service.

use super::checks::Target;
use super::reply::Fault;
use crate::net::Incoming;

const API_VERSION: &str = "2023-11-01.18.0";

/// Checks `api-version`, then `timeout`, and then that all other parameters are supported. The version comes first,
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
    match parameter("api-version") {
        (None, _) => return Err(Fault::new("MissingRequiredQueryParameter")),
        (Some(API_VERSION), None) => {}
        (Some(_), Some(second)) => {
            return Err(invalid("api-version", second, "specified more than once"));
        }
        (Some(version), None) if looks_like_a_version(version) => {
            return Err(Fault::new("UnsupportedRequestVersion"));
        }
        (Some(version), None) => return Err(invalid("api-version", version, "not a version")),
    }
    match parameter("timeout") {
        (Some(_), Some(second)) => {
            return Err(invalid("timeout", second, "specified more than once"));
        }
        (Some(seconds), None) => timeout(seconds)?,
        (None, _) => {}
    }
    let is_known = |name: &str| match name.to_ascii_lowercase().as_str() {
        "api-version" | "timeout" => true,
        "$select" => matches!(target, Target::Node { .. }),
        _ => false,
    };
    match pairs.iter().find(|(name, _)| !is_known(name)) {
        Some((name, _)) => {
            Err(Fault::new("UnsupportedQueryParameter").values([("QueryParameterName", name)]))
        }
        None => Ok(()),
    }
}

/// Checks the value of `timeout`. Values above 30 seconds are valid; the real service treats them as 30 seconds.
fn timeout(text: &str) -> Result<(), Fault> {
    let seconds: i32 = text
        .parse()
        .map_err(|_| invalid("timeout", text, "not a 32-bit integer"))?;
    if seconds > 0 {
        return Ok(());
    }
    Err(Fault::new("OutOfRangeQueryParameterValue").values([
        ("QueryParameterName", "timeout"),
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

/// Returns whether the text has the format `YYYY-MM-DD.major.minor`.
fn looks_like_a_version(text: &str) -> bool {
    let mut parts = text.split(['-', '.']);
    let digits = |part: Option<&str>, length: usize| {
        part.is_some_and(|part| {
            (length == 0 || part.len() == length)
                && !part.is_empty()
                && part.bytes().all(|byte| byte.is_ascii_digit())
        })
    };
    [4, 2, 2, 0, 0]
        .into_iter()
        .all(|length| digits(parts.next(), length))
        && parts.next().is_none()
}
