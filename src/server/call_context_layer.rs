//! The outermost layer: refuses requests that are not gRPC, and creates the context of each call with its id and its
//! deadline.

use std::{
    future::Future,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::FutureExt as _;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header::CONTENT_TYPE};
use http_body::Body;
use opentelemetry::context::FutureExt as _;
use tonic::Code;
use tower::{Layer, Service};

use super::{
    acceptor::Peer,
    method_kind::MethodKind,
    request_body::RequestBody,
    response_body::{ResponseBody, with_request_id},
};
use crate::{
    access::refusals::Refusals,
    error::{
        Failure,
        status::{CallFacts, status},
    },
    metrics::Metrics,
    proto::ErrorReason,
    service::{call_context::CallContext, instrument::CallInstrument, rpcs},
    trace::Ends,
};

/// The layer.
#[derive(Clone)]
pub struct CallContextLayer {
    /// What monitoring sees of calls.
    pub metrics: Arc<Metrics>,
    /// Limits what refused calls write.
    pub refusals: Arc<Refusals>,
    /// The largest request message, in bytes.
    pub max_request_bytes: usize,
}

impl<S> Layer<S> for CallContextLayer {
    type Service = CallContextService<S>;

    fn layer(&self, inner: S) -> CallContextService<S> {
        let layer = self.clone();
        CallContextService { inner, layer }
    }
}

/// The service that the layer makes.
#[derive(Clone)]
pub struct CallContextService<S> {
    inner: S,
    layer: CallContextLayer,
}

impl<S, Q, B> Service<Request<Q>> for CallContextService<S>
where
    S: Service<Request<RequestBody<Q>>, Response = Response<B>>,
    S::Future: Send + 'static,
    B: Body + Default + Send + 'static,
{
    type Response = Response<ResponseBody<B>>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<ResponseBody<B>>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Q>) -> Self::Future {
        if let Some(refusal) = refusal(&request) {
            return Box::pin(async move { Ok(with_request_id(refusal, None)) });
        }
        let layer = &self.layer;
        let peer = request.extensions().get::<Peer>();
        let ends = Ends {
            client: peer.map(|peer| peer.address),
            server: peer.and_then(|peer| peer.local),
        };
        let path = request.uri().path();
        let is_stream = MethodKind::of(path) == MethodKind::Reflection;
        let mut call = CallContext::new(timeout(request.headers()), ends.client);
        call.rpc = rpcs::rpc(path);
        call.instrument = call.rpc.map(|(rpc, _)| {
            let (id, metrics, refusals) = (&call.request_id, &layer.metrics, &layer.refusals);
            Arc::new(CallInstrument::start(
                rpc, &request, id, ends, metrics, refusals,
            ))
        });
        let instrument = call.instrument.clone();
        // A UUID is always a header's value.
        let id = HeaderValue::from_str(&call.request_id).ok();
        let request_id = call.request_id.clone();
        let cut = call.cut.clone();
        request.extensions_mut().insert(Arc::new(call));
        let request =
            request.map(|body| RequestBody::new(body, cut, is_stream, layer.max_request_bytes));
        let context = instrument
            .as_ref()
            .map(|instrument| instrument.context().clone());
        let answer = self.inner.call(request);
        let answer = AssertUnwindSafe(answer).catch_unwind();
        let answer = answer.with_context(context.unwrap_or_default());
        Box::pin(async move {
            let answer = answer.await.unwrap_or_else(|_| {
                if let Some(instrument) = &instrument {
                    let reason = ErrorReason::Internal.as_str_name();
                    instrument.end_with(Code::Internal, reason);
                }
                Ok(panicked(request_id))
            });
            let answer = answer?;
            // A response that no handler made has only a code.
            if let Some(instrument) = instrument.filter(|instrument| !instrument.has_ended())
                && let Some(code) = code(answer.headers())
            {
                instrument.end_with(code, "");
            }
            Ok(with_request_id(answer, id))
        })
    }
}

/// Returns the status code of a response without a body.
fn code(headers: &HeaderMap) -> Option<Code> {
    Some(Code::from_bytes(headers.get("grpc-status")?.as_bytes()))
}

/// Returns the response of a handler that panicked. A call that was admitted has a response and a record of its own.
fn panicked<B: Default>(request_id: String) -> Response<B> {
    let facts = CallFacts::of_request(request_id);
    status(&Failure::internal("a panic"), &facts).into_http()
}

/// Returns the text of `grpc-timeout`, which is empty, and so malformed, if there is more than one.
fn timeout(headers: &HeaderMap) -> Option<&[u8]> {
    let mut values = headers.get_all("grpc-timeout").iter();
    let value = values.next()?.as_bytes();
    Some(values.next().map_or(value, |_| b""))
}

/// Returns the refusal of a request that is not gRPC. A website can make a browser send other requests with the
/// certificate of its user.
fn refusal<Q, B: Default>(request: &Request<Q>) -> Option<Response<B>> {
    let content_type = request.headers().get(CONTENT_TYPE);
    let status = if request.method() != Method::POST {
        StatusCode::METHOD_NOT_ALLOWED
    } else if !content_type.is_some_and(|value| is_grpc(value.as_bytes())) {
        StatusCode::UNSUPPORTED_MEDIA_TYPE
    } else {
        return None;
    };
    let mut answer = Response::new(B::default());
    *answer.status_mut() = status;
    Some(answer)
}

/// Returns whether a content type is `application/grpc`, or with `+proto` (gRPC over HTTP/2, "Requests"). Parameters are
/// ignored.
fn is_grpc(content_type: &[u8]) -> bool {
    let kind = content_type.split(|byte| *byte == b';').next();
    let kind = kind.unwrap_or_default().trim_ascii();
    [&b"application/grpc"[..], b"application/grpc+proto"]
        .iter()
        .any(|grpc| kind.eq_ignore_ascii_case(grpc))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::{Request, Response, header::CONTENT_TYPE};
    use tonic::{Code, Status, body::Body};
    use tower::{Layer as _, Service as _, service_fn};

    use super::{CallContextLayer, RequestBody};
    use crate::metrics::{Metrics, Snapshot};

    #[tokio::test]
    async fn a_panic_is_an_internal_error_with_details() {
        let inner = service_fn(|request: Request<RequestBody<Body>>| async move {
            assert!(request.uri().path() == "/", "on purpose");
            Ok::<_, String>(Response::new(Body::default()))
        });
        let metrics = Arc::<Metrics>::default();
        let layer = CallContextLayer {
            metrics: Arc::clone(&metrics),
            refusals: Arc::default(),
            max_request_bytes: 1_024,
        };
        let mut service = layer.layer(inner);
        let rpc = "/useradmin.v1.UserAdmin/DeleteHmcUser";
        for (path, code) in [("/", None), (rpc, Some(Code::Internal))] {
            let request = Request::post(path).header(CONTENT_TYPE, "application/grpc");
            let answer = service.call(request.body(Body::default()).unwrap_or_default());
            let answer = answer.await.ok();
            let status = answer.and_then(|answer| Status::from_header_map(answer.headers()));
            assert_eq!(status.as_ref().map(Status::code), code);
            let details = status.map(|status| status.details().len());
            assert!(details.is_none_or(|length| length > 50));
        }
        let text = metrics.text(&Snapshot::default());
        let counted = "grpc_code=\"Internal\",reason=\"ERROR_REASON_INTERNAL\"} 1";
        assert!(text.contains(counted), "{text}");
    }
}
