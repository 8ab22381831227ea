//! OpenTelemetry traces: reads the caller's W3C `traceparent`, creates a span for each call and for each request to
//! an upstream, and sends `traceparent` to upstreams. If spans are not exported, the caller's context is forwarded
//! unchanged.
//!
//! The context of a call is passed explicitly, in `CallLimits`. Only tasks that renew credentials have it attached
//! (`with_context`), because their requests create `CallLimits` from a deadline alone.

pub mod export;

use std::{net::SocketAddr, sync::Arc};

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::{
    Context, KeyValue, SpanId, TraceFlags, TraceId,
    trace::{SpanContext, SpanKind, Status, TraceContextExt as _, TraceState, Tracer as _},
};
use opentelemetry_semantic_conventions::attribute as key;
use tonic::Code;
use url::{Position, Url};

use crate::grpc_code;

pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Returns the context in the caller's `traceparent` (W3C Trace Context, section 3.2.2): version, trace, parent and
/// flags. Returns `None` if the header is absent, repeated or invalid. The propagator of the SDK is not used, because
/// it accepts numbers with signs or of the wrong length. `tracestate` is ignored, because it may contain anything and
/// would be sent to upstreams.
fn caller_context(headers: &HeaderMap) -> Option<SpanContext> {
    let mut values = headers.get_all(TRACEPARENT).iter();
    let only = values.next().filter(|_| values.next().is_none())?;
    let mut parts = only.to_str().ok()?.splitn(5, '-');
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let mut part = |length| {
        let part = parts.next()?;
        (part.len() == length && part.bytes().all(is_digit)).then_some(part)
    };
    let (version, trace, span, flags) = (part(2)?, part(32)?, part(16)?, part(2)?);
    // A later version may have more fields.
    if version == "ff" || version == "00" && parts.next().is_some() {
        return None;
    }
    let context = SpanContext::new(
        TraceId::from_hex(trace).ok()?,
        SpanId::from_hex(span).ok()?,
        // Unknown bits are not forwarded (section 3.2.2.5.2).
        TraceFlags::new(u8::from_str_radix(flags, 16).ok()?) & TraceFlags::SAMPLED,
        true,
        TraceState::default(),
    );
    context.is_valid().then_some(context)
}

/// The two ends of a connection.
#[derive(Clone, Debug)]
pub struct Endpoints {
    /// Remote address, which is the caller's end of the connection.
    pub client: SocketAddr,
    /// The remote address as text, which each call logs and records.
    pub client_text: Arc<str>,
    /// Local address, which the caller cannot choose.
    pub server: Option<SocketAddr>,
}

impl Endpoints {
    pub fn new(client: SocketAddr, server: Option<SocketAddr>) -> Self {
        Self {
            client,
            client_text: client.to_string().into(),
            server,
        }
    }
}

/// Returns the context of a new call: a span if spans are exported, or that of the caller.
pub fn call(headers: &HeaderMap, method: &str, endpoints: Option<&Endpoints>) -> Context {
    let mut caller = Context::new();
    if let Some(context) = caller_context(headers) {
        caller = caller.with_remote_span_context(context);
    }
    let Some(tracer) = export::tracer() else {
        return caller;
    };
    let mut attributes = vec![
        KeyValue::new(key::RPC_SYSTEM_NAME, "grpc"),
        KeyValue::new(key::RPC_METHOD, method.to_owned()),
    ];
    let client = endpoints.map(|endpoints| endpoints.client);
    let server = endpoints.and_then(|endpoints| endpoints.server);
    for (end, address, port) in [
        (client, key::CLIENT_ADDRESS, key::CLIENT_PORT),
        (server, key::SERVER_ADDRESS, key::SERVER_PORT),
    ] {
        if let Some(end) = end {
            attributes.push(KeyValue::new(address, end.ip().to_string()));
            attributes.push(KeyValue::new(port, i64::from(end.port())));
        }
    }
    let span = tracer
        .span_builder(method.to_owned())
        .with_kind(SpanKind::Server)
        .with_attributes(attributes)
        .start_with_context(tracer, &caller);
    caller.with_span(span)
}

/// Ends the span of a call. `more` returns further attributes, and is called only if the span is recorded.
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
    if is_server_error(code) {
        span.set_attribute(KeyValue::new(key::ERROR_TYPE, name));
        span.set_status(Status::error(reason));
    }
    span.end();
}

/// Returns whether the code is an error of the server (OpenTelemetry, "Semantic conventions for gRPC").
const fn is_server_error(code: Code) -> bool {
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

/// A request that is about to be sent.
pub struct RequestStart<'a> {
    pub method: &'a str,
    /// A URL with the scheme, host and port of the request. Its path is not used.
    pub url: &'a Url,
    pub path: &'a str,
    /// Template of the path, with placeholders instead of the variable parts.
    pub route: Option<&'static str>,
    /// Number of earlier requests of the same kind in this call.
    pub resent: u32,
    pub purpose: [(&'static str, &'a str); 3],
}

/// Returns the context of a request of a call with the context `call`: a span if spans are exported and the call has
/// one, or that of the call.
pub fn request(start: &RequestStart<'_>, call: &Context) -> Context {
    let tracer = export::tracer().filter(|_| call.has_active_span());
    let Some(tracer) = tracer else {
        return call.clone();
    };
    let name = match start.route {
        Some(route) => format!("{} {route}", start.method),
        None => start.method.to_owned(),
    };
    let span = tracer
        .span_builder(name)
        .with_kind(SpanKind::Client)
        .with_attributes(attributes(start))
        .start_with_context(tracer, call);
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

/// Ends the span of a request. `result` is the status of the response, or the reason why there is no response.
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

/// Adds the context to headers as `traceparent`, if it is valid.
pub fn inject(context: &Context, headers: &mut HeaderMap) {
    let span = context.span();
    let ids = span.span_context();
    if !ids.is_valid() {
        return;
    }
    let flags = ids.trace_flags() & TraceFlags::SAMPLED;
    let value = format!("00-{}-{}-{flags:02x}", ids.trace_id(), ids.span_id());
    if let Ok(value) = HeaderValue::try_from(value) {
        headers.insert(TRACEPARENT, value);
    }
}

pub fn trace_id(context: &Context) -> Option<String> {
    let span = context.span();
    let ids = span.span_context();
    ids.is_valid().then(|| ids.trace_id().to_string())
}
