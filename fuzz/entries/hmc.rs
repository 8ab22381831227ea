//! Responses of an HMC: errors, sessions and users.

use http::HeaderValue;
use prost::Message as _;
use serde_json::Value;
use useradmin::{
    proto::{ErrorReason as R, HmcError},
    upstream::{
        classify::failure,
        ibm_hmc::{
            NAMES,
            classify::error_facts,
            rules::{LOGON_RULES, RULES},
            wire,
        },
        path,
        redact::Secrets,
        response::Response,
    },
};

use super::{response_text, status};

const SESSION: &str = "3gcf6hzkfbm6fuqtbeslwqs4v7ykm6yt1vm3kmwjmw0i5kq5hx";
const PASSWORD: &str = "p4ss \"w\u{f6}rd\"";
const ID: &str = "1b3ca0b0-2a5e-11e5-a3e5-00262df332b3";
const IDENTIFIERS: [(&str, &str); 3] = [("hmc", "east"), ("user_id", ID), ("user_name", "ALICE")];

/// Checks a response to every kind of request.
pub fn hmc(bytes: &[u8]) {
    let Some(response) = response_text::parse(bytes) else {
        return;
    };
    let document = response_text::json(&response);
    check_error(&response, &document);
    check_session(&response, &document);
    check_users(&response, &document);
    check_filter(&String::from_utf8_lossy(
        response.body.as_deref().unwrap_or_default(),
    ));
}

/// Returns the reason of the standard error body, parsed without the product's code.
fn hmc_reason(response: &Response, document: &Value) -> Option<u32> {
    let status = document.as_object()?.get("http-status")?.as_u64()?;
    let reason = u32::try_from(document["reason"].as_u64()?).ok();
    reason.filter(|_| status == u64::from(response.status))
}

fn check_error(response: &Response, document: &Value) {
    let secrets = Secrets::new([SESSION, PASSWORD]);
    let hmc_reason = hmc_reason(response, document);
    let certain = match response.status {
        401 | 429 | 501 | 503 | 505 => true,
        408 => false,
        400..=499 => hmc_reason.is_some(),
        _ => false,
    };
    for table in [RULES, LOGON_RULES] {
        let mut failure = failure(&NAMES, table, response, error_facts(response, &secrets));
        let is_delete = std::ptr::eq(table, RULES);
        if is_delete {
            status::check_outcome(&failure, certain);
        } else {
            failure = failure.for_read();
        }
        let absent = is_delete && response.status == 404 && hmc_reason == Some(1);
        assert_eq!(failure.reason == R::UserNotFound, absent, "{failure:?}");
        let actual = failure
            .upstream_response
            .as_deref()
            .expect("there was a response");
        assert_eq!(actual.http_status, response.status);
        assert_eq!(actual.code, hmc_reason.map(|reason| reason.to_string()));
        assert_eq!(actual.document.is_some(), hmc_reason.is_some());
        if let Some(typed) = &actual.document {
            let error = HmcError::decode(&*typed.detail().value).expect("an HmcError");
            assert_eq!(error.http_status, u32::from(response.status));
            assert_eq!(Some(error.reason), hmc_reason);
            let message = document["message"].as_str().unwrap_or_default();
            assert!(response_text::is_part_or_redacted(&error.message, message));
        }
        let actual = status::status_of(&failure, &NAMES, &IDENTIFIERS);
        status::check_secrets(&failure, &actual, &[SESSION, PASSWORD]);
    }
}

/// Checks the response to a logon.
fn check_session(response: &Response, document: &Value) {
    if let Some(session) = wire::session(response) {
        assert_eq!(document["api-session"].as_str(), Some(session.as_str()));
        assert!(!session.is_empty() && HeaderValue::from_str(&session).is_ok());
    }
    if let Some(days) = wire::password_expires(response) {
        assert!(days >= 0 && document["password-expires"].as_i64() == Some(days));
    }
}

/// Checks the responses to reads of users.
fn check_users(response: &Response, document: &Value) {
    if let Some(user) = wire::user(response, ID, SESSION) {
        assert_eq!(user.id, ID);
        assert_eq!(document["name"].as_str(), Some(&*user.name));
        assert!(!user.name.is_empty() && !user.name.contains(SESSION));
        let about = document["object-id"].as_str();
        assert!(about.is_none_or(|id| id.eq_ignore_ascii_case(ID)));
    }
    let Some(users) = wire::users(response, SESSION) else {
        return;
    };
    let entries = document["users"].as_array().expect("a list");
    assert_eq!(users.len(), entries.len());
    for (user, entry) in users.iter().zip(entries) {
        assert_eq!(entry["name"].as_str(), Some(&*user.name));
        assert!(!user.name.contains(SESSION) && !user.id.contains(SESSION));
        // The deletion uses the URI of the listed user.
        let path = path::build(&["api", "users", &user.id], "").expect("one segment");
        assert_eq!(entry["object-uri"].as_str(), Some(path.path()));
    }
}

/// Asserts that the filter is a regular expression without operators that matches the name and nothing else.
fn check_filter(name: &str) {
    let filter = wire::name_filter(name);
    let mut fits = String::new();
    let mut rest = filter.chars();
    while let Some(c) = rest.next() {
        match c {
            // Before a letter or a digit, the backslash would start an operator.
            '\\' => {
                let quoted = rest
                    .next()
                    .filter(|c| c.is_ascii() && !c.is_ascii_alphanumeric());
                fits.push(quoted.expect("a quoted character"));
            }
            c => {
                assert!(!c.is_ascii() || c.is_ascii_alphanumeric(), "{filter}");
                fits.push(c);
            }
        }
    }
    assert_eq!(fits, name);
}
