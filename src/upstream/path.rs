//! Builds upstream URLs from checked segments, in this place alone, and compares the finished URL with the
//! intended one: the `url` crate drops dot segments and line breaks without a word, and so an unchecked name
//! would address another user.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use url::Url;

use crate::error::Failure;

/// Everything but the unreserved characters of RFC 3986, section 2.3.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// `text` with everything but unreserved characters percent-encoded.
#[must_use]
pub fn encode(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

/// `base` followed by the segments, each of which stays one segment and is never empty, `.` or `..`.
#[allow(
    clippy::disallowed_methods,
    reason = "this is the place; what it drops is found out below"
)]
pub fn build(base: &Url, segments: &[&str]) -> Result<Url, Failure> {
    let mut path = String::new();
    for segment in segments {
        path.push('/');
        path.push_str(&encode(segment));
    }
    let url = base
        .join(&path)
        .map_err(|error| Failure::internal(format!("unusable path: {error}")))?;
    let intended = segments.iter().all(|s| !matches!(*s, "" | "." | ".."))
        && url.origin() == base.origin()
        && url.query().is_none()
        && url.fragment().is_none()
        && decoded(&url).is_some_and(|found| found == segments);
    if intended {
        Ok(url)
    } else {
        Err(Failure::internal(
            "the finished URL is not the intended one; nothing was sent",
        ))
    }
}

/// The decoded segments of a URL's path.
#[must_use]
pub fn decoded(url: &Url) -> Option<Vec<String>> {
    url.path_segments()?
        .map(|segment| {
            let text = percent_decode_str(segment).decode_utf8().ok()?;
            Some(text.into_owned())
        })
        .collect()
}
