//! OpenTelemetry traces: reads the caller's W3C `traceparent`, creates a span for each call and for each request to an
//! upstream, and sends `traceparent` to upstreams. Without an exporter, the caller's context is forwarded unchanged.
//!
//! The context of a call is attached to its future (`with_context`).

pub mod export;

use std::net::SocketAddr;

use http::{HeaderMap, HeaderValue};
use opentelemetry::{
    Context, KeyValue,
    propagation::{Extractor, Injector, TextMapPropagator as _},
    trace::{SpanKind, Status, TraceContextExt as _, Tracer as _},
};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_semantic_conventions::attribute as key;
use tonic::Code;
use url::{Position, Url};

use crate::grpc_code;

const TRACEPARENT: &str = "traceparent";

/// Reads `traceparent` only. `tracestate` may contain anything, and would be forwarded to upstreams.
struct Incoming<'a>(&'a HeaderMap);

impl Extractor for Incoming<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        if name != TRACEPARENT {
            return None;
        }
        let mut values = self.0.get_all(TRACEPARENT).iter();
        let only = values.next().filter(|_| values.next().is_none())?;
        only.to_str().ok().filter(|text| is_sound(text))
    }

    fn keys(&self) -> Vec<&str> {
        vec![TRACEPARENT]
    }
}

/// Version, trace, parent and flags: two, 32, 16 and two digits (W3C Trace Context, section 3.2.2). A later version may
/// have more behind them.
fn is_sound(text: &str) -> bool {
    const LENGTHS: [usize; 4] = [2, 32, 16, 2];
    let mut parts = text.splitn(LENGTHS.len() + 1, '-');
    let digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let sound = LENGTHS.into_iter().all(|length| {
        parts
            .next()
            .is_some_and(|part| part.len() == length && part.bytes().all(digit))
    });
    sound && (parts.next().is_none() || !text.starts_with("00"))
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

/// The two ends of a connection.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ends {
    /// Address of the caller's end of the connection.
    pub client: Option<SocketAddr>,
    /// Local address of the connection, which the caller cannot choose.
    pub server: Option<SocketAddr>,
}

/// Returns the context of a call that arrives: its span, or the caller's context without an exporter.
#[must_use]
pub fn call(headers: &HeaderMap, method: String, ends: Ends) -> Context {
    let caller = if headers.contains_key(TRACEPARENT) {
        let propagator = TraceContextPropagator::new();
        propagator.extract_with_context(&Context::new(), &Incoming(headers))
    } else {
        Context::new()
    };
    let Some(tracer) = export::tracer() else {
        return caller;
    };
    let mut attributes = vec![
        KeyValue::new(key::RPC_SYSTEM_NAME, "grpc"),
        KeyValue::new(key::RPC_METHOD, method.clone()),
    ];
    for (end, address, port) in [
        (ends.client, key::CLIENT_ADDRESS, key::CLIENT_PORT),
        (ends.server, key::SERVER_ADDRESS, key::SERVER_PORT),
    ] {
        if let Some(end) = end {
            attributes.push(KeyValue::new(address, end.ip().to_string()));
            attributes.push(KeyValue::new(port, i64::from(end.port())));
        }
    }
    let span = tracer
        .span_builder(method)
        .with_kind(SpanKind::Server)
        .with_attributes(attributes)
        .start_with_context(tracer, &caller);
    caller.with_span(span)
}

