//! The layer that every call passes before its handler. The layer creates the context of the call, checks the
//! capacity of the server, authenticates the caller, limits the wait for the message, and adds error details to the
//! refusals of the transport.

use std::{
    convert::Infallible,
    mem,
    panic::AssertUnwindSafe,
    pin::pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::future::{BoxFuture, FutureExt as _};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header::CONTENT_TYPE};
use http_body_util::Full;
use tokio::sync::Semaphore;
use tonic::{Code, Status, body::Body};
use tower::Service;

use super::{
    acceptor::Peer,
    credentials::credentials,
    load_shed::{MAX_REFLECTION_CALLS, MethodKind, admit},
    message::{self, PendingMessages, Rejection},
    metadata,
    reflection::use_current_version,
    response_body::{GRPC_STATUS, ResponseBody, with_request_id},
    tls::Tls,
};
use crate::{
    access::Credentials,
    config::Server as Settings,
    error::{
        Effect, Failure,
        status::{CallFacts, status},
    },
    proto::ErrorReason as R,
    service::{
        Shared,
        call_context::{BAD_TIMEOUT, CallContext},
        refusal::{self, refuse},
        rpcs, transport_errors,
    },
};

/// The gRPC services that the layer wraps.
pub trait Services: Service<Request<Body>, Response = Response<Body>, Error = Infallible> {}

impl<S> Services for S where S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
{}

/// The services of a server, wrapped by the layer.
#[derive(Clone)]
pub struct CallLayer<S> {
    inner: S,
    handler: Arc<CallHandler>,
}

/// The settings and the shared state with which the layer admits, authenticates and refuses calls.
struct CallHandler {
    shared: Arc<Shared>,
    tls: Option<Arc<Tls>>,
    health_needs_identity: bool,
    reflection_needs_identity: bool,
    max_request_bytes: usize,
    reflection_permits: Arc<Semaphore>,
    pending: PendingMessages,
}

impl<S> CallLayer<S> {
    /// Wraps the services of a server with these settings.
    pub fn new(inner: S, shared: Arc<Shared>, tls: Option<Arc<Tls>>, settings: &Settings) -> Self {
        let handler = Arc::new(CallHandler {
            shared,
            tls,
            health_needs_identity: settings.health_needs_identity,
            // Callers without an identity do not learn that reflection is disabled.
            reflection_needs_identity: settings.reflection_needs_identity || !settings.reflection,
            max_request_bytes: settings.limits.max_request_bytes as usize,
            reflection_permits: Arc::new(Semaphore::new(MAX_REFLECTION_CALLS)),
            pending: PendingMessages::new(settings.limits.max_concurrent_calls as usize),
        });
        Self { inner, handler }
    }
}

impl<S> Service<Request<Body>> for CallLayer<S>
where
    S: Services<Future: Send> + Clone + Send + 'static,
{
    type Response = Response<ResponseBody>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        // `poll_ready` was called on this service and not on its clone, so the call must use this service.
        let clone = self.inner.clone();
        let mut inner = mem::replace(&mut self.inner, clone);
        let handler = Arc::clone(&self.handler);
        Box::pin(async move { Ok(handler.call(&mut inner, &mut request).await) })
    }
}

impl CallHandler {
    async fn call(
        &self,
        inner: &mut impl Services,
        request: &mut Request<Body>,
    ) -> Response<ResponseBody> {
        if let Some(refusal) = refuse_other_protocols(request) {
            return with_request_id(refusal, None, None);
        }
        let peer = request.extensions().get::<Peer>();
        let endpoints = peer.map(|peer| peer.endpoints.clone());
        let path = request.uri().path();
        let rpc = rpcs::rpc(path);
        let kind = MethodKind::of(path, rpc.is_some());
        let call = Arc::new(CallContext::of_request(
            request,
            rpc,
            endpoints,
            &self.shared,
        ));
        let permits = &self.reflection_permits;
        let permit = admit(kind, request.extensions(), permits, &self.shared);
        let (permit, response) = match permit {
            Ok(permit) => {
                let response = AssertUnwindSafe(self.respond(inner, request, kind, &call));
                let response = response.catch_unwind().await;
                (permit, response.unwrap_or_else(|_| panicked(&call)))
            }
            Err(failure) => (None, self.refuse(&call, failure).await),
        };
        // The pipeline has already ended its calls. Of the other calls, only the status code is known.
        if let Some(code) = code(response.headers()) {
            call.end_with(code, "");
        }
        with_request_id(response, request_id_header(&call), permit)
    }

