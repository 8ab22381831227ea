//! The records of the audit log: as calls submit them, and as the writer serializes them. docs/audit.md describes the
//! format.

use serde::Serialize;
use serde_json::{Map, Value};
use time::OffsetDateTime;

use crate::proto::ErrorReason;

/// Version of the format.
pub(super) const VERSION: u64 = 1;
/// First bytes of every record. A line that starts with other bytes was written by another program.
pub(super) const PREFIX: &[u8] = b"{\"v\":";
/// Outcome that recovery adds to an intent if the process ended before it recorded an outcome.
pub(super) const UNKNOWN_AFTER_CRASH: &str = "unknown_after_crash";

#[derive(Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Event {
    /// A deletion is about to be requested.
    #[default]
    Intent,
    /// A call has ended.
    Outcome,
}

/// The content of one record.
#[derive(Clone, Default, Serialize)]
pub struct Entry {
    /// Time of the event. If `None`, the record has the time at which it is written.
    #[serde(skip)]
    pub at: Option<OffsetDateTime>,
    /// Whether this is the outcome of a recorded intent. Such an outcome is never dropped.
    #[serde(skip)]
    pub ends_intent: bool,
    pub event: Event,
    pub request_id: String,
    /// Verified identity of the caller.
    pub caller: String,
    /// How the caller was authenticated: `anonymous`, `certificate`, `token` or `none`.
    pub auth: &'static str,
    /// Why the caller was not authenticated.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub cause: &'static str,
    /// Address of the peer of the connection.
    pub peer: String,
    pub rpc: &'static str,
    /// Alias of the target.
    pub target: String,
    /// Name of the user, or its ID while the name is not known.
    pub user: String,
    /// Identifiers in the request, and those that the upstream added, such as the object ID of a user.
    #[serde(serialize_with = "as_map")]
    pub identifiers: Vec<(&'static str, String)>,
    /// Outcome, such as `deleted` or `not_sent`; empty in an intent.
    pub outcome: &'static str,
    /// Reason of a failure; empty if there is no failure.
    pub reason: &'static str,
    /// `client-request-id` that was sent to Azure Batch.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub client_request_id: String,
    /// `request-id` of Azure Batch's last response.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub upstream_request_id: String,
    /// Number of DELETE requests that were started.
    pub attempts: u32,
    /// Whether the caller disconnected before it received the response.
    pub caller_gone: bool,
    /// Number of refused calls that this record summarizes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// Time of the first refusal that this record summarizes.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub since: String,
}

fn as_map<S: serde::Serializer>(
    pairs: &[(&'static str, String)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(pairs.iter().map(|(key, value)| (key, value)))
}

/// An entry that the writer retains: an open intent, or an outcome that could not be written yet.
#[derive(Clone, Serialize)]
#[serde(untagged)]
pub(super) enum Retained {
    Entry(Box<Entry>),
    /// The fields of a record that an earlier process wrote.
    Recovered(Map<String, Value>),
}

impl Retained {
    pub(super) fn request_id(&self) -> &str {
        match self {
            Self::Entry(entry) => &entry.request_id,
            Self::Recovered(fields) => text(fields, "request_id"),
        }
    }

    /// Returns the time of the event, or `None` if it is not known.
    pub(super) const fn at(&self) -> Option<OffsetDateTime> {
        match self {
            Self::Entry(entry) => entry.at,
            Self::Recovered(_) => None,
        }
    }
}

/// Returns the fields of the outcome that is recorded for an intent whose process ended without recording one.
pub(super) fn unknown_after_crash(intent: &Map<String, Value>) -> Map<String, Value> {
    let mut outcome = intent.clone();
    outcome.retain(|key, _| !matches!(key.as_str(), "attempts" | "caller_gone"));
    let reason = ErrorReason::OutcomeUnknown.as_str_name();
    for (key, value) in [
        ("event", "outcome"),
        ("outcome", UNKNOWN_AFTER_CRASH),
        ("reason", reason),
    ] {
        outcome.insert(key.to_owned(), value.into());
    }
    outcome
}

pub(super) fn text<'a>(fields: &'a Map<String, Value>, key: &str) -> &'a str {
    fields.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// Returns a UTC time as RFC 3339 text with milliseconds.
pub fn timestamp(at: OffsetDateTime) -> String {
    let (year, month, day) = at.to_calendar_date();
    let (hour, minute, second, millisecond) = at.to_hms_milli();
    let month = u8::from(month);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millisecond:03}Z")
}
