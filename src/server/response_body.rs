//! The body of a response: adds the id of the call to the trailers, and holds a permit until it has been sent.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Response};
use http_body::{Body, Frame};
use http_body_util::{BodyExt as _, combinators::MapFrame};
use tokio::sync::OwnedSemaphorePermit;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// A permit that a response holds until its body is dropped.
pub(super) type HeldPermit = Arc<OwnedSemaphorePermit>;

type MapTrailers<D> = Box<dyn FnMut(Frame<D>) -> Frame<D> + Send>;
/// The body of a response with the id of its call.
pub type ResponseBody<B> = MapFrame<B, MapTrailers<<B as Body>::Data>>;

/// Adds the id of the call to the trailers of the response.
pub(super) fn with_request_id<B: Body>(
    mut response: Response<B>,
    id: Option<HeaderValue>,
) -> Response<ResponseBody<B>> {
    let permit = response.extensions_mut().remove::<HeldPermit>();
    let insert = move |headers: &mut HeaderMap| {
        if let Some(id) = &id {
            headers.insert(REQUEST_ID, id.clone());
        }
    };
    // A response without a body has its trailers in its headers.
    if response.headers().contains_key("grpc-status") {
        insert(response.headers_mut());
    }
    response.map(|body| {
        let map: MapTrailers<B::Data> = Box::new(move |mut frame| {
            let _ = &permit;
            if let Some(trailers) = frame.trailers_mut() {
                insert(trailers);
            }
            frame
        });
        body.map_frame(map)
    })
}
