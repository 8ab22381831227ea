//! The hash chain: each line holds the hash of the line before.

use std::{fmt, io};

use ring::digest::{SHA256, digest};
use serde::Serialize;
use time::OffsetDateTime;

use super::record::{VERSION, timestamp};
use crate::escape::escape;

/// The last record of a chain. Kept elsewhere, it proves that no record before it was changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// Number of the last record, or 0.
    pub seq: u64,
    /// SHA-256 of the last line in hex; empty if there is none.
    pub hash: String,
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.seq, self.hash)
    }
}

/// A line of the file.
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

/// Lines that continue a chain.
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

    /// Appends an entry. `at` is the time of its event, if it is known. `carried` marks an intent that an earlier file
    /// contains, too.
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
        // The hash covers the line as it is in the file.
        let line = escape(&line);
        self.head.seq += 1;
        self.head.hash = hex(digest(&SHA256, line.as_bytes()).as_ref());
        self.text.push_str(&line);
        self.text.push('\n');
        Ok(())
    }
}

/// Formats bytes in lower-case hex.
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
