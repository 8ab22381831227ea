//! Builds the paths of all upstream requests, and checks that each built path has the intended segments, because any
//! other path could address another user.

use bytes::Bytes;
use http::uri::PathAndQuery;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::error::Failure;

/// All characters except the unreserved ones of RFC 3986, section 2.3.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Percent-encodes all characters of a text except the unreserved ones.
pub fn encode(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

/// Returns a path of these segments, with the query unless it is empty. Fails if a segment is empty, `.` or `..`, or
/// if the built path does not consist of exactly these segments.
#[allow(clippy::disallowed_methods, reason = "this is the place")]
pub fn build(segments: &[&str], query: &str) -> Result<PathAndQuery, Failure> {
    let mut text = String::with_capacity(128);
    for segment in segments {
        text.push('/');
        text.extend(utf8_percent_encode(segment, RESERVED));
    }
    let length = text.len();
    if !query.is_empty() {
        text.push('?');
        text.push_str(query);
    }
    let built = PathAndQuery::from_maybe_shared(Bytes::from(text))
        .map_err(|error| Failure::internal(format!("unusable path: {error}")))?;
    let intended = segments.iter().all(|s| !matches!(*s, "" | "." | ".."))
        && built.path().len() == length
        && built.query().unwrap_or_default() == query
        && is(built.path(), segments);
    if intended {
        Ok(built)
    } else {
        Err(Failure::internal(
            "the finished path is not the intended one; nothing was sent",
        ))
    }
}

/// Returns whether a path consists of exactly these segments after percent-decoding.
pub fn is(path: &str, segments: &[&str]) -> bool {
    let mut rest = path;
    let same = segments.iter().all(|segment| {
        let Some(path) = rest.strip_prefix('/') else {
            return false;
        };
        let end = path.bytes().position(|byte| byte == b'/');
        let (found, next) = path.split_at(end.unwrap_or(path.len()));
        rest = next;
        // Without `%`, a segment is the text itself.
        found == *segment && !found.as_bytes().contains(&b'%')
            || percent_decode_str(found).eq(segment.bytes())
    });
    same && rest.is_empty()
}
