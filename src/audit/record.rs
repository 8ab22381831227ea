//! The records of the audit log. docs/audit.md describes the format.

use std::sync::Arc;

use serde_json::{Map, Value};
use time::OffsetDateTime;

use crate::{
    error::status::short, json::Members, proto::ErrorReason, timestamp::with_milliseconds,
};

/// Version of the records of intents and outcomes.
const VERSION: u8 = 1;
/// Version of the records of reconciliations, an event that readers of version 1 do not know.
pub(super) const LATEST_VERSION: u8 = 2;
/// First bytes of every record. A line that starts with other bytes was written by another program.
pub(super) const PREFIX: &[u8] = b"{\"v\":";
/// Initial capacity of a record in bytes, which is enough for most records.
const TYPICAL_BYTES: usize = 640;
/// Outcome that recovery adds to an intent if the process ended before it recorded an outcome.
pub(super) const UNKNOWN_AFTER_CRASH: &str = "unknown_after_crash";

#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub enum Event {
    /// A deletion is about to be requested.
    #[default]
    Intent,
    /// A call has ended.
    Outcome,
    /// The user of a call whose outcome is unknown was read.
    Reconciled,
}

impl Event {
    const fn name(self) -> &'static str {
        match self {
            Self::Intent => "intent",
            Self::Outcome => "outcome",
            Self::Reconciled => "reconciled",
        }
    }

    /// Returns the version of the records of this event.
    pub(super) const fn version(self) -> u8 {
        match self {
            Self::Intent | Self::Outcome => VERSION,
            Self::Reconciled => LATEST_VERSION,
        }
    }
}

/// The facts that all records of a call contain. Texts are truncated by [`short`].
#[derive(Clone, Copy, Default)]
pub struct CallFields<'a> {
    /// Verified identity of the caller.
    pub caller: &'a str,
    /// How the caller was authenticated: `anonymous`, `certificate`, `token` or `none`.
    pub auth: &'static str,
    /// Why the caller was not authenticated; empty if it was.
    pub cause: &'static str,
    /// `caller` if the target is called under the identity of the caller; empty if it is called under that of the
    /// service.
    pub upstream_identity: &'static str,
    /// Address of the peer of the connection.
    pub peer: &'a str,
    pub rpc: &'static str,
    /// Alias of the target.
    pub target: &'a str,
    /// Name of the user, or its ID while the name is not known.
    pub user: &'a str,
    /// Identifiers in the request, and those that the upstream added, such as the object ID of a user.
    pub identifiers: &'a [(&'static str, String)],
}

/// The ID of a call and its [`CallFields`], as members that the records of the call share.
#[derive(Clone, Default)]
pub struct CallMembers {
    request_id: Arc<str>,
    members: Members,
}

impl CallMembers {
    pub fn new(request_id: Arc<str>, fields: &CallFields<'_>) -> Self {
        let mut members = Members::with_capacity(TYPICAL_BYTES);
        members.plain("request_id", &request_id);
        members.string("caller", short(fields.caller));
        members.plain("auth", fields.auth);
        if !fields.cause.is_empty() {
            members.plain("cause", fields.cause);
        }
        members.plain("peer", fields.peer);
        members.plain("rpc", fields.rpc);
        members.string("target", short(fields.target));
        members.string("user", short(fields.user));
        if !fields.upstream_identity.is_empty() {
            members.plain("upstream_identity", fields.upstream_identity);
        }
        members.object("identifiers", |members| {
            for (key, value) in fields.identifiers {
                members.string(key, short(value));
            }
        });
        Self {
            request_id,
            members,
        }
    }
}

/// The facts that differ between the records of a call.
#[derive(Clone, Copy, Default)]
pub struct Entry<'a> {
    pub event: Event,
    /// Whether this is the outcome of a recorded intent. Such an outcome is never dropped.
    pub ends_intent: bool,
    /// Outcome, such as `deleted` or `not_sent`; empty in an intent.
    pub outcome: &'static str,
    /// Reason of a failure; empty if there is no failure.
    pub reason: &'static str,
    /// `client-request-id` that was sent to Azure Batch, or an empty string.
    pub client_request_id: &'a str,
    /// `request-id` of Azure Batch's last response, or an empty string.
    pub upstream_request_id: &'a str,
    /// Number of DELETE requests that were started.
    pub attempts: u32,
    /// Whether the caller disconnected before it received the response.
    pub caller_gone: bool,
    /// In a summary, the number of refused calls and the time of the first one.
    pub summary: Option<(u64, OffsetDateTime)>,
}

/// A record, except for the keys that depend on its position in the chain.
#[derive(Clone)]
pub struct Record {
    /// Time of the event. If `None`, the record has the time at which it is written.
    pub(super) at: Option<OffsetDateTime>,
    pub(super) event: Event,
    pub(super) ends_intent: bool,
    pub(super) request_id: Arc<str>,
    pub(super) outcome: &'static str,
    pub(super) members: Members,
    /// The deletion to count with this intent.
    pub(super) charge: Option<Charge>,
}

/// A deletion that counts against the quota of its caller, if the intent is recorded.
#[derive(Clone)]
pub struct Charge {
    /// The caller, in a form that differs for different kinds of identities.
    pub caller: String,
    /// Maximum number of deletions in any period of 60 seconds.
    pub limit: u32,
}

/// A call whose outcome is unknown, and that no later record settles.
#[derive(Debug)]
pub struct Case {
    /// The members of the outcome, or of the intent if there is no outcome, without those that describe the line.
    pub(super) members: Map<String, Value>,
    /// Whether a record states that the user could not be read.
    pub(super) recorded_unreadable: bool,
}

