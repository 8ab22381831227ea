//! Reads a file line by line in bounded memory, hashes each line, and parses records. docs/audit.md describes the
//! format.

use std::io::{self, BufRead as _, BufReader, Read};

use ring::digest::{Context, SHA256, digest};
use serde_json::{Map, Value};

use super::{
    chain::hex,
    record::{LATEST_VERSION, PREFIX, UNKNOWN_AFTER_CRASH, text},
};

/// Outcomes, and whether each must have an intent before it. Calls that were refused or that only validate have no
/// intent.
const OUTCOMES: [(&str, bool); 9] = [
    ("deleted", true),
    ("already_absent", true),
    ("absent_after_retry", true),
    ("not_deleted", true),
    (UNKNOWN, true),
    (UNKNOWN_AFTER_CRASH, true),
    ("not_sent", false),
    ("denied", false),
    ("validated", false),
];

/// Outcome of a call whose last DELETE may have been carried out.
const UNKNOWN: &str = "unknown";

/// Findings of reconciliations, and whether each settles the call.
/// The last five are outcomes of calls that another replica had recorded as unknown.
const FINDINGS: [(&str, bool); 8] = [
    ("absent", true),
    ("present", true),
    ("unreadable", false),
    ("deleted", true),
    ("already_absent", true),
    ("absent_after_retry", true),
    ("not_deleted", true),
    ("not_sent", true),
];

/// Keys that describe the line itself, not the call.
const LINE_KEYS: [&str; 6] = ["v", "ts", "seq", "prev", "carried", "replica"];
const REQUIRED_TEXTS: [&str; 10] = [
    "prev",
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

/// Describes the last line of a file to which a server may write.
pub(super) const BEING_WRITTEN: &str =
    "the last line has no end: a server may be writing it, or a crash cut it off";
/// Maximum number of bytes of a line that are kept in memory. Records are shorter. The hash covers the whole line.
const MAX_LINE: u64 = 1 << 20;
const BUFFER: usize = 64 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Intent { carried: bool },
    Outcome { needs_intent: bool, unknown: bool },
    Reconciled { settled: bool },
}

pub(super) struct Record {
    pub(super) seq: u64,
    pub(super) kind: Kind,
    fields: Map<String, Value>,
}

impl Record {
    pub(super) fn request_id(&self) -> &str {
        self.text("request_id")
    }

    /// Returns the text of a key, or an empty text.
    pub(super) fn text(&self, key: &str) -> &str {
        text(&self.fields, key)
    }

    /// Returns the number of a key.
    pub(super) fn number(&self, key: &str) -> Option<u64> {
        self.fields.get(key)?.as_u64()
    }

    /// Returns names and values of the identifiers.
    pub(super) fn identifiers(&self) -> impl Iterator<Item = (&str, &str)> {
        let identifiers = self.fields.get("identifiers").and_then(Value::as_object);
        let texts = identifiers.into_iter().flatten();
        texts.filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)))
    }

    /// Returns the hash of the line before this record, from the key `prev`.
    pub(super) fn previous_hash(&self) -> &str {
        self.text("prev")
    }

    /// Returns the fields that describe the call, without those that describe the line.
    pub(super) fn into_entry(mut self) -> Map<String, Value> {
        self.fields
            .retain(|key, _| !LINE_KEYS.contains(&key.as_str()));
        self.fields
    }
}

pub(super) struct Line {
    /// The first bytes of the line, without its newline, at most [`MAX_LINE`].
    text: Vec<u8>,
    /// Length of the line in the file in bytes, without the newline.
    pub(super) len: u64,
    /// Whether a newline ends the line.
    pub(super) ended: bool,
    /// Whether all bytes are NUL, that is, space that the file system allocated and that was never written.
    pub(super) blank: bool,
    /// SHA-256 of all bytes without the newline, in hex.
    pub(super) hash: String,
}

impl Line {
    /// Creates the line of a record that a database has stored.
    pub(super) fn new(text: String) -> Self {
        Self {
            len: text.len() as u64,
            ended: true,
            blank: false,
            hash: hex(digest(&SHA256, text.as_bytes()).as_ref()),
            text: text.into_bytes(),
        }
    }

    /// Parses the line as a record. Errors describe the fault without quoting the line.
    pub(super) fn record(&self) -> Result<Record, String> {
        let whole = self
            .complete_text()
            .ok_or("no record: the line is too long")?;
        parse(whole)
    }

    /// Returns the text, or `None` if the line is longer than [`MAX_LINE`], which no record is.
    pub(super) fn complete_text(&self) -> Option<&[u8]> {
        (self.len == self.text.len() as u64).then_some(&*self.text)
    }

    /// Returns whether the line starts with [`PREFIX`]. For a shorter line, returns whether it is the beginning of
    /// the prefix.
    pub(super) fn starts_as_record(&self) -> bool {
        let common = self.text.len().min(PREFIX.len());
        self.text[..common] == PREFIX[..common]
    }

