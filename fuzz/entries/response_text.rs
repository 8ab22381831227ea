//! Upstream responses as text: the status, header lines, an empty line, and the body. `cut` after the status means that
//! there is no body.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use useradmin::upstream::response::Response;

/// Returns the response, or `None` if the bytes do not form one.
pub fn parse(bytes: &[u8]) -> Option<Response> {
    let (head, body) = match bytes.windows(2).position(|pair| pair == b"\n\n") {
        Some(at) => (&bytes[..at], &bytes[at + 2..]),
        None => (bytes, &[][..]),
    };
    let mut lines = head.split(|byte| *byte == b'\n');
    let first = std::str::from_utf8(lines.next()?).ok()?;
    let (status, rest) = first.split_once(' ').unwrap_or((first, ""));
    let mut headers = HeaderMap::new();
    for line in lines {
        let at = line.iter().position(|byte| *byte == b':')?;
        let name = HeaderName::from_bytes(&line[..at]).ok()?;
        headers.append(name, HeaderValue::from_bytes(&line[at + 1..]).ok()?);
    }
    Some(Response {
        status: status.parse().ok()?,
        headers,
        body: (rest != "cut").then(|| Bytes::copy_from_slice(body)),
    })
}

/// Returns the body as JSON, parsed without the product's code and without a byte order mark.
pub fn json(response: &Response) -> Value {
    let body = response.body.as_deref().unwrap_or_default();
    let body = body.strip_prefix("\u{FEFF}".as_bytes()).unwrap_or(body);
    serde_json::from_slice(body).unwrap_or_default()
}

/// Returns whether `actual` is a prefix of `complete` within the length limit, or the marker of redacted text.
pub fn is_part_or_redacted(actual: &str, complete: &str) -> bool {
    actual.len() <= 256 && (complete.starts_with(actual) || actual == "(redacted)")
}
