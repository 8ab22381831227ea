//! Checks that the Batch service makes before authentication: verb, URL and headers. The checks of the query are in
//! `query`, and the parent module defines the order of all checks.

use http::Method;
use uuid::Uuid;

use super::reply::Fault;
use crate::net::Incoming;

/// Conditional headers, which these operations do not support.
const CONDITIONS: [&str; 4] = [
    "if-match",
    "if-none-match",
    "if-modified-since",
    "if-unmodified-since",
];

/// The resource that the URL identifies.
pub(super) enum Target {
    Pool {
        pool: String,
    },
    Node {
        pool: String,
        node: String,
    },
    User {
        pool: String,
        node: String,
        user: String,
    },
}

/// Returns the resource that the URL identifies. Fails if there is none, or if the verb is not allowed for it.
pub(super) fn target(call: &Incoming) -> Result<Target, Fault> {
    let segments = call
        .segments()
        .ok_or_else(|| Fault::new("RequestUrlFailedToParse"))?;
    if segments
        .iter()
        .any(|segment| matches!(segment.as_str(), "" | "." | ".."))
    {
        return Err(Fault::new("InvalidUri"));
    }
    let parts: Vec<&str> = segments.iter().map(String::as_str).collect();
    let (target, verb) = match parts.as_slice() {
        ["pools", pool] => (
            Target::Pool {
                pool: (*pool).to_owned(),
            },
            Method::GET,
        ),
        ["pools", pool, "nodes", node] => (
            Target::Node {
                pool: (*pool).to_owned(),
                node: (*node).to_owned(),
            },
            Method::GET,
        ),
        ["pools", pool, "nodes", node, "users", user] => {
            let (pool, node, user) = ((*pool).to_owned(), (*node).to_owned(), (*user).to_owned());
            (Target::User { pool, node, user }, Method::DELETE)
        }
        _ => return Err(Fault::new("InvalidUri")),
    };
    if call.method == verb {
        Ok(target)
    } else {
        Err(Fault::new(verb_code(&call.method)))
    }
}

fn verb_code(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE" | "OPTIONS" | "MERGE" => {
            "UnsupportedHttpVerb"
        }
        _ => "InvalidHttpVerb",
    }
}

/// Checks the format of the supported headers, and rejects unsupported ones.
pub(super) fn headers(call: &Incoming) -> Result<(), Fault> {
    header(call, "client-request-id", |text| {
        text.len() == 36 && Uuid::try_parse(text).is_ok()
    })?;
    header(call, "return-client-request-id", |text| {
        text.eq_ignore_ascii_case("true") || text.eq_ignore_ascii_case("false")
    })?;
    header(call, "ocp-date", is_rfc1123)?;
    header(call, "accept", |text| text.split(',').any(accepts_json))?;
    header(call, "content-type", accepts_json)?;
    match CONDITIONS
        .into_iter()
        .find(|name| call.headers.contains_key(*name))
    {
        Some(name) => Err(Fault::new("UnsupportedHeader").values([("HeaderName", name)])),
        None => Ok(()),
    }
}

/// Checks that a header is absent, or occurs once with a valid value.
fn header(call: &Incoming, name: &str, is_right: impl Fn(&str) -> bool) -> Result<(), Fault> {
    let mut values = call.headers.get_all(name).iter();
    let Some(value) = values.next() else {
        return Ok(());
    };
    let text = String::from_utf8_lossy(value.as_bytes());
    if values.next().is_none() && is_right(&text) {
        return Ok(());
    }
    Err(Fault::new("InvalidHeaderValue").values([("HeaderName", name), ("HeaderValue", &text)]))
}

/// Returns whether the text is an RFC 1123 date. The parser also accepts the two obsolete date formats of HTTP, but
/// formatting such a date again yields a different text.
fn is_rfc1123(text: &str) -> bool {
    httpdate::parse_http_date(text).is_ok_and(|time| httpdate::fmt_http_date(time) == text)
}

/// Returns whether a media range of an `Accept` header, or a content type, allows JSON.
fn accepts_json(range: &str) -> bool {
    let range = range.to_ascii_lowercase();
    let mut parts = range.split(';').map(str::trim);
    let json = matches!(
        parts.next(),
        Some("*/*" | "application/*" | "application/json")
    );
    let level = parts.find_map(|part| part.strip_prefix("odata=").map(str::to_owned));
    json && level.is_none_or(|level| {
        matches!(
            level.as_str(),
            "minimalmetadata" | "nometadata" | "fullmetadata"
        )
    })
}