    /// Returns the response of the handler, or a refusal if the call does not reach its handler or tonic cannot read
    /// its message. If the caller has disconnected, the response is empty.
    async fn respond(
        &self,
        inner: &mut impl Services,
        request: &mut Request<Body>,
        kind: MethodKind,
        call: &Arc<CallContext>,
    ) -> Response<Body> {
        let failure = match self.receive(request, kind, call).await {
            Ok(()) => {
                request.extensions_mut().insert(Arc::clone(call));
                let Ok(response) = inner.call(mem::take(request)).await;
                match transport_errors::failure(response.headers()) {
                    Some(failure) => failure,
                    None => return response,
                }
            }
            Err(Rejection::Refused(failure)) => failure,
            Err(Rejection::Disconnected) => {
                call.end_as_cancelled();
                return Response::default();
            }
        };
        self.refuse(call, failure).await
    }

    /// Makes the checks that apply to this kind of method, and reads the message of the request.
    async fn receive(
        &self,
        request: &mut Request<Body>,
        kind: MethodKind,
        call: &CallContext,
    ) -> Result<(), Rejection> {
        match kind {
            MethodKind::Rpc => self.receive_rpc(request, call).await,
            MethodKind::Health => {
                let needs_identity = self.health_needs_identity;
                self.check_caller(needs_identity, request, call).await?;
                self.read_message(request, call).await
            }
            MethodKind::Reflection => {
                let needs_identity = self.reflection_needs_identity;
                self.check_caller(needs_identity, request, call).await?;
                use_current_version(request);
                Ok(())
            }
            MethodKind::Unknown => Ok(()),
        }
    }

    /// Authenticates the caller of an rpc, and reads the message of the request. Callers without an identity are not
    /// refused here but by the handler.
    async fn receive_rpc(
        &self,
        request: &mut Request<Body>,
        call: &CallContext,
    ) -> Result<(), Rejection> {
        let credentials = self.credentials(request, call);
        let mut receive = pin!(async {
            self.authenticate(credentials, call).await;
            if let Some(violation) = metadata::violation(request) {
                return Err(refusal::invalid(violation).into());
            }
            self.read_message(request, call).await
        });
        // Only a call that must wait is added to the pending calls.
        if let Some(received) = receive.as_mut().now_or_never() {
            return received;
        }
        let evicted = self.pending.add(call.peer_address());
        tokio::select! {
            biased;
            received = receive => received,
            _ = evicted => Err(refusal::overloaded().into()),
        }
    }

    /// Checks that the caller of a health or reflection method has an identity, if it needs one, and that the metadata
    /// is valid. The identity is checked only once: an admitted call continues even if the identity of its caller
    /// expires.
    async fn check_caller(
        &self,
        needs_identity: bool,
        request: &mut Request<Body>,
        call: &CallContext,
    ) -> Result<(), Failure> {
        if needs_identity {
            let credentials = self.credentials(request, call);
            self.authenticate(credentials, call).await;
            let caller = call.caller();
            caller.map_err(|cause| Failure::unidentified(cause.as_str()))?;
        }
        let bad_timeout = call.deadline.is_none().then_some(BAD_TIMEOUT);
        match metadata::violation(request).or(bad_timeout) {
            Some(violation) => Err(refusal::invalid(violation)),
            None => Ok(()),
        }
    }

    fn credentials(&self, request: &Request<Body>, call: &CallContext) -> Credentials {
        credentials(request, self.tls.as_deref(), &self.shared, call)
    }

    /// Authenticates the caller, and stores the identity, or why there is none, in the context of the call.
    async fn authenticate(&self, credentials: Credentials, call: &CallContext) {
        let access = Arc::clone(&self.shared.access());
        let caller = access.authenticate(credentials, call.time_limit()).await;
        if let Err(cause) = caller {
            self.shared.metrics.unidentified(cause.as_str());
        }
        call.set_caller(caller);
    }

    /// Waits until the request is complete, and replaces its body with the message. Because of the time limit, the
    /// handler starts soon after the caller has been authenticated.
    async fn read_message(
        &self,
        request: &mut Request<Body>,
        call: &CallContext,
    ) -> Result<(), Rejection> {
        let encoding = request.headers().get(metadata::GRPC_ENCODING);
        let is_gzip = encoding.is_some_and(|encoding| encoding == "gzip");
        if !is_gzip && encoding.is_some_and(|encoding| encoding != "identity") {
            // tonic refuses other encodings before it reads the message.
            return Ok(());
        }
        let max_bytes = self.max_request_bytes;
        let time_limit = || call.time_limit();
        let message = message::receive(request.body_mut(), is_gzip, max_bytes, time_limit).await?;
        *request.body_mut() = Body::new(Full::new(message));
        Ok(())
    }

