//! Parses and checks lines of the audit log. docs/audit.md describes the format.

use serde_json::{Map, Value};

use super::record::{UNKNOWN_AFTER_CRASH, VERSION, text};

/// Outcomes, and whether each needs an intent before it. Those that do not belong to calls that were refused or that
/// were to delete nothing.
const OUTCOMES: [(&str, bool); 9] = [
    ("deleted", true),
    ("already_absent", true),
    ("absent_after_retry", true),
    ("not_deleted", true),
    ("unknown", true),
    (UNKNOWN_AFTER_CRASH, true),
    ("not_sent", false),
    ("denied", false),
    ("validated", false),
];

/// Keys that describe a line, not the call.
const LINE_KEYS: [&str; 5] = ["v", "ts", "seq", "prev", "carried"];
const TEXTS: [&str; 9] = [
    "request_id",
    "caller",
    "peer",
    "rpc",
    "target",
    "user",
    "outcome",
    "reason",
    "ts",
];
/// Records of version 0.1.0 of the program lack `auth`.
const OPTIONAL_TEXTS: [&str; 5] = [
    "auth",
    "cause",
    "client_request_id",
    "upstream_request_id",
    "since",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Intent { carried: bool },
    Outcome { needs_intent: bool },
}

/// A parsed line.
pub(super) struct ParsedRecord {
    pub(super) seq: u64,
    pub(super) kind: Kind,
    fields: Map<String, Value>,
}

impl ParsedRecord {
    pub(super) fn request_id(&self) -> &str {
        text(&self.fields, "request_id")
    }

    /// Returns the hash of the line before.
    pub(super) fn prev(&self) -> &str {
        text(&self.fields, "prev")
    }

    /// Returns the fields of the call, without those of the line.
    pub(super) fn into_entry(mut self) -> Map<String, Value> {
        self.fields
            .retain(|key, _| !LINE_KEYS.contains(&key.as_str()));
        self.fields
    }
}

/// Parses a line. Errors do not quote the line. Unknown keys are ignored: a later version may have added them.
pub(super) fn parse(line: &[u8]) -> Result<ParsedRecord, String> {
    let Ok(Value::Object(fields)) = serde_json::from_slice(line) else {
        return Err("no record: not a JSON object".to_owned());
    };
    let number = |key: &str| fields.get(key).and_then(Value::as_u64);
    if number("v") != Some(VERSION) {
        return Err(format!("no record: `v` is not {VERSION}"));
    }
    let seq = number("seq").ok_or_else(|| wrong("seq", "a whole number"))?;
    if !fields.get("prev").is_some_and(Value::is_string) {
        return Err(wrong("prev", "a text"));
    }
    check_keys(&fields)?;
    let kind = match text(&fields, "event") {
        "intent" => {
            let carried = fields.get("carried");
            if carried.is_some_and(|value| *value != Value::Bool(true)) {
                return Err(wrong("carried", "true"));
            }
            Kind::Intent {
                carried: carried.is_some(),
            }
        }
        "outcome" => {
            let outcome = text(&fields, "outcome");
            let known = OUTCOMES.iter().find(|(name, _)| *name == outcome);
            let (_, needs_intent) = known.ok_or_else(|| wrong("outcome", "an outcome"))?;
            // A panic in a call that was to delete nothing.
            let without_attempt = outcome == "unknown" && number("attempts") == Some(0);
            Kind::Outcome {
                needs_intent: *needs_intent && !without_attempt,
            }
        }
        _ => return Err(wrong("event", "an event")),
    };
    Ok(ParsedRecord { seq, kind, fields })
}

fn check_keys(fields: &Map<String, Value>) -> Result<(), String> {
    TEXTS.iter().try_for_each(|key| need_text(fields, key))?;
    if text(fields, "request_id").is_empty() {
        return Err(wrong("request_id", "a text that is not empty"));
    }
    for key in OPTIONAL_TEXTS {
        if fields.contains_key(key) {
            need_text(fields, key)?;
        }
    }
    let identifiers = fields.get("identifiers").and_then(Value::as_object);
    if !identifiers.is_some_and(|found| found.values().all(Value::is_string)) {
        return Err(wrong("identifiers", "an object of texts"));
    }
    let known = text(fields, "outcome") != UNKNOWN_AFTER_CRASH;
    if known && !fields.get("attempts").is_some_and(Value::is_u64) {
        return Err(wrong("attempts", "a whole number"));
    }
    if known && !fields.get("caller_gone").is_some_and(Value::is_boolean) {
        return Err(wrong("caller_gone", "true or false"));
    }
    if fields.get("count").is_some_and(|count| !count.is_u64()) {
        return Err(wrong("count", "a whole number"));
    }
    Ok(())
}

fn need_text(fields: &Map<String, Value>, key: &str) -> Result<(), String> {
    let fits = fields.get(key).is_some_and(Value::is_string);
    fits.then_some(()).ok_or_else(|| wrong(key, "a text"))
}

fn wrong(key: &str, want: &str) -> String {
    format!("no record: `{key}` is not {want}")
}
