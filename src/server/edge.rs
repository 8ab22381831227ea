//! The outermost layer: every call gets its id and its deadline here, and the id stands in the trailers of
//! every answer; an answer of the transport's own to a request that it could not read is put into our words.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body::{Body, Frame};
use http_body_util::{BodyExt as _, combinators::MapFrame};
use tonic::{Status, transport::server::TcpConnectInfo};
use tower::{Layer, Service};

use crate::service::{meta::CallMeta, unreadable};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The layer.
#[derive(Clone, Copy, Debug)]
pub struct EdgeLayer;

impl<S> Layer<S> for EdgeLayer {
    type Service = Edge<S>;

    fn layer(&self, inner: S) -> Edge<S> {
        Edge(inner)
    }
}

/// The service that the layer makes.
#[derive(Clone, Debug)]
pub struct Edge<S>(S);

type MarkTrailers<D> = Box<dyn FnMut(Frame<D>) -> Frame<D> + Send>;
type Answer<B> = Response<MapFrame<B, MarkTrailers<<B as Body>::Data>>>;

impl<S, Q, B> Service<Request<Q>> for Edge<S>
where
    S: Service<Request<Q>, Response = Response<B>>,
    S::Future: Send + 'static,
    B: Body + Default + Send + 'static,
{
    type Response = Answer<B>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Answer<B>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Q>) -> Self::Future {
        let peer = request
            .extensions()
            .get::<TcpConnectInfo>()
            .and_then(TcpConnectInfo::remote_addr)
            .map(|address| address.to_string());
        let timeout = request.headers().get("grpc-timeout");
        let meta = CallMeta::new(timeout.map(HeaderValue::as_bytes), peer.unwrap_or_default());
        // A UUID is always a header's value.
        let id = HeaderValue::from_str(&meta.request_id).ok();
        let path = request.uri().path().to_owned();
        request.extensions_mut().insert(meta.clone());
        let answer = self.0.call(request);
        Box::pin(async move {
            let answer = answer.await?;
            let better = unreadable::answer(&path, &meta, answer.headers());
            Ok(mark(better.map_or(answer, Status::into_http), id))
        })
    }
}

fn mark<B: Body>(mut answer: Response<B>, id: Option<HeaderValue>) -> Answer<B> {
    let insert = move |headers: &mut HeaderMap| {
        if let Some(id) = &id {
            headers.insert(REQUEST_ID, id.clone());
        }
    };
    // An answer without a body holds its trailers in its headers.
    if answer.headers().contains_key("grpc-status") {
        insert(answer.headers_mut());
    }
    answer.map(|body| {
        let mark: MarkTrailers<B::Data> = Box::new(move |mut frame| {
            if let Some(trailers) = frame.trailers_mut() {
                insert(trailers);
            }
            frame
        });
        body.map_frame(mark)
    })
}