    /// Returns whether a line without a newline is the beginning of a record, or a record that lacks only its newline.
    pub(super) fn is_being_written(&self) -> bool {
        let Some(text) = self.complete_text().filter(|_| self.starts_as_record()) else {
            return false;
        };
        match serde_json::from_slice::<serde::de::IgnoredAny>(text) {
            Ok(_) => text.ends_with(b"}"),
            Err(error) => error.is_eof(),
        }
    }
}

pub(super) struct LineReader<R>(BufReader<R>);

impl<R: Read> LineReader<R> {
    /// Creates a reader that starts at the current position of `file`.
    pub(super) fn new(file: R) -> Self {
        Self(BufReader::with_capacity(BUFFER, file))
    }

    /// Returns the next line, or `None` at the end of the file.
    pub(super) fn next(&mut self) -> io::Result<Option<Line>> {
        let mut line = Line {
            text: Vec::new(),
            len: 0,
            ended: false,
            blank: true,
            hash: String::new(),
        };
        let mut hash = Context::new(&SHA256);
        let mut part = Vec::new();
        while !line.ended {
            part.clear();
            let mut limited = self.0.by_ref().take(MAX_LINE);
            if limited.read_until(b'\n', &mut part)? == 0 {
                break;
            }
            line.ended = part.pop_if(|byte| *byte == b'\n').is_some();
            line.blank &= part.iter().all(|byte| *byte == 0);
            hash.update(&part);
            if line.len == 0 {
                line.text.clone_from(&part);
            }
            line.len += part.len() as u64;
        }
        if line.len == 0 && !line.ended {
            return Ok(None);
        }
        line.blank &= line.len > 0;
        line.hash = hex(hash.finish().as_ref());
        Ok(Some(line))
    }
}

/// Parses a record. Unknown keys are ignored, because a later version of the format may have added them.
fn parse(line: &[u8]) -> Result<Record, String> {
    let Ok(Value::Object(fields)) = serde_json::from_slice(line) else {
        return Err("no record: not a JSON object".to_owned());
    };
    let number = |key: &str| fields.get(key).and_then(Value::as_u64);
    if !number("v").is_some_and(|version| (1..=LATEST_VERSION.into()).contains(&version)) {
        return Err(wrong_type("v", "1 or 2"));
    }
    let seq = number("seq").ok_or_else(|| wrong_type("seq", "a whole number"))?;
    check_keys(&fields)?;
    let kind = match text(&fields, "event") {
        "intent" => Kind::Intent {
            carried: fields.contains_key("carried"),
        },
        "outcome" => {
            let outcome = text(&fields, "outcome");
            let needs_intent = property(&OUTCOMES, outcome, "an outcome")?;
            // No DELETE was sent: the call panicked before its intent, such as one that only validates.
            let without_attempt = outcome == UNKNOWN && number("attempts") == Some(0);
            Kind::Outcome {
                needs_intent: needs_intent && !without_attempt,
                unknown: !without_attempt && [UNKNOWN, UNKNOWN_AFTER_CRASH].contains(&outcome),
            }
        }
        "reconciled" => Kind::Reconciled {
            settled: property(&FINDINGS, text(&fields, "outcome"), "a finding")?,
        },
        _ => return Err(wrong_type("event", "an event")),
    };
    Ok(Record { seq, kind, fields })
}

/// Returns the property of an outcome in a table. `want` describes the outcomes in the table.
fn property(table: &[(&str, bool)], outcome: &str, want: &str) -> Result<bool, String> {
    let known = table.iter().find(|(name, _)| *name == outcome);
    let property = known.map(|(_, property)| *property);
    property.ok_or_else(|| wrong_type("outcome", want))
}

fn check_keys(fields: &Map<String, Value>) -> Result<(), String> {
    let check = |key, required: bool, fits: fn(&Value) -> bool, want| {
        let valid = fields.get(key).map_or(!required, fits);
        valid.then_some(()).ok_or_else(|| wrong_type(key, want))
    };
    for key in REQUIRED_TEXTS {
        check(key, true, Value::is_string, "a text")?;
    }
    for key in OPTIONAL_TEXTS {
        check(key, false, Value::is_string, "a text")?;
    }
    if text(fields, "request_id").is_empty() {
        return Err(wrong_type("request_id", "a text that is not empty"));
    }
    let of_texts = |value: &Value| {
        let object = value.as_object();
        object.is_some_and(|object| object.values().all(Value::is_string))
    };
    check("identifiers", true, of_texts, "an object of texts")?;
    let known =
        text(fields, "outcome") != UNKNOWN_AFTER_CRASH && text(fields, "event") != "reconciled";
    check("attempts", known, Value::is_u64, "a whole number")?;
    check("caller_gone", known, Value::is_boolean, "true or false")?;
    check("count", false, Value::is_u64, "a whole number")?;
    check("carried", false, |value| *value == true, "true")
}

fn wrong_type(key: &str, want: &str) -> String {
    format!("no record: `{key}` is not {want}")
}
