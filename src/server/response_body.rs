//! The body of a response. It adds the ID of the call to the trailers, and holds a permit until the response has been
//! sent.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, combinators::MapFrame};
use tokio::sync::OwnedSemaphorePermit;
use tonic::body::Body;

/// Header or trailer with the status code of a call.
pub(super) const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The body of a response with the ID of its call.
pub type ResponseBody = MapFrame<Body, Box<dyn FnMut(Frame<Bytes>) -> Frame<Bytes> + Send>>;

/// Returns the response with the ID of the call in its trailers. The body holds `permit` until it is dropped.
pub(super) fn with_request_id(
    mut response: Response<Body>,
    id: Option<HeaderValue>,
    permit: Option<OwnedSemaphorePermit>,
) -> Response<ResponseBody> {
    let insert = move |headers: &mut HeaderMap| {
        if let Some(id) = &id {
            headers.insert(REQUEST_ID, id.clone());
        }
    };
    // A response without a body has its trailers in its headers.
    if response.headers().contains_key(GRPC_STATUS) {
        insert(response.headers_mut());
    }
    response.map(|body| {
        let map: Box<dyn FnMut(_) -> _ + Send> = Box::new(move |mut frame: Frame<Bytes>| {
            let _held = &permit;
            if let Some(trailers) = frame.trailers_mut() {
                insert(trailers);
            }
            frame
        });
        body.map_frame(map)
    })
}
