//! The rules for the metadata of a call. h2 reads larger header lists than the server accepts, because h2 refuses a
//! list above its own limit without a gRPC status, and closes the connection with all its calls if a list is far
//! larger.

use http::{
    HeaderMap, HeaderName, Request,
    header::{AUTHORIZATION, CONTENT_TYPE},
};

use crate::{
    error::Violation,
    service::{call_context::GRPC_TIMEOUT, refusal::ENCODING},
    trace::TRACEPARENT,
};

/// Largest header list that HTTP/2 reads, in bytes as [`size`] counts them. A connection buffers this much for a header
/// list that has not ended, and up to twice as much with the overhead of many small fields.
pub const MAX_READ: u32 = 256 * 1_024;
/// Number of bytes counted for each field in addition to its name and value (RFC 9113, section 6.5.2).
const FIELD_OVERHEAD: usize = 32;
/// Headers that must occur at most once. `grpc-timeout` is checked with the deadline.
const SINGULAR: [(HeaderName, &str); 3] = [
    (AUTHORIZATION, "authorization"),
    (CONTENT_TYPE, "content-type"),
    (GRPC_ENCODING, ENCODING),
];
/// Header with the encoding of the messages.
pub const GRPC_ENCODING: HeaderName = HeaderName::from_static(ENCODING);

/// Marks a request whose metadata is larger than the server accepts.
#[derive(Clone, Copy)]
pub struct MetadataTooLarge;

/// Marks a request whose header list exceeds `max` bytes, and removes all headers that a refusal does not need.
pub fn limit<B>(request: &mut Request<B>, max: u32) {
    if size(request) <= max as usize {
        return;
    }
    let headers = std::mem::take(request.headers_mut());
    *request.headers_mut() = headers_for_refusal(&headers);
    request.extensions_mut().insert(MetadataTooLarge);
}

/// Returns the first violation in the metadata of a request, except those of its deadline.
pub fn violation<B>(request: &Request<B>) -> Option<Violation> {
    if request.extensions().get::<MetadataTooLarge>().is_some() {
        return Some(Violation {
            field: "metadata",
            description: "larger than this server accepts (max_metadata_bytes)",
        });
    }
    let headers = request.headers();
    let mut names = SINGULAR.into_iter();
    let (_, field) = names.find(|(name, _)| headers.get_all(name).iter().nth(1).is_some())?;
    Some(Violation {
        field,
        description: "must occur at most once",
    })
}

/// Returns the headers that determine the response to a refused call: its format, its deadline, its caller and its
/// trace. Keeps at most two values of each header: a second value makes some headers invalid, and further values make
/// no difference.
fn headers_for_refusal(headers: &HeaderMap) -> HeaderMap {
    let names = [CONTENT_TYPE, AUTHORIZATION, GRPC_TIMEOUT, TRACEPARENT];
    let mut kept = HeaderMap::new();
    for name in names {
        for value in headers.get_all(&name).iter().take(2) {
            kept.append(name.clone(), value.clone());
        }
    }
    kept
}

/// Returns the size of a header list as RFC 9113, section 6.5.2, defines it.
fn size<B>(request: &Request<B>) -> usize {
    let uri = request.uri();
    let pseudo = [
        (":method", Some(request.method().as_str())),
        (":scheme", uri.scheme_str()),
        (
            ":authority",
            uri.authority().map(http::uri::Authority::as_str),
        ),
        (
            ":path",
            uri.path_and_query().map(http::uri::PathAndQuery::as_str),
        ),
    ];
    let pseudo = pseudo
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?.len())));
    let fields = request.headers().iter();
    pseudo
        .chain(fields.map(|(name, value)| (name.as_str(), value.len())))
        .map(|(name, value)| name.len() + value + FIELD_OVERHEAD)
        .sum()
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::{MetadataTooLarge, limit, size};

    #[test]
    fn header_list_size_follows_http2_definition() {
        let request = Request::post("http://server/a").header("x", "yy");
        let mut request = request.body(()).unwrap_or_default();
        let pseudo = (7 + 4) + (7 + 4) + (10 + 6) + (5 + 2);
        let expected = pseudo + (1 + 2) + 5 * 32;
        assert_eq!(size(&request), expected);
        let expected = u32::try_from(expected).unwrap_or_default();
        for (max, too_large) in [(expected, false), (expected - 1, true)] {
            limit(&mut request, max);
            assert_eq!(
                request.extensions().get::<MetadataTooLarge>().is_some(),
                too_large
            );
        }
        assert!(request.headers().is_empty());
    }
}
