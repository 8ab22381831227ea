//! A response of an upstream, or the reason why there is none. The reason shows whether the upstream may have
//! received the request.

use std::{
    error::Error,
    io,
    iter::successors,
    pin::pin,
    time::{Duration, SystemTime},
};

use bytes::{Bytes, BytesMut};
use http::{
    HeaderMap, HeaderName, Version,
    header::{CONTENT_LENGTH, DATE, RETRY_AFTER, TRANSFER_ENCODING},
    response::Parts,
};
use http_body::Body;
use http_body_util::{BodyExt as _, Limited};
use serde_json::{Map, Value};

use super::deadline::Deadline;
use crate::{
    certificates::refusal,
    config::files::BYTE_ORDER_MARK,
    error::{Effect, Failure},
    proto::ErrorReason as R,
};

/// Maximum length of the body of an upstream's response, in bytes.
pub const MAX_BODY_BYTES: usize = 64 * 1024;
pub const USER_AGENT_TEXT: &str = concat!("useradmin/", env!("CARGO_PKG_VERSION"));

/// Timeout for the TCP connection and the TLS handshake together. Three attempts fit into the default deadline, so
/// that a host behind a firewall that drops packets is reported as unreachable, and not as a deletion with an unknown
/// outcome.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
pub const BODY_TIMEOUT: Duration = Duration::from_secs(5);
/// Time to wait for the end of an unused body. Only after its end can the connection be used again.
pub const DRAIN_TIMEOUT: Duration = Duration::from_millis(50);
/// Largest difference between the clocks of an upstream and this machine that is not reported. Azure Batch and
/// Microsoft Entra accept signatures and assertions of clocks that differ by a few minutes.
pub const MAX_CLOCK_SKEW: Duration = Duration::from_mins(5);

pub struct Response {
    pub status: u16,
    pub headers: HeaderMap,
    /// The complete body. `None` if it was cut off, was too long, or is not used.
    pub body: Option<Bytes>,
}

impl Response {
    /// Returns the value of a header, or `None` if it is missing or is not visible ASCII text.
    pub fn header(&self, name: &HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Returns the body as JSON, or null if it is not JSON. Some services write a byte order mark before it.
    pub fn json(&self) -> Value {
        let body = self.body.as_deref().unwrap_or_default();
        let text = body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body);
        serde_json::from_slice(text).unwrap_or_default()
    }

    /// Returns the time of the upstream's clock, or `None` if the response has no valid `Date` header.
    pub fn date(&self) -> Option<SystemTime> {
        httpdate::parse_http_date(self.header(&DATE)?.trim()).ok()
    }

    /// Returns by how many seconds the upstream's clock is ahead of this machine's, or `None` if they differ by
    /// [`MAX_CLOCK_SKEW`] or less. The difference is negative if the upstream's clock is behind.
    pub fn clock_skew(&self) -> Option<i64> {
        let (date, now) = (self.date()?, SystemTime::now());
        let seconds = |time: Duration| i64::try_from(time.as_secs()).ok();
        let skew = match date.duration_since(now) {
            Ok(ahead) => seconds(ahead),
            Err(behind) => seconds(behind.duration()).map(|seconds| -seconds),
        };
        skew.filter(|skew| skew.unsigned_abs() > MAX_CLOCK_SKEW.as_secs())
    }

    /// Returns the delay that `Retry-After` states in seconds or as a date, clamped to 1-60 seconds. A date is
    /// compared with the `Date` of the same response, because both come from the same clock.
    pub fn retry_after(&self) -> Option<Duration> {
        let text = self.header(&RETRY_AFTER)?.trim();
        let (min, max) = (Duration::from_secs(1), Duration::from_mins(1));
        let asked = if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
            // A number that does not fit into an integer is above the maximum, too.
            text.parse().map_or(max, Duration::from_secs)
        } else {
            let date = httpdate::parse_http_date(text).ok()?;
            let now = self.date().unwrap_or_else(SystemTime::now);
            date.duration_since(now).unwrap_or_default()
        };
        Some(asked.clamp(min, max))
    }
}

/// The reason why a request got no status line.
#[derive(Debug)]
pub enum RequestError {
    /// No connection could be established, or it was closed before the request was written: nothing was sent.
    Unreachable(String),
    /// The deadline passed, or the caller disconnected, before a connection was established: nothing was sent.
    NotConnected,
    /// The upstream reported that it did not process the request (RFC 9113, section 8.7).
    Refused(String),
    /// The connection was closed, or the response was not HTTP. The request may have been sent.
    Cut(String),
    /// The deadline passed after a connection had started to write the request.
    TimedOut,
}

impl RequestError {
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "unreachable",
            Self::NotConnected => "not_connected",
            Self::Refused(_) => "refused",
            Self::Cut(_) => "cut",
            Self::TimedOut => "timed_out",
        }
    }

    /// Returns the failure of a DELETE. Its effect is unknown if the request may have been sent.
    pub fn into_delete_failure(self) -> Failure {
        let unknown = |context| Failure {
            effect: Effect::Unknown,
            ..Failure::new(R::OutcomeUnknown, context)
        };
        match self {
            Self::Unreachable(context) => Failure::target_down(R::UpstreamUnreachable, context),
            Self::NotConnected => Deadline::exceeded("connecting to the upstream"),
            Self::Refused(context) => Failure {
                effect: Effect::NotDeleted,
                ..Failure::target_down(R::UpstreamUnavailable, context)
            },
            Self::Cut(context) => unknown(context).repeatable(),
            Self::TimedOut => unknown("no answer in time".to_owned()).alternate(),
        }
    }

    /// Returns the failure of a request that deletes nothing.
    pub fn into_read_failure(self) -> Failure {
        match self {
            Self::Unreachable(context) | Self::Cut(context) => {
                Failure::target_down(R::UpstreamUnreachable, context)
            }
            Self::NotConnected => Deadline::exceeded("connecting to the upstream"),
            Self::Refused(context) => Failure::target_down(R::UpstreamUnavailable, context),
            Self::TimedOut => Deadline::exceeded("waiting for the upstream's answer"),
        }
    }
}

