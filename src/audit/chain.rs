//! The hash chain: each line contains the hash of the line before it.

use std::{fmt, io};

use ring::digest::{SHA256, digest};
use serde::Serialize;
use time::OffsetDateTime;

use super::record::{VERSION, timestamp};
use crate::escape::escape;

/// The last record of a chain. A copy that is stored elsewhere proves that no record up to this one was changed
/// later.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// Sequence number of the last record, or 0 if there is none.
    pub seq: u64,
    /// SHA-256 of the last line in hex; empty if there is no line.
    pub hash: String,
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.seq, self.hash)
    }
}

/// A line of the file, in the order of its keys.
#[derive(Serialize)]
struct Line<'a, T> {
    v: u64,
    ts: &'a str,
    seq: u64,
    #[serde(flatten)]
    entry: &'a T,
    #[serde(skip_serializing_if = "Option::is_none")]
    carried: Option<bool>,
    prev: &'a str,
}

/// New lines that continue a chain, and the head of the chain after them.
pub(super) struct Lines {
    pub(super) text: String,
    pub(super) head: Head,
}

impl Lines {
    /// Creates an empty continuation of the chain that ends with `head`.
    pub(super) fn after(head: &Head) -> Self {
        Self {
            text: String::new(),
            head: head.clone(),
        }
    }

    /// Appends an entry as a line. `at` is the time of its event, or `None` to use the current time. `carried` marks
    /// an intent that is repeated from an earlier file. Returns an error if the entry cannot be serialized.
    pub(super) fn push(
        &mut self,
        entry: &impl Serialize,
        at: Option<OffsetDateTime>,
        carried: bool,
    ) -> io::Result<()> {
        let line = Line {
            v: VERSION,
            ts: &timestamp(at.unwrap_or_else(OffsetDateTime::now_utc)),
            seq: self.head.seq + 1,
            entry,
            carried: carried.then_some(true),
            prev: &self.head.hash,
        };
        let line = serde_json::to_string(&line)?;
        // The hash covers the line exactly as it is written to the file.
        let line = escape(&line);
        self.head.seq += 1;
        self.head.hash = hex(digest(&SHA256, line.as_bytes()).as_ref());
        self.text.push_str(&line);
        self.text.push('\n');
        Ok(())
    }
}

/// Returns bytes as lower-case hex digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = |byte: &u8| {
        [
            DIGITS[usize::from(byte >> 4)],
            DIGITS[usize::from(byte & 15)],
        ]
    };
    let text: Vec<[u8; 2]> = bytes.iter().map(digits).collect();
    String::from_utf8(text.concat()).unwrap_or_default()
}
