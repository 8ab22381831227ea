//! The context of a call, which is an extension of its request: the facts that are known before the message is read,
//! the metrics and the trace.

use std::{
    net::IpAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::{HeaderMap, HeaderName, Request};
use opentelemetry::{Context, KeyValue};
use tokio::time::Instant;
use tonic::{Code, Extensions};
use uuid::Builder;

use super::Shared;
use crate::{
    access::{Authenticated, authentication_error::AuthenticationError, refusals::Kind},
    caller_token::CallerToken,
    error::{Violation, resource::ResourceNames, status::CallFacts},
    identity::Identity,
    trace::{self, Endpoints},
    upstream::deadline::Deadline,
};

/// Header with the time limit of a call.
pub(crate) const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
/// Time limit of a call without a deadline.
const DEFAULT_DURATION: Duration = Duration::from_secs(30);
pub const MAX_CALL_DURATION: Duration = Duration::from_mins(1);
/// Time before the deadline of the caller at which the response is due.
const MARGIN: Duration = Duration::from_millis(100);
/// The kind under which calls are logged whose caller disconnects before the message has arrived.
const CANCELLED: Kind = Kind::logged("call ended", "Cancelled");

/// The violation that is reported for a call whose `grpc-timeout` is malformed or occurs more than once.
pub(crate) const BAD_TIMEOUT: Violation = Violation {
    field: "grpc-timeout",
    description: "must occur at most once, as 1-8 digits and one of H M S m u n",
};

/// The name of an rpc, and the resource names of its platform.
pub(crate) type RpcNames = (&'static str, &'static ResourceNames);

pub struct CallContext {
    /// ID that the server assigned to the call.
    pub(crate) request_id: Arc<str>,
    /// Path of the request: the names of service and method.
    pub(super) path: String,
    /// The rpc; `None` for the methods of other services.
    pub(super) rpc: Option<RpcNames>,
    /// The ends of the connection, if they are known.
    endpoints: Option<Endpoints>,
    /// When the response is due; `None` if `grpc-timeout` is malformed.
    pub deadline: Option<Deadline>,
    pub(super) received: Instant,
    caller: OnceLock<Result<Caller, AuthenticationError>>,
    /// `None` if the call is not an rpc of `UserAdmin`.
    instrument: Option<Instrument>,
}

struct Caller {
    identity: Identity,
    /// The identity as text.
    name: Arc<str>,
    token: Option<Arc<CallerToken>>,
}

/// Metrics and span of a call.
struct Instrument {
    shared: Arc<Shared>,
    span: Context,
    ended: AtomicBool,
}

impl Default for CallContext {
    fn default() -> Self {
        Self::new(None, None)
    }
}

impl CallContext {
    /// Creates the context of a call that arrives now. `timeout` is the value of its `grpc-timeout`. The caller is
    /// not authenticated yet.
    pub fn new(timeout: Option<&[u8]>, endpoints: Option<Endpoints>) -> Self {
        let received = Instant::now();
        let time = match timeout {
            None => Some(DEFAULT_DURATION),
            Some(text) => parse_timeout(text).map(|time| time.min(MAX_CALL_DURATION)),
        };
        Self {
            request_id: new_id().into(),
            path: String::new(),
            rpc: None,
            endpoints,
            deadline: time.map(|time| Deadline::at(received + time.saturating_sub(MARGIN))),
            received,
            caller: OnceLock::new(),
            instrument: None,
        }
    }

    /// Creates the context of a request. Starts the metrics and the span if the request calls an rpc of `UserAdmin`.
    pub(crate) fn of_request<B>(
        request: &Request<B>,
        rpc: Option<RpcNames>,
        endpoints: Option<Endpoints>,
        shared: &Arc<Shared>,
    ) -> Self {
        let path = request.uri().path();
        let instrument = rpc.map(|(rpc, _)| {
            shared.metrics.calls.record_start(rpc);
            let method = path.trim_start_matches('/');
            Instrument {
                shared: Arc::clone(shared),
                span: trace::call(request.headers(), method, endpoints.as_ref()),
                ended: AtomicBool::new(false),
            }
        });
        let mut call = Self::new(timeout(request.headers()), endpoints);
        path.clone_into(&mut call.path);
        call.rpc = rpc;
        call.instrument = instrument;
        call
    }

    /// Returns the context in the extensions of a request, or a default context if there is none.
    pub(crate) fn of(extensions: &Extensions) -> Arc<Self> {
        let found = extensions.get::<Arc<Self>>().cloned();
        found.unwrap_or_default()
    }

    /// Sets the authenticated identity, or the reason why there is none.
    pub(crate) fn set_caller(&self, caller: Result<impl Into<Authenticated>, AuthenticationError>) {
        let caller = caller.map(|caller| {
            let Authenticated { identity, token } = caller.into();
            let name = identity.to_string().into();
            Caller {
                identity,
                name,
                token,
            }
        });
        // This cannot fail, because a caller is authenticated only once.
        let _ = self.caller.set(caller);
    }

    /// Returns the authenticated identity, or the reason why there is none.
    pub(crate) fn caller(&self) -> Result<&Identity, AuthenticationError> {
        match self.caller.get() {
            Some(Ok(caller)) => Ok(&caller.identity),
            Some(Err(error)) => Err(*error),
            None => Err(AuthenticationError::NoCredentials),
        }
    }

    /// Returns the token of the user who calls, or the reason why the caller showed none.
    pub(super) fn user_token(&self) -> Result<&Arc<CallerToken>, AuthenticationError> {
        let caller = self.caller.get().and_then(|caller| caller.as_ref().ok());
        match caller.and_then(|caller| caller.token.as_ref()) {
            None => Err(AuthenticationError::UserTokenRequired),
            Some(token) if token.is_app_only => Err(AuthenticationError::AppOnlyToken),
            Some(token) => Ok(token),
        }
    }

    /// Returns why there is no identity, as a value of the metadata key `cause`.
    pub(super) fn unauthenticated_cause(&self) -> Option<&'static str> {
        self.caller().err().map(AuthenticationError::as_str)
    }

    /// Returns the identity as text, which is empty if there is none.
    pub(super) fn caller_name(&self) -> Arc<str> {
        let caller = self.caller.get().and_then(|caller| caller.as_ref().ok());
        caller.map_or_else(Arc::default, |caller| Arc::clone(&caller.name))
    }

    /// Returns the facts that are known before the message is read.
    pub(crate) fn facts(&self) -> CallFacts {
        CallFacts {
            names: self.rpc.map(|(_, names)| names),
            caller: self.caller_name(),
            ..CallFacts::of_request(Arc::clone(&self.request_id))
        }
    }

    /// Returns the IP address of the client, or `None` if it is not known.
    pub(crate) fn peer_address(&self) -> Option<IpAddr> {
        let endpoints = self.endpoints.as_ref();
        endpoints.map(|endpoints| endpoints.client.ip())
    }

    /// Returns the address and the port of the client as text, or `None` if they are not known.
    pub(crate) fn peer(&self) -> Option<&str> {
        let endpoints = self.endpoints.as_ref();
        endpoints.map(|endpoints| &*endpoints.client_text)
    }

    /// Returns the time until the deadline, or zero if `grpc-timeout` is malformed.
    pub fn remaining(&self) -> Duration {
        let deadline = self.deadline.as_ref();
        deadline.map_or(Duration::ZERO, Deadline::remaining)
    }

    /// Returns the time limit for authentication and message. If `grpc-timeout` is malformed, this is the default,
    /// because that violation is reported only after the message has been read.
    pub(crate) fn time_limit(&self) -> Duration {
        let deadline = self.deadline.as_ref();
        deadline.map_or(DEFAULT_DURATION, Deadline::remaining)
    }

    /// Returns the tracing context in which the future of the call must run. It is empty if the call has no span.
    pub(crate) fn span(&self) -> Context {
        let instrument = self.instrument.as_ref();
        instrument.map_or_else(Context::new, |instrument| instrument.span.clone())
    }

    pub(super) fn trace_id(&self) -> Option<String> {
        let instrument = self.instrument.as_ref()?;
        trace::trace_id(&instrument.span)
    }

    /// Ends the metrics and the span. `attributes` returns further attributes of the span. Does nothing if the call
    /// has neither, or if they have already ended.
    pub(super) fn end(
        &self,
        code: Code,
        reason: &'static str,
        attributes: impl FnOnce() -> Vec<KeyValue>,
    ) {
        let (Some(instrument), Some((rpc, _))) = (&self.instrument, self.rpc) else {
            return;
        };
        if !instrument.ended.swap(true, Ordering::Relaxed) {
            let calls = &instrument.shared.metrics.calls;
            calls.record_end(rpc, code, reason, self.received.elapsed());
            trace::end_call(&instrument.span, code, reason, attributes);
        }
    }

    /// Ends metrics and span without further attributes.
    pub(crate) fn end_with(&self, code: Code, reason: &'static str) {
        self.end(code, reason, Vec::new);
    }

    /// Ends the metrics and the span of a call whose caller disconnected before the message arrived, and logs the
    /// call. Does nothing if they have already ended.
    pub(crate) fn end_as_cancelled(&self) {
        let Some(instrument) = &self.instrument else {
            return;
        };
        if instrument.ended.load(Ordering::Relaxed) {
            return;
        }
        let refusals = &instrument.shared.refusals;
        if refusals.should_report(self.peer_address(), None, CANCELLED) {
            tracing::info!(
                request_id = &*self.request_id,
                trace_id = self.trace_id(),
                rpc = self.rpc.map(|(rpc, _)| rpc),
                peer = self.peer(),
                code = ?Code::Cancelled,
                reason = "",
                outcome = "not_sent",
                context = "the caller disconnected before its message arrived",
                caller_gone = true,
                "call ended"
            );
        }
        self.end_with(Code::Cancelled, "");
    }
}

