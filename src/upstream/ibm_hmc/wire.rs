//! Parses documents of an HMC, any value of which may be wrong. Its error documents repeat the request with the session
//! ID: only status, reason and message are used.

use serde_json::Value;
use zeroize::Zeroizing;

use crate::{
    names,
    proto::HmcError,
    upstream::{redact::Secrets, response::Response},
};

const USERS: &str = "/api/users/";
/// Length of the shortest session ID that is searched for in names. Shorter ones occur in names by chance.
const MIN_SESSION_BYTES: usize = 16;

/// A user as the HMC describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HmcUser {
    pub id: String,
    /// Name, as the HMC spells it.
    pub name: String,
    /// `standard`, `template`, `pattern-based`, `system-defined`, or empty.
    pub kind: String,
}

/// Returns the standard error document, or `None` if the body is not one: a JSON object with the integers `reason` and
/// `http-status`, which must be equal to the status line. Texts that repeat `secrets` are redacted.
pub fn error(response: &Response, secrets: &Secrets) -> Option<HmcError> {
    let document = response.json();
    let number = |key| u32::try_from(document[key].as_u64()?).ok();
    let http_status = number("http-status").filter(|n| *n == u32::from(response.status))?;
    let message = document["message"].as_str().unwrap_or_default();
    Some(HmcError {
        http_status,
        reason: number("reason")?,
        message: secrets.redact(message),
    })
}

/// Returns the session ID of a response to a logon.
pub fn session(response: &Response) -> Option<Zeroizing<String>> {
    let document = response.json();
    let session = document["api-session"].as_str()?;
    let plain = !session.is_empty() && session.bytes().all(|b| b.is_ascii_graphic());
    plain.then(|| Zeroizing::new(session.to_owned()))
}

/// Returns the number of days until the password expires, if it does.
pub fn password_expires(response: &Response) -> Option<i64> {
    let days = response.json()["password-expires"].as_i64()?;
    (days >= 0).then_some(days)
}

/// Returns the user that `GET /api/users/{id}` describes. A name that contains the session ID is ignored.
pub fn user(response: &Response, id: &str, session: &str) -> Option<HmcUser> {
    let document = response.json();
    let text = |key| document[key].as_str();
    // The name of another user must not be used for this deletion.
    if text("object-id").is_some_and(|found| !found.eq_ignore_ascii_case(id)) {
        return None;
    }
    Some(HmcUser {
        id: id.to_owned(),
        name: text("name")
            .filter(|name| !name.is_empty() && !repeats_session(name, session))?
            .to_owned(),
        kind: text("type").unwrap_or("").to_owned(),
    })
}

/// Returns the users that `GET /api/console/users` lists, or `None` if an entry has no name or no usable URI, or repeats
/// the session ID.
pub fn users(response: &Response, session: &str) -> Option<Vec<HmcUser>> {
    let document = response.json();
    let list = document["users"].as_array()?;
    list.iter().map(|entry| listed(entry, session)).collect()
}

fn listed(entry: &Value, session: &str) -> Option<HmcUser> {
    let text = |key| {
        entry[key]
            .as_str()
            .filter(|text| !repeats_session(text, session))
    };
    Some(HmcUser {
        id: text("object-uri")?
            .strip_prefix(USERS)
            .filter(|id| names::is_object_id(id))?
            .to_owned(),
        name: text("name")?.to_owned(),
        kind: text("type").unwrap_or("").to_owned(),
    })
}

fn repeats_session(text: &str, session: &str) -> bool {
    session.len() >= MIN_SESSION_BYTES && Secrets::new([session]).occur_in(text)
}

/// Returns the value of the `name` filter that matches this name only: a Java regular expression that must match the
/// whole name.
pub fn name_filter(name: &str) -> String {
    let mut filter = String::with_capacity(name.len() * 2);
    for c in name.chars() {
        if c.is_ascii() && !c.is_ascii_alphanumeric() {
            filter.push('\\');
        }
        filter.push(c);
    }
    filter
}
