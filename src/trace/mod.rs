//! Traces, in the terms of OpenTelemetry: the caller's W3C `traceparent` is taken up, each call is a span with a span
//! for each request to an upstream, and `traceparent` is passed on. Without an exporter there are no spans of our own:
//! the caller's context is passed on as it came.
//!
//! The context of a call goes with its future (`with_context`), so that no function has to hand it on.

pub mod export;

use std::{net::SocketAddr, sync::OnceLock};

use http::{HeaderMap, HeaderValue};
use opentelemetry::{
    Context, KeyValue,
    propagation::{Extractor, Injector, TextMapPropagator as _},
    trace::{SpanKind, Status, TraceContextExt as _, Tracer as _},
};
use opentelemetry_sdk::{propagation::TraceContextPropagator, trace::SdkTracer};
use opentelemetry_semantic_conventions::attribute as key;
use tonic::Code;
use url::Url;

const TRACEPARENT: &str = "traceparent";

/// Set once, when spans are exported.
static TRACER: OnceLock<SdkTracer> = OnceLock::new();

/// Reads `traceparent` alone. `tracestate` holds what callers like, and would go on to upstreams.
struct Incoming<'a>(&'a HeaderMap);

impl Extractor for Incoming<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        if name != TRACEPARENT {
            return None;
        }
        let mut values = self.0.get_all(TRACEPARENT).iter();
        let only = values.next().filter(|_| values.next().is_none())?;
        only.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        vec![TRACEPARENT]
    }
}

struct Outgoing<'a>(&'a mut HeaderMap);

impl Injector for Outgoing<'_> {
    fn set(&mut self, name: &str, value: String) {
        if name == TRACEPARENT
            && let Ok(value) = HeaderValue::try_from(value)
        {
            self.0.insert(TRACEPARENT, value);
        }
    }
}

/// The context of a call that arrives: its span, or the caller's where none is made here.
#[must_use]
pub fn call(headers: &HeaderMap, method: String, peer: Option<SocketAddr>) -> Context {
    let propagator = TraceContextPropagator::new();
    let caller = propagator.extract_with_context(&Context::new(), &Incoming(headers));
    let Some(tracer) = TRACER.get() else {
        return caller;
    };
    let mut attributes = vec![
        KeyValue::new(key::RPC_SYSTEM_NAME, "grpc"),
        KeyValue::new(key::RPC_METHOD, method.clone()),
    ];
    if let Some(peer) = peer {
        attributes.push(KeyValue::new(key::CLIENT_ADDRESS, peer.ip().to_string()));
        attributes.push(KeyValue::new(key::CLIENT_PORT, i64::from(peer.port())));
    }
    let span = tracer
        .span_builder(method)
        .with_kind(SpanKind::Server)
        .with_attributes(attributes)
        .start_with_context(tracer, &caller);
    caller.with_span(span)
}

/// How a call has ended.
pub struct CallEnd<'a> {
    /// The status.
    pub code: Code,
    /// The reason in `ErrorInfo`; empty for a success.
    pub reason: &'static str,
    /// More that is known of it.
    pub attributes: &'a [(&'static str, String)],
}

/// Ends the span of a call.
pub fn end_call(context: &Context, end: &CallEnd<'_>) {
    let span = context.span();
    if TRACER.get().is_none() || !span.is_recording() {
        return;
    }
    let code = status_name(end.code);
    span.set_attribute(KeyValue::new(key::RPC_RESPONSE_STATUS_CODE, code));
    for (name, value) in end.attributes {
        span.set_attribute(KeyValue::new(*name, value.clone()));
    }
    if !end.reason.is_empty() {
        span.set_attribute(KeyValue::new(key::ERROR_TYPE, end.reason));
    }
    if is_servers_fault(end.code) {
        span.set_status(Status::error(end.reason));
    }
    span.end();
}

/// The codes that are errors of a server (OpenTelemetry, "Semantic conventions for gRPC").
const fn is_servers_fault(code: Code) -> bool {
    matches!(
        code,
        Code::Unknown
            | Code::DeadlineExceeded
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss
    )
}

/// A code as the gRPC specification spells it.
const fn status_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

/// A request that is about to be sent for the present call.
pub struct RequestStart<'a> {
    /// Its method.
    pub method: &'a str,
    /// Its URL.
    pub url: &'a Url,
    /// The path with names in place of what differs from call to call.
    pub route: &'static str,
    /// How many requests of its kind have gone before it in this call.
    pub resent: u32,
    /// More that is known of it.
    pub attributes: &'a [(&'static str, String)],
}