/// Returns the whole body, or `None` if it is longer than `max` bytes or may have been cut off.
///
/// A body without a length ends with the connection, and over TLS only `close_notify` proves that nothing was cut
/// off. Many servers do not send `close_notify`. Such a body is accepted if it is a complete JSON object.
pub async fn read_whole_body<B: Body<Data = Bytes>>(
    head: &Parts,
    body: B,
    max: usize,
) -> Option<Bytes>
where
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    // RFC 9112, section 6.3. HTTP/2 always marks the end of a body.
    let ends_with_connection = head.version < Version::HTTP_2
        && !head.headers.contains_key(CONTENT_LENGTH)
        && !head.headers.contains_key(TRANSFER_ENCODING);
    let mut body = pin!(Limited::new(body, max));
    let mut read = BytesMut::new();
    // A body with a known length is complete with its last byte, without another poll for the end of the stream.
    while !body.is_end_stream()
        && let Some(frame) = body.frame().await
    {
        match frame {
            Ok(frame) => read.extend_from_slice(frame.data_ref().map_or(&[], |data| data)),
            Err(error) => {
                let is_complete =
                    ends_with_connection && is_end_of_connection(&*error) && is_document(&read);
                return is_complete.then(|| read.freeze());
            }
        }
    }
    Some(read.freeze())
}

/// Returns whether the error means that the peer closed the connection without `close_notify`.
fn is_end_of_connection(error: &(dyn Error + 'static)) -> bool {
    let mut causes = successors(Some(error), |&error| error.source());
    let ends = [io::ErrorKind::UnexpectedEof, io::ErrorKind::ConnectionReset];
    causes.any(|error| {
        let error = error.downcast_ref::<io::Error>();
        error.is_some_and(|error| ends.contains(&error.kind()))
    })
}

fn is_document(body: &[u8]) -> bool {
    let text = body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body);
    serde_json::from_slice::<Map<String, Value>>(text).is_ok()
}

/// Returns the text of an error and of its causes.
pub fn describe(error: &(dyn Error + 'static)) -> String {
    let mut text = describe_without_causes(error);
    let mut cause = error.source();
    while let Some(error) = cause {
        let error_text = describe_without_causes(error);
        // Some errors repeat the text of their cause.
        if !text.ends_with(&error_text) {
            text.push_str(": ");
            text.push_str(&error_text);
        }
        cause = error.source();
    }
    text
}

fn describe_without_causes(error: &(dyn Error + 'static)) -> String {
    let io = error.downcast_ref().map(refusal::describe_io_error);
    io.or_else(|| error.downcast_ref().map(refusal::describe_tls_error))
        .unwrap_or_else(|| error.to_string())
}

#[cfg(test)]
mod tests {
    use std::io::{self, ErrorKind};

    use bytes::Bytes;
    use futures_util::stream;
    use http::{HeaderValue, Response, Version, response::Parts};
    use http_body::Frame;
    use http_body_util::StreamBody;

    use super::{is_document, read_whole_body};

    fn head(version: Version, header: &'static str) -> Parts {
        let mut response = Response::new(());
        *response.version_mut() = version;
        let headers = response.headers_mut();
        headers.insert(header, HeaderValue::from_static("100"));
        response.into_parts().0
    }

    #[tokio::test]
    async fn only_body_that_ends_with_connection_may_lack_close_notify() {
        let eof = ErrorKind::UnexpectedEof;
        for (version, header, error, complete) in [
            (Version::HTTP_11, "x", eof, true),
            (Version::HTTP_10, "x", eof, true),
            (Version::HTTP_11, "x", ErrorKind::ConnectionReset, true),
            (Version::HTTP_11, "x", ErrorKind::TimedOut, false),
            (Version::HTTP_11, "x", ErrorKind::InvalidData, false),
            (Version::HTTP_11, "content-length", eof, false),
            (Version::HTTP_11, "transfer-encoding", eof, false),
            (Version::HTTP_2, "x", eof, false),
        ] {
            let data = Ok(Frame::data(Bytes::from_static(b"{}")));
            let frames = [data, Err(io::Error::from(error))];
            let body = StreamBody::new(stream::iter(frames));
            let read = read_whole_body(&head(version, header), body, 100).await;
            assert_eq!(read.is_some(), complete, "{version:?} {header} {error}");
        }
    }

    #[test]
    fn only_whole_json_object_is_complete_document() {
        let rows: [(&[u8], bool); 11] = [
            (b"{}", true),
            (b"{\"code\":\"x\"}", true),
            (b" {\"a\":{\"b\":[1,2]}}\r\n", true),
            (b"\xEF\xBB\xBF{\"code\":\"x\"}", true),
            (b"", false),
            (b"{\"code\":\"x\"", false),
            (b"{\"a\":{\"b\":1}", false),
            (b"{\"a\":1}}", false),
            (b"[1,2]", false),
            (b"12", false),
            (b"<html></html>", false),
        ];
        for (body, complete) in rows {
            let shown = String::from_utf8_lossy(body);
            assert_eq!(is_document(body), complete, "{shown}");
        }
    }
}