/// Ends a call as cancelled if it is dropped without a response. Does nothing if the call has already ended.
impl Drop for CallContext {
    fn drop(&mut self) {
        self.end_as_cancelled();
    }
}

/// Returns a random UUID.
pub(super) fn new_id() -> String {
    // The thread-local generator makes fewer system calls than `Uuid::new_v4`.
    Builder::from_random_bytes(rand::random())
        .into_uuid()
        .to_string()
}

/// Returns the value of `grpc-timeout`, or an empty one, which is malformed, if it occurs more than once.
fn timeout(headers: &HeaderMap) -> Option<&[u8]> {
    let mut values = headers.get_all(GRPC_TIMEOUT).iter();
    let value = values.next()?.as_bytes();
    Some(values.next().map_or(value, |_| b""))
}

/// Parses `grpc-timeout`: 1 to 8 digits and a unit (gRPC over HTTP/2, "Requests").
pub fn parse_timeout(text: &[u8]) -> Option<Duration> {
    let (unit, digits) = text.split_last()?;
    if !(1..=8).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let amount: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(match unit {
        b'H' => Duration::from_secs(amount * 3600),
        b'M' => Duration::from_secs(amount * 60),
        b'S' => Duration::from_secs(amount),
        b'm' => Duration::from_millis(amount),
        b'u' => Duration::from_micros(amount),
        b'n' => Duration::from_nanos(amount),
        _ => return None,
    })
}
