//! What stands in a line: how a record is made, and how one is recognised. docs/audit.md describes it.

use std::io;

use serde::Serialize;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;

use super::{Entry, Head, lines::hex};
use crate::{escape::escape, proto::ErrorReason};

/// The version of the records.
const VERSION: u64 = 1;
/// How every record begins: what begins otherwise was written by somebody else.
pub const BEGINNING: &[u8] = b"{\"v\":";
/// What became of an intent that a crash cut off.
pub const UNKNOWN_AFTER_CRASH: &str = "unknown_after_crash";

/// Outcomes; `true` where the intent must stand before it. The others are of calls that were refused, or that were
/// to delete nothing.
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

/// Keys that belong to a line rather than to what it tells.
const OF_THE_LINE: [&str; 5] = ["v", "ts", "seq", "prev", "carried"];
/// Keys that nobody can know after a crash.
const OF_THE_PROCESS: [&str; 2] = ["attempts", "caller_gone"];
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
/// `auth` came later than the others.
const OPTIONAL_TEXTS: [&str; 5] = [
    "auth",
    "cause",
    "client_request_id",
    "upstream_request_id",
    "since",
];

/// An entry that the writer keeps.
#[derive(Clone, Serialize)]
#[serde(untagged)]
pub enum Item {
    /// Told by a call.
    Told(Box<Entry>),
    /// Made from what an earlier process has left.
    Found(Map<String, Value>),
}

impl Item {
    /// The call.
    pub fn request_id(&self) -> &str {
        match self {
            Self::Told(entry) => &entry.request_id,
            Self::Found(entry) => text(entry, "request_id"),
        }
    }

    /// When it was told, if that is known.
    const fn at(&self) -> Option<OffsetDateTime> {
        match self {
            Self::Told(entry) => Some(entry.at),
            Self::Found(_) => None,
        }
    }
}

/// What a line tells.
#[derive(Clone, Copy, Serialize)]
#[serde(untagged)]
pub enum Body<'a> {
    /// An entry of a call that waits for it.
    Told(&'a Entry),
    /// One that was kept.
    Kept(&'a Item),
    /// An intent of the file before that has no outcome yet.
    Carried {
        /// The intent.
        #[serde(flatten)]
        intent: &'a Item,
        /// Always true.
        carried: bool,
    },
}

impl Body<'_> {
    /// When it was told, if that is known.
    pub const fn at(&self) -> Option<OffsetDateTime> {
        match self {
            Self::Told(entry) => Some(entry.at),
            Self::Kept(item) => item.at(),
            Self::Carried { .. } => None,
        }
    }
}

/// A record as it stands in the file.
#[derive(Serialize)]
struct Record<'a> {
    v: u64,
    ts: &'a str,
    seq: u64,
    #[serde(flatten)]
    body: Body<'a>,
    /// SHA-256 of the line before, in hex; empty in the first record of all.
    prev: &'a str,
}

/// The lines of these records, and where they leave the chain.
pub fn lines(head: &Head, bodies: &[Body<'_>]) -> io::Result<(String, Head)> {
    let Head {
        mut seq,
        hash: mut prev,
    } = head.clone();
    let mut lines = String::new();
    let now = OffsetDateTime::now_utc();
    for body in bodies {
        seq += 1;
        let record = Record {
            v: VERSION,
            ts: &timestamp(body.at().unwrap_or(now)),
            seq,
            body: *body,
            prev: &prev,
        };
        let line = serde_json::to_string(&record)?;
        // Before the hash, which is one of what stands in the file.
        let line = escape(&line);
        prev = hex(&Sha256::digest(line.as_bytes()));
        lines.push_str(&line);
        lines.push('\n');
    }
    Ok((lines, Head { seq, hash: prev }))
}

/// UTC, RFC 3339, in milliseconds.
#[must_use]
pub fn timestamp(at: OffsetDateTime) -> String {
    let (date, time) = (at.date(), at.time());
    let (hour, minute, second) = time.as_hms();
    format!(
        "{date}T{hour:02}:{minute:02}:{second:02}.{:03}Z",
        time.millisecond()
    )
}

/// What kind of record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A deletion is about to be requested.
    Intent {
        /// It stood in the file before.
        carried: bool,
    },
    /// How a call ended.
    Outcome {
        /// The intent must stand before it.
        of_an_intent: bool,
    },
}

/// A record as it was read.
pub struct Found {
    /// Its place in the chain.
    pub seq: u64,
    /// What kind.
    pub kind: Kind,
    fields: Map<String, Value>,
}

impl Found {
    /// The call.
    pub fn request_id(&self) -> &str {
        text(&self.fields, "request_id")
    }

    /// Hash of the line before.
    pub fn prev(&self) -> &str {
        text(&self.fields, "prev")
    }

    /// What it tells, without what belongs to its line.
    pub fn into_entry(mut self) -> Map<String, Value> {
        self.fields
            .retain(|key, _| !OF_THE_LINE.contains(&key.as_str()));
        self.fields
    }
}

/// The outcome of an intent whose process has died: who and what are the intent's, the end is nobody's knowledge.
pub fn unknown_after_crash(intent: &Map<String, Value>) -> Map<String, Value> {
    let mut outcome = intent.clone();
    outcome.retain(|key, _| !OF_THE_PROCESS.contains(&key.as_str()));
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

/// Reads a line as a record. What is wrong with it is told without a word of the line itself. Keys that are not
/// known are let pass: a later version may have added them.
pub fn read(line: &[u8]) -> Result<Found, String> {
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
            let (_, of_an_intent) = known.ok_or_else(|| wrong("outcome", "an outcome"))?;
            // A panic in a call that was to delete nothing.
            let of_nothing = outcome == "unknown" && number("attempts") == Some(0);
            Kind::Outcome {
                of_an_intent: *of_an_intent && !of_nothing,
            }
        }
        _ => return Err(wrong("event", "an event")),
    };
    Ok(Found { seq, kind, fields })
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

fn text<'a>(fields: &'a Map<String, Value>, key: &str) -> &'a str {
    fields.get(key).and_then(Value::as_str).unwrap_or_default()
}