impl Case {
    pub fn request_id(&self) -> &str {
        text(&self.members, "request_id")
    }

    pub fn rpc(&self) -> &str {
        text(&self.members, "rpc")
    }

    /// Returns the alias of the target.
    pub fn target(&self) -> &str {
        text(&self.members, "target")
    }

    /// Returns the name of the user, or its ID if the name is not known.
    pub fn user(&self) -> &str {
        text(&self.members, "user")
    }

    /// Returns the reason of the outcome, or an empty text.
    pub fn reason(&self) -> &str {
        text(&self.members, "reason")
    }

    /// Returns whether a record states that the user could not be read.
    pub const fn is_recorded_unreadable(&self) -> bool {
        self.recorded_unreadable
    }

    /// Returns an identifier of the user, such as `user_id`.
    pub fn identifier(&self, key: &str) -> Option<&str> {
        self.members.get("identifiers")?.get(key)?.as_str()
    }
}

impl Record {
    /// Returns whether a call waits for this record before it sends a DELETE.
    pub(super) fn is_intent(&self) -> bool {
        self.event == Event::Intent
    }

    /// Returns whether this is the outcome of a call.
    pub(super) fn is_outcome(&self) -> bool {
        self.event == Event::Outcome
    }

    /// Creates the record of an event of a call that happens now.
    pub fn new(call: &CallMembers, entry: &Entry<'_>) -> Self {
        let mut members = Members::with_capacity(TYPICAL_BYTES);
        members.plain("event", entry.event.name());
        members.extend(&call.members);
        members.plain("outcome", entry.outcome);
        members.plain("reason", entry.reason);
        for (key, id) in [
            ("client_request_id", entry.client_request_id),
            ("upstream_request_id", entry.upstream_request_id),
        ] {
            if !id.is_empty() {
                members.string(key, short(id));
            }
        }
        members.value("attempts", entry.attempts);
        members.value("caller_gone", entry.caller_gone);
        if let Some((count, since)) = entry.summary {
            members.value("count", count);
            members.plain("since", &with_milliseconds(since));
        }
        Self {
            at: Some(OffsetDateTime::now_utc()),
            event: entry.event,
            ends_intent: entry.ends_intent,
            request_id: Arc::clone(&call.request_id),
            outcome: entry.outcome,
            members,
            charge: None,
        }
    }

    /// Returns the record of an intent, changed to count a deletion.
    pub fn with_charge(self, charge: Option<Charge>) -> Self {
        Self { charge, ..self }
    }

    /// Logs that this outcome will not be recorded.
    pub(super) fn log_loss(&self) {
        let (request_id, outcome) = (&*self.request_id, self.outcome);
        tracing::error!(request_id, outcome, "audit outcome lost");
    }

    /// Creates a record from these members.
    fn from_members(event: Event, outcome: &'static str, members: Map<String, Value>) -> Self {
        Self {
            at: None,
            event,
            ends_intent: event == Event::Outcome,
            request_id: text(&members, "request_id").into(),
            outcome,
            members: members.into(),
            charge: None,
        }
    }

    /// Creates the intent that an earlier process wrote with these members.
    pub(super) fn recovered_intent(members: Map<String, Value>) -> Self {
        Self::from_members(Event::Intent, "", members)
    }

    /// Creates the outcome of an intent that an earlier process wrote with these members, and that has no outcome.
    pub(super) fn unknown_after_crash(intent: Map<String, Value>) -> Self {
        let reason = ErrorReason::OutcomeUnknown.as_str_name();
        Self::about_call(Event::Outcome, intent, UNKNOWN_AFTER_CRASH, reason)
    }

    /// Creates the record of a finding about the user of a call whose outcome is unknown. The user was read now.
    /// `reason` is empty, or the reason why the user could not be read.
    pub fn reconciled(case: &Case, finding: &'static str, reason: &'static str) -> Self {
        Self {
            at: Some(OffsetDateTime::now_utc()),
            ..Self::about_call(Event::Reconciled, case.members.clone(), finding, reason)
        }
    }

    /// Creates a record about a call that an earlier record with these members describes.
    fn about_call(
        event: Event,
        mut members: Map<String, Value>,
        outcome: &'static str,
        reason: &'static str,
    ) -> Self {
        members.retain(|key, _| !matches!(key.as_str(), "attempts" | "caller_gone"));
        Self::following(event, members, outcome, reason)
    }

    /// Creates the outcome of this intent, whose call timed out while it was written.
    pub(super) fn not_sent(&self) -> Self {
        let object = format!("{{{}}}", self.members.as_str());
        let intent = serde_json::from_str(&object).unwrap_or_default();
        Self {
            at: Some(OffsetDateTime::now_utc()),
            ..Self::following(
                Event::Outcome,
                intent,
                "not_sent",
                ErrorReason::AuditUnavailable.as_str_name(),
            )
        }
    }

    /// Creates a record with the members of an earlier record of the call, except for these.
    fn following(
        event: Event,
        mut members: Map<String, Value>,
        outcome: &'static str,
        reason: &'static str,
    ) -> Self {
        for (key, value) in [
            ("event", event.name()),
            ("outcome", outcome),
            ("reason", reason),
        ] {
            members.insert(key.to_owned(), value.into());
        }
        Self::from_members(event, outcome, members)
    }
}

pub(super) fn text<'a>(fields: &'a Map<String, Value>, key: &str) -> &'a str {
    fields.get(key).and_then(Value::as_str).unwrap_or_default()
}
