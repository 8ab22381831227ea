//! Verification of `SharedKey` signatures: the account name, the clock, and the HMAC-SHA256 of the string to sign.

use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::digest::KeyInit;
use hmac::{Hmac, Mac};
use sha2::Sha256;

use super::reply::Fault;
use crate::credentials::Credentials;
use crate::net::Incoming;

/// Headers whose values are signed, one per line, in this order.
const SIGNED: [&str; 11] = [
    "content-encoding",
    "content-language",
    "content-length",
    "content-md5",
    "content-type",
    "date",
    "if-modified-since",
    "if-match",
    "if-none-match",
    "if-unmodified-since",
    "range",
];
/// Maximum difference between the date of a request and the clock of the service.
const CLOCK_SKEW: Duration = Duration::from_mins(15);

/// Verifies the signature of a request. Returns an error if the account, the date or the signature is wrong.
pub(super) fn check(
    credentials: &Credentials,
    call: &Incoming,
    account: &str,
    signature: &str,
) -> Result<(), Fault> {
    let error_response = |detail: &str| {
        Err(Fault::new("AuthenticationFailed").values([("AuthenticationErrorDetail", detail)]))
    };
    if account != credentials.batch_account_name {
        return error_response(&format!(
            "The account '{account}' is not the account of this endpoint."
        ));
    }
    let Some(date) = call.header("ocp-date").or_else(|| call.header("date")) else {
        return error_response("The request has neither an ocp-date nor a Date header.");
    };
    if !httpdate::parse_http_date(date).is_ok_and(|time| is_near(time, SystemTime::now())) {
        return error_response(&format!(
            "The date header in the request is incorrect: '{date}' is not within 15 minutes."
        ));
    }
    let Some(text) = string_to_sign(call, account) else {
        return Err(Fault::new("RequestUrlFailedToParse"));
    };
    if is_signature(&credentials.batch_key, signature, &text) {
        return Ok(());
    }
    error_response(&format!(
        "The MAC signature found in the HTTP request '{signature}' is not the same as any computed signature. \
         Server used following string to sign: '{text}'."
    ))
}

fn is_signature(key: &str, signature: &str, text: &str) -> bool {
    let Ok(key) = STANDARD.decode(key) else {
        return false;
    };
    let Ok(signature) = STANDARD.decode(signature) else {
        return false;
    };
    // The qualified name is needed because both traits have a method of this name.
    let Ok(mut mac) = <Hmac<Sha256> as KeyInit>::new_from_slice(&key) else {
        return false;
    };
    mac.update(text.as_bytes());
    mac.verify_slice(&signature).is_ok()
}

fn is_near(time: SystemTime, now: SystemTime) -> bool {
    let difference = now
        .duration_since(time)
        .or_else(|_| time.duration_since(now));
    difference.is_ok_and(|difference| difference <= CLOCK_SKEW)
}

/// Returns the string that the client must sign, or `None` if the query cannot be decoded.
fn string_to_sign(call: &Incoming, account: &str) -> Option<String> {
    let mut text = format!("{}\n", call.method);
    let has_ocp_date = call.headers.contains_key("ocp-date");
    for name in SIGNED {
        // If the request has an ocp-date header, the line of the Date header is empty.
        let skip = name == "date" && has_ocp_date;
        text.extend([
            call.header(name).filter(|_| !skip).unwrap_or_default(),
            "\n",
        ]);
    }
    let mut ocp: Vec<&str> = call.headers.keys().map(http::HeaderName::as_str).collect();
    ocp.retain(|name| name.starts_with("ocp-"));
    ocp.sort_unstable();
    for name in ocp {
        text.extend([
            name,
            ":",
            call.header(name).unwrap_or_default().trim(),
            "\n",
        ]);
    }
    // The path is signed as it was sent, and the query is signed in decoded form.
    text.extend(["/", account, &call.path]);
    let with_lowercase_name = |(name, value): (String, String)| (name.to_ascii_lowercase(), value);
    let mut pairs: Vec<(String, String)> = call
        .query_pairs()?
        .into_iter()
        .map(with_lowercase_name)
        .collect();
    pairs.sort();
    for (name, value) in &pairs {
        text.extend(["\n", name, ":", value]);
    }
    Some(text)
}
