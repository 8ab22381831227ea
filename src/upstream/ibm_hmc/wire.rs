//! Parses documents of an HMC. No value in them is trusted. The error documents repeat the request with the session
//! ID, so only the status, the reason and the message are used.

use serde_json::Value;
use zeroize::Zeroizing;

use super::names::same_name;
use crate::{
    names,
    proto::HmcError,
    upstream::{redact::Secrets, response::Response},
};

const USERS: &str = "/api/users/";
/// Minimum length of a session ID that is searched for in names, in bytes. Shorter ones occur in names by chance.
const MIN_SESSION_BYTES: usize = 16;

/// A user as the HMC describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HmcUser {
    pub id: String,
    /// Name, in the case that the HMC uses.
    pub name: String,
    /// The user's type, or `None` if the HMC did not send a documented one.
    pub kind: Option<UserKind>,
    /// Whether the HMC has described the user, in a list or alone.
    pub was_read: bool,
    /// Properties that a list of users does not contain; `None` if the user itself was not read.
    pub details: Option<UserDetails>,
}

impl HmcUser {
    /// Returns the user as it was read alone. Keeps the type from the list if it was not sent again. Returns `None` if
    /// the user has another name than in the list.
    pub fn with_details(&self, user: Self) -> Option<Self> {
        if self.was_read && !same_name(&self.name, &user.name) {
            return None;
        }
        let kind = user.kind.or(self.kind);
        Some(Self { kind, ..user })
    }
}

/// The type of a user (data model of the User object).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserKind {
    Standard,
    Template,
    PatternBased,
    SystemDefined,
}

/// Properties of the User object; each is `None` if the HMC did not send it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UserDetails {
    pub disabled: Option<bool>,
    /// Whether data replication from another HMC may create the user again.
    pub replication_overwrite_possible: Option<bool>,
}

impl UserKind {
    fn parse(text: &str) -> Option<Self> {
        let kinds = [
            Self::Standard,
            Self::Template,
            Self::PatternBased,
            Self::SystemDefined,
        ];
        kinds.into_iter().find(|kind| kind.as_str() == text)
    }

    /// Returns the value of the property `type`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::Template => "template",
            Self::PatternBased => "pattern-based",
            Self::SystemDefined => "system-defined",
        }
    }

    /// Returns the task that the HMC requires for the deletion of such a user ("Delete User", Authorization
    /// requirements), or `None` if such a user cannot be deleted.
    pub const fn required_task(self) -> Option<&'static str> {
        match self {
            Self::Standard | Self::SystemDefined => Some("Manage Users"),
            Self::Template => Some("Manage User Templates"),
            Self::PatternBased => None,
        }
    }
}

/// Returns the standard error document, or `None` if the body is not one. An error document is a JSON object with the
/// integers `reason` and `http-status`; the latter must be equal to the status of the response. Texts that repeat
/// `secrets` are redacted.
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

/// Returns the session ID of a response to a logon, or `None` if there is no usable one.
pub fn session(response: &Response) -> Option<Zeroizing<String>> {
    let document = response.json();
    let session = document["api-session"].as_str()?;
    let plain = !session.is_empty() && session.bytes().all(|b| b.is_ascii_graphic());
    plain.then(|| Zeroizing::new(session.to_owned()))
}

/// Returns the number of days until the password expires, or `None` if the password does not expire.
pub fn password_expires(response: &Response) -> Option<i64> {
    let days = response.json()["password-expires"].as_i64()?;
    (days >= 0).then_some(days)
}

/// Returns the user that a response to `GET /api/users/{id}` describes. Returns `None` if the response describes
/// another user, has no name, or has a name that contains the session ID.
pub fn user(response: &Response, id: &str, session: &str) -> Option<HmcUser> {
    let document = response.json();
    let text = |key| document[key].as_str();
    let flag = |key| document[key].as_bool();
    // A response about another user must not be used for this deletion.
    if text("object-id").is_some_and(|found| !found.eq_ignore_ascii_case(id)) {
        return None;
    }
    Some(HmcUser {
        id: id.to_owned(),
        name: text("name")
            .filter(|name| !name.is_empty() && !repeats_session(name, session))?
            .to_owned(),
        kind: text("type").and_then(UserKind::parse),
        was_read: true,
        details: Some(UserDetails {
            disabled: flag("disabled"),
            replication_overwrite_possible: flag("replication-overwrite-possible"),
        }),
    })
}

/// Returns the users that a response to `GET /api/console/users` lists. Returns `None` if an entry has no name or no
/// usable URI, or repeats the session ID.
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
        kind: text("type").and_then(UserKind::parse),
        was_read: true,
        details: None,
    })
}

fn repeats_session(text: &str, session: &str) -> bool {
    session.len() >= MIN_SESSION_BYTES && Secrets::new([session]).occur_in(text)
}

/// Returns the `name` filter for this name alone: a Java regular expression that matches the whole name.
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