/// The context of a request: its span, or the present one where none is made. A request that belongs to no call has no
/// span.
#[must_use]
pub fn request(start: &RequestStart<'_>) -> Context {
    let call = Context::current();
    let Some(tracer) = TRACER.get().filter(|_| call.has_active_span()) else {
        return call;
    };
    let mut attributes = vec![
        KeyValue::new(key::HTTP_REQUEST_METHOD, start.method.to_owned()),
        KeyValue::new(key::URL_FULL, start.url.to_string()),
        KeyValue::new(key::URL_TEMPLATE, start.route),
    ];
    if let Some(host) = start.url.host_str() {
        attributes.push(KeyValue::new(key::SERVER_ADDRESS, host.to_owned()));
    }
    if let Some(port) = start.url.port_or_known_default() {
        attributes.push(KeyValue::new(key::SERVER_PORT, i64::from(port)));
    }
    if start.resent > 0 {
        let resent = i64::from(start.resent);
        attributes.push(KeyValue::new(key::HTTP_REQUEST_RESEND_COUNT, resent));
    }
    for (name, value) in start.attributes {
        attributes.push(KeyValue::new(*name, value.clone()));
    }
    let span = tracer
        .span_builder(format!("{} {}", start.method, start.route))
        .with_kind(SpanKind::Client)
        .with_attributes(attributes)
        .start_with_context(tracer, &call);
    call.with_span(span)
}

/// Ends the span of a request: with the status of its answer, or with why there is none.
pub fn end_request(context: &Context, result: Result<u16, &'static str>) {
    let span = context.span();
    if TRACER.get().is_none() || !span.is_recording() {
        return;
    }
    match result {
        Ok(status) => {
            let status = i64::from(status);
            span.set_attribute(KeyValue::new(key::HTTP_RESPONSE_STATUS_CODE, status));
            if status >= 400 {
                span.set_attribute(KeyValue::new(key::ERROR_TYPE, status.to_string()));
                span.set_status(Status::error(""));
            }
        }
        Err(kind) => {
            span.set_attribute(KeyValue::new(key::ERROR_TYPE, kind));
            span.set_status(Status::error(""));
        }
    }
    span.end();
}

/// Passes the context on, in `traceparent`.
pub fn pass_on(context: &Context, headers: &mut HeaderMap) {
    TraceContextPropagator::new().inject_context(context, &mut Outgoing(headers));
}

/// The ids that find the call in the traces: of the trace, and of the span here or, where there is none, of the
/// caller's.
#[must_use]
pub fn ids(context: &Context) -> Option<(String, String)> {
    let span = context.span();
    let ids = span.span_context();
    ids.is_valid()
        .then(|| (ids.trace_id().to_string(), ids.span_id().to_string()))
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::{Incoming, TRACEPARENT, call, ids, pass_on};

    const SOUND: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn headers(values: &[&str]) -> HeaderMap {
        let values = values.iter().filter_map(|value| value.parse().ok());
        let mut headers: HeaderMap = values.map(|value| (TRACEPARENT, value)).fold(
            HeaderMap::new(),
            |mut headers, (name, value)| {
                headers.append(name, value);
                headers
            },
        );
        if let Ok(state) = "vendor=anything".parse() {
            headers.insert("tracestate", state);
        }
        headers
    }

    #[test]
    fn a_callers_context_is_passed_on_and_nothing_else() {
        let taken = [
            (&[SOUND][..], Some(SOUND)),
            // Bits that nobody knows yet are not passed on (Trace Context, section 3.2.2.5.2).
            (
                &["00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-03"],
                Some(SOUND),
            ),
            // Of a later version, what this one knows is used (section 3.2.3).
            (
                &["cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more"],
                Some(SOUND),
            ),
            (&[], None),
            (&[SOUND, SOUND], None),
            (
                &["00-00000000000000000000000000000000-00f067aa0ba902b7-01"],
                None,
            ),
            (
                &["00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01"],
                None,
            ),
            (
                &["00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01"],
                None,
            ),
            (
                &["ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"],
                None,
            ),
            (
                &["00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7"],
                None,
            ),
            (
                &["00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x"],
                None,
            ),
            (&["nonsense"], None),
            (&[""], None),
        ];
        for (values, expected) in taken {
            let given = headers(values);
            let context = call(&given, "service/method".to_owned(), None);
            let mut sent = HeaderMap::new();
            pass_on(&context, &mut sent);
            let passed = sent.get(TRACEPARENT).and_then(|value| value.to_str().ok());
            assert_eq!(passed, expected, "{values:?}");
            assert_eq!(sent.len(), usize::from(expected.is_some()));
            assert_eq!(ids(&context).is_some(), expected.is_some());
        }
    }

    #[test]
    fn what_is_no_text_is_no_context() {
        let mut headers = HeaderMap::new();
        if let Ok(value) = http::HeaderValue::from_bytes(b"00-\xff") {
            headers.insert(TRACEPARENT, value);
        }
        assert!(
            opentelemetry::propagation::Extractor::get(&Incoming(&headers), "traceparent")
                .is_none()
        );
    }
}
