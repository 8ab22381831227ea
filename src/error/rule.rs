//! Rows of the tables that map a response of an upstream to a reason. The tables are in `rules.rs` of each platform.

use std::ops::RangeInclusive;

use super::{Effect, Repeat};
use crate::proto::ErrorReason;

/// The bodies that a row matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    Any,
    /// Any error document of the upstream.
    AnyErrorDocument,
    /// Any error document that complains about this part of the request.
    Part(RequestPart<'static>),
    /// An error document with this code.
    Code(&'static str),
    /// An error document with this code that complains about this part of the request.
    CodeAndPart(&'static str, RequestPart<'static>),
}

/// A part of a request that an error document complains about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestPart<'a> {
    /// The header with this name.
    Header(&'a str),
    /// The query parameter with this name.
    QueryParameter(&'a str),
}

impl RequestPart<'_> {
    /// Returns whether this is the same part. Upper and lower case are not distinguished.
    fn is(self, other: RequestPart<'_>) -> bool {
        match (self, other) {
            (Self::Header(one), RequestPart::Header(other))
            | (Self::QueryParameter(one), RequestPart::QueryParameter(other)) => {
                one.eq_ignore_ascii_case(other)
            }
            _ => false,
        }
    }
}

#[derive(Clone, Debug)]
pub struct Rule {
    pub status: RangeInclusive<u16>,
    pub body: Body,
    pub reason: ErrorReason,
    /// Whether the second code of the reason applies.
    pub alternate: bool,
    pub repeat: Repeat,
    /// Effect of a DELETE that receives the response.
    pub effect: Effect,
    /// Whether the response means that the target is down.
    pub down: bool,
    /// The document or recorded response that the row is based on.
    pub source: &'static str,
}

impl Rule {
    /// Creates a row for responses after which the user was not deleted and the request is not repeated.
    pub const fn new(
        status: RangeInclusive<u16>,
        body: Body,
        reason: ErrorReason,
        source: &'static str,
    ) -> Self {
        Self {
            status,
            body,
            reason,
            alternate: false,
            repeat: Repeat::Never,
            effect: Effect::NotDeleted,
            down: false,
            source,
        }
    }

    /// Selects the second code of the reason.
    pub const fn alternate(mut self) -> Self {
        self.alternate = true;
        self
    }

    /// Makes the server repeat the request after a pause.
    pub const fn backoff(mut self) -> Self {
        self.repeat = Repeat::Backoff;
        self
    }

    /// Makes the server repeat the request once, with a renewed credential.
    pub const fn renew(mut self) -> Self {
        self.repeat = Repeat::Renew;
        self
    }

    /// Marks the effect of the DELETE as unknown.
    pub const fn unknown(mut self) -> Self {
        self.effect = Effect::Unknown;
        self
    }

    /// Makes the response count as a failure for the circuit breaker of the target.
    pub const fn down(mut self) -> Self {
        self.down = true;
        self
    }

    /// Returns whether the row matches a response. `code` is `None` if the body is not an error document of the
    /// upstream. `parts` are the parts of the request that the document complains about.
    pub fn matches(&self, status: u16, code: Option<&str>, parts: &[RequestPart<'_>]) -> bool {
        let names = |wanted: RequestPart<'_>| parts.iter().any(|part| part.is(wanted));
        self.status.contains(&status)
            && match self.body {
                Body::Any => true,
                Body::AnyErrorDocument => code.is_some(),
                Body::Code(wanted) => code == Some(wanted),
                Body::Part(part) => code.is_some() && names(part),
                Body::CodeAndPart(wanted, part) => code == Some(wanted) && names(part),
            }
    }
}

/// Returns a row for responses with this status, whatever the body contains.
pub const fn any(status: u16, reason: ErrorReason, source: &'static str) -> Rule {
    Rule::new(only(status), Body::Any, reason, source)
}

/// Returns a row for responses with this status and any error document of the upstream.
pub const fn any_error_document(status: u16, reason: ErrorReason, source: &'static str) -> Rule {
    Rule::new(only(status), Body::AnyErrorDocument, reason, source)
}

/// Returns a row for responses with this status and an error document with this code.
pub const fn code(
    status: u16,
    code: &'static str,
    reason: ErrorReason,
    source: &'static str,
) -> Rule {
    Rule::new(only(status), Body::Code(code), reason, source)
}

pub const fn only(status: u16) -> RangeInclusive<u16> {
    status..=status
}

/// Creates the table of a platform: the rows that all platforms share, and the rows of this platform. The rows in
/// `before_http` match error documents whose code takes precedence over the meaning that HTTP gives to the status;
/// only 429 precedes them. The rows in `after_http` match other error documents. If no row matches an error document
/// by its code, the row of its status decides.
macro_rules! rules {
    (before_http: [$($before:expr),* $(,)?], after_http: [$($after:expr),* $(,)?] $(,)?) => {{
        use $crate::error::rule::http;
        &[
            http::THROTTLED,
            $($before,)*
            http::UNAUTHORIZED,
            http::REQUEST_TIMEOUT,
            http::NOT_IMPLEMENTED,
            http::UNAVAILABLE,
            http::VERSION_NOT_SUPPORTED,
            http::SERVER_ERROR,
            $($after,)*
            http::FORBIDDEN,
            http::NOT_FOUND,
            http::CONFLICT,
            http::PRECONDITION_FAILED,
            http::CLIENT_ERROR,
            http::FALLBACK,
        ]
    }};
}
pub(crate) use rules;

/// The rows of the status codes of HTTP (RFC 9110 and RFC 6585), which all platforms share.
#[rustfmt::skip]
pub(crate) mod http {
    use super::{Body, Rule, any, any_error_document};
    use crate::proto::ErrorReason as R;

    const SOURCE: &str = "HTTP";
    pub const THROTTLED: Rule = any(429, R::UpstreamThrottled, SOURCE).backoff();
    pub const UNAUTHORIZED: Rule = any(401, R::UpstreamCredentialsRejected, SOURCE).renew();
    pub const REQUEST_TIMEOUT: Rule = any(408, R::UpstreamUnavailable, SOURCE).backoff().unknown();
    pub const NOT_IMPLEMENTED: Rule = any(501, R::UpstreamRejectedRequest, SOURCE).down();
    pub const UNAVAILABLE: Rule = any(503, R::UpstreamUnavailable, SOURCE).backoff().down();
    pub const VERSION_NOT_SUPPORTED: Rule = any(505, R::UpstreamRejectedRequest, SOURCE).down();
    pub const SERVER_ERROR: Rule =
        Rule::new(500..=599, Body::Any, R::UpstreamUnavailable, SOURCE).backoff().unknown().down();
    pub const FORBIDDEN: Rule = any_error_document(403, R::UpstreamPermissionDenied, SOURCE);
    pub const NOT_FOUND: Rule = any_error_document(404, R::UpstreamResourceNotFound, SOURCE);
    pub const CONFLICT: Rule = any_error_document(409, R::UpstreamConflict, SOURCE);
    pub const PRECONDITION_FAILED: Rule = any_error_document(412, R::UpstreamConflict, SOURCE);
    pub const CLIENT_ERROR: Rule = Rule::new(400..=499, Body::AnyErrorDocument, R::UpstreamRejectedRequest, SOURCE);
    /// A response that the upstream itself does not send, such as a redirect or the error page of a proxy.
    pub const FALLBACK: Rule =
        Rule::new(0..=u16::MAX, Body::Any, R::UpstreamProtocolError, SOURCE).unknown();
}

/// Returns the first row that matches a response. The last row of a platform's table matches every response.
pub fn first_match<'t>(
    table: &'t [Rule],
    status: u16,
    code: Option<&str>,
    parts: &[RequestPart<'_>],
) -> Option<&'t Rule> {
    table.iter().find(|rule| rule.matches(status, code, parts))
}
