//! The HMC's documents, read with distrust. Its error bodies echo the request, session ID and all: nothing
//! but status, reason and message is taken from them.

use serde_json::Value;
use zeroize::Zeroizing;

use crate::{
    names,
    proto::HmcError,
    upstream::{redact::Secrets, response::Response},
};

const USERS: &str = "/api/users/";
/// Session IDs are longer; what is shorter stands in an honest name by chance.
const LEAST_SESSION: usize = 16;

/// A user as the HMC describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HmcUser {
    /// Object ID.
    pub id: String,
    /// Name, as the HMC spells it.
    pub name: String,
    /// `standard`, `template`, `pattern-based`, `system-defined`, or empty.
    pub kind: String,
}

/// The standard error body; `None` when the body is not one: a JSON object with the integers `http-status`,
/// equal to the status line, and `reason`. What repeats `secrets` is not passed on.
#[must_use]
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

/// The session ID of a logon response.
#[must_use]
pub fn session(response: &Response) -> Option<Zeroizing<String>> {
    let document = response.json();
    let session = document["api-session"].as_str()?;
    let plain = !session.is_empty() && session.bytes().all(|b| b.is_ascii_graphic());
    plain.then(|| Zeroizing::new(session.to_owned()))
}

/// Days until the password expires, if it does.
#[must_use]
pub fn password_expires(response: &Response) -> Option<i64> {
    let days = response.json()["password-expires"].as_i64()?;
    (days >= 0).then_some(days)
}

/// The user that `GET /api/users/{id}` describes. A name that repeats the session is none.
#[must_use]
pub fn user(response: &Response, id: &str, session: &str) -> Option<HmcUser> {
    let document = response.json();
    let text = |key| document[key].as_str();
    // A response about somebody else must not lend its name to this deletion.
    if text("object-id").is_some_and(|found| !found.eq_ignore_ascii_case(id)) {
        return None;
    }
    Some(HmcUser {
        id: id.to_owned(),
        name: text("name")
            .filter(|name| !name.is_empty() && !is_told(name, session))?
            .to_owned(),
        kind: text("type").unwrap_or("").to_owned(),
    })
}

/// The users that `GET /api/console/users` lists; `None` unless every entry has a name and a usable URI, neither of
/// which repeats the session.
#[must_use]
pub fn users(response: &Response, session: &str) -> Option<Vec<HmcUser>> {
    let document = response.json();
    let list = document["users"].as_array()?;
    list.iter().map(|entry| listed(entry, session)).collect()
}

fn listed(entry: &Value, session: &str) -> Option<HmcUser> {
    let text = |key| entry[key].as_str().filter(|text| !is_told(text, session));
    Some(HmcUser {
        id: text("object-uri")?
            .strip_prefix(USERS)
            .filter(|id| names::is_object_id(id))?
            .to_owned(),
        name: text("name")?.to_owned(),
        kind: text("type").unwrap_or("").to_owned(),
    })
}

fn is_told(text: &str, session: &str) -> bool {
    session.len() >= LEAST_SESSION && Secrets::new([session]).is_in(text)
}

/// The value of the `name` filter that fits this name alone: a Java regular expression that must match whole.
#[must_use]
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