/// Ends the span of a call. `more` returns further attributes.
pub fn end_call(
    context: &Context,
    code: Code,
    reason: &'static str,
    more: impl FnOnce() -> Vec<KeyValue>,
) {
    let span = context.span();
    if !span.is_recording() {
        return;
    }
    let name = grpc_code::spec_name(code);
    span.set_attribute(KeyValue::new(key::RPC_RESPONSE_STATUS_CODE, name));
    if !reason.is_empty() {
        span.set_attribute(KeyValue::new("useradmin.reason", reason));
    }
    span.set_attributes(more());
    if is_servers_fault(code) {
        span.set_attribute(KeyValue::new(key::ERROR_TYPE, name));
        span.set_status(Status::error(reason));
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

/// A request that is about to be sent for the current call.
pub struct RequestStart<'a> {
    /// The HTTP method.
    pub method: &'a str,
    /// A URL of its host.
    pub url: &'a Url,
    /// Its path and query.
    pub path: &'a str,
    /// Template of the path, with names instead of variable parts.
    pub route: Option<&'static str>,
    /// Number of earlier requests of the same kind in this call.
    pub resent: u32,
    /// Attributes: operation, upstream and target.
    pub purpose: [(&'static str, &'a str); 3],
}

/// Returns the context of a request: its span, or the current context without an exporter. A request that belongs to no
/// call has no span.
#[must_use]
pub fn request(start: &RequestStart<'_>) -> Context {
    let call = Context::current();
    let tracer = export::tracer().filter(|_| call.has_active_span());
    let Some(tracer) = tracer else {
        return call;
    };
    let name = match start.route {
        Some(route) => format!("{} {route}", start.method),
        None => start.method.to_owned(),
    };
    let span = tracer
        .span_builder(name)
        .with_kind(SpanKind::Client)
        .with_attributes(attributes(start))
        .start_with_context(tracer, &call);
    call.with_span(span)
}

fn attributes(start: &RequestStart<'_>) -> Vec<KeyValue> {
    let text = |key, value: &str| KeyValue::new(key, value.to_owned());
    let number = |key, value| KeyValue::new(key, i64::from(value));
    let purpose = start.purpose.iter().map(|(key, value)| text(*key, value));
    let mut attributes: Vec<_> = purpose.collect();
    attributes.push(text(key::HTTP_REQUEST_METHOD, start.method));
    let origin = &start.url[..Position::BeforePath];
    attributes.push(KeyValue::new(
        key::URL_FULL,
        format!("{origin}{}", start.path),
    ));
    let host = start.url.host_str();
    attributes.extend(host.map(|host| text(key::SERVER_ADDRESS, host)));
    let port = start.url.port_or_known_default();
    attributes.extend(port.map(|port| number(key::SERVER_PORT, port.into())));
    attributes.extend(start.route.map(|route| text(key::URL_TEMPLATE, route)));
    if start.resent > 0 {
        attributes.push(number(key::HTTP_REQUEST_RESEND_COUNT, start.resent));
    }
    attributes
}

/// Ends the span of a request, with the status of its response or the reason why there is none.
pub fn end_request(context: &Context, result: Result<u16, &'static str>) {
    let span = context.span();
    if !span.is_recording() {
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

/// Adds the context to headers, as `traceparent`.
pub fn pass_on(context: &Context, headers: &mut HeaderMap) {
    if context.span().span_context().is_valid() {
        TraceContextPropagator::new().inject_context(context, &mut Outgoing(headers));
    }
}

/// Returns the ID of the trace, if there is one.
#[must_use]
pub fn trace_id(context: &Context) -> Option<String> {
    let span = context.span();
    let ids = span.span_context();
    ids.is_valid().then(|| ids.trace_id().to_string())
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::{Ends, Incoming, TRACEPARENT, call, pass_on, trace_id};

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

    /// Values that are ignored because they are malformed.
    const UNSOUND: [&str; 17] = [
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
        "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-0f067aa0ba902b7-01",
        "00-0af92f3577b34da6a3ce929d0e0e47361-00f067aa0ba902b7-01",
        "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "0-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-011",
        " 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-abc-def-1",
        "nonsense",
        "",
    ];

    /// Returns the `traceparent` that is forwarded for a call with these headers.
    fn passed(values: &[&str]) -> Option<String> {
        let context = call(
            &headers(values),
            "service/method".to_owned(),
            Ends::default(),
        );
        let mut sent = HeaderMap::new();
        pass_on(&context, &mut sent);
        let passed = sent.get(TRACEPARENT).and_then(|value| value.to_str().ok());
        assert_eq!(sent.len(), usize::from(passed.is_some()));
        assert_eq!(trace_id(&context).is_some(), passed.is_some());
        passed.map(str::to_owned)
    }

    #[test]
    fn a_callers_context_is_passed_on_and_nothing_else() {
        for sound in [
            SOUND,
            // Unknown bits are not forwarded (Trace Context, section 3.2.2.5.2).
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-03",
            // Of a later version, what this one knows is used (section 3.2.3).
            "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
        ] {
            assert_eq!(passed(&[sound]).as_deref(), Some(SOUND), "{sound}");
        }
        assert_eq!(passed(&[]), None);
        assert_eq!(passed(&[SOUND, SOUND]), None);
        for unsound in UNSOUND {
            assert_eq!(passed(&[unsound]), None, "{unsound}");
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