    /// Refuses a call. Returns a boxed future, because few calls are refused.
    fn refuse<'a>(
        &'a self,
        call: &'a CallContext,
        failure: Failure,
    ) -> BoxFuture<'a, Response<Body>> {
        let status = refuse(&self.shared, call, failure);
        status.map(Status::into_http).boxed()
    }
}

/// Returns the ID of a call as the value of a header.
fn request_id_header(call: &CallContext) -> Option<HeaderValue> {
    // A UUID is always a valid value.
    let mut id = HeaderValue::from_str(&call.request_id).ok()?;
    // HPACK does not add a sensitive value to its table. A new ID in each response would displace the other headers in
    // the table, and would be compared with all earlier IDs.
    id.set_sensitive(true);
    Some(id)
}

/// Returns the gRPC status code of a response without a body, which has the code in its headers.
fn code(headers: &HeaderMap) -> Option<Code> {
    Some(Code::from_bytes(headers.get(GRPC_STATUS)?.as_bytes()))
}

/// Returns the response of a handler that panicked. The pipeline handles panics while it calls the upstream; with any
/// other panic, it is not known whether anything was sent.
fn panicked(call: &CallContext) -> Response<Body> {
    call.end_with(Code::Internal, R::Internal.as_str_name());
    let facts = call.facts();
    // Only rpcs send DELETEs.
    let outcome = match facts.names {
        Some(_) => Effect::Unknown,
        None => Effect::NotSent,
    };
    let facts = CallFacts { outcome, ..facts };
    status(&Failure::internal("a panic"), &facts).into_http()
}

/// Returns the refusal of a request that is not gRPC, or `None` for a gRPC request. Other requests are refused
/// because a website can make a browser send them with the client certificate of its user.
fn refuse_other_protocols(request: &Request<Body>) -> Option<Response<Body>> {
    let content_type = request.headers().get(CONTENT_TYPE);
    let status = if request.method() != Method::POST {
        StatusCode::METHOD_NOT_ALLOWED
    } else if !content_type.is_some_and(|value| is_grpc(value.as_bytes())) {
        StatusCode::UNSUPPORTED_MEDIA_TYPE
    } else {
        return None;
    };
    let mut response = Response::new(Body::default());
    *response.status_mut() = status;
    Some(response)
}

/// Returns whether a content type is `application/grpc` or `application/grpc+proto` (gRPC over HTTP/2, "Requests").
/// Parameters are ignored.
fn is_grpc(content_type: &[u8]) -> bool {
    let kind = content_type.split(|byte| *byte == b';').next();
    let kind = kind.unwrap_or_default().trim_ascii();
    [&b"application/grpc"[..], b"application/grpc+proto"]
        .iter()
        .any(|grpc| kind.eq_ignore_ascii_case(grpc))
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, sync::Arc};

    use http::{Request, Response, header::CONTENT_TYPE};
    use tonic::{Code, Status, body::Body};
    use tonic_types::StatusExt as _;
    use tower::{Service as _, service_fn};

    use super::CallLayer;
    use crate::{
        config::{self, AuditSink},
        service::Shared,
    };

    #[tokio::test]
    async fn panic_becomes_internal_error_with_details() -> Result<(), String> {
        let inner = service_fn(|request: Request<Body>| async move {
            assert!(request.uri().path() == "/", "on purpose");
            Ok::<_, Infallible>(Response::new(Body::default()))
        });
        let mut config = config::defaults().ok_or("the defaults are valid")?;
        config.audit.sink = AuditSink::Discard;
        let shared = Arc::new(Shared::new(&config).await?);
        let mut service = CallLayer::new(inner, Arc::clone(&shared), None, &config.server);
        let rpc = "/useradmin.v1.UserAdmin/DeleteHmcUser";
        for (path, code) in [("/", None), (rpc, Some(Code::Internal))] {
            let request = Request::post(path).header(CONTENT_TYPE, "application/grpc");
            let response = service.call(request.body(Body::default()).unwrap_or_default());
            let response = response.await.ok();
            let status = response.and_then(|response| Status::from_header_map(response.headers()));
            assert_eq!(status.as_ref().map(Status::code), code);
            let info = status.and_then(|status| status.get_details_error_info());
            let outcome = info.and_then(|info| info.metadata.get("outcome").cloned());
            assert_eq!(outcome.as_deref(), code.map(|_| "unknown"));
        }
        let text = shared.metrics_text();
        let counted = "grpc_code=\"Internal\",reason=\"ERROR_REASON_INTERNAL\"} 1";
        assert!(text.contains(counted), "{text}");
        Ok(())
    }
}
