//! The hash chain: each line contains the hash of the line before it.

use std::fmt;

use ring::digest::{SHA256, digest};
use time::OffsetDateTime;

use super::record::Record;
use crate::timestamp::with_milliseconds;

/// Size of a line in bytes, which is enough for most lines.
const TYPICAL_LINE_BYTES: usize = 1_024;

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

/// New lines that continue a chain, and the head of the chain after them.
pub(super) struct Lines {
    pub(super) text: String,
    pub(super) head: Head,
}

impl Lines {
    /// Creates an empty continuation of the chain that ends with `head`, with capacity for this number of lines.
    pub(super) fn after(head: &Head, lines: usize) -> Self {
        Self {
            text: String::with_capacity(lines * TYPICAL_LINE_BYTES),
            head: head.clone(),
        }
    }

    /// Appends a record as a line. `carried` marks an intent that is repeated from an earlier file.
    pub(super) fn push(&mut self, record: &Record, carried: bool) {
        let at = record.at.filter(|_| !carried);
        let at = with_milliseconds(at.unwrap_or_else(OffsetDateTime::now_utc));
        let start = self.text.len();
        let Head { seq, hash } = &mut self.head;
        *seq += 1;
        for part in [
            "{\"v\":",
            &record.event.version().to_string(),
            ",\"ts\":\"",
            &at,
            "\",\"seq\":",
            &seq.to_string(),
            ",",
            record.members.as_str(),
            if carried { ",\"carried\":true" } else { "" },
            ",\"prev\":\"",
            hash,
            "\"}",
        ] {
            self.text.push_str(part);
        }
        // The hash covers the line exactly as it is written to the file, without the newline.
        *hash = hex(digest(&SHA256, &self.text.as_bytes()[start..]).as_ref());
        self.text.push('\n');
    }
}

/// Returns bytes as lower-case hex digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = vec![0; 2 * bytes.len()];
    for (digits, byte) in text.as_chunks_mut::<2>().0.iter_mut().zip(bytes) {
        *digits = [byte >> 4, byte & 15].map(|half| DIGITS[usize::from(half)]);
    }
    // Digits are always valid UTF-8.
    String::from_utf8(text).unwrap_or_default()
}
