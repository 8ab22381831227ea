//! A connection to an upstream, over HTTP/1.1 or HTTP/2.

use std::mem;

use futures_util::{
    TryFutureExt as _,
    future::{BoxFuture, Either},
};
use http::{
    HeaderValue, Request, Response, Uri,
    header::HOST,
    uri::{Authority, Parts},
};
use hyper::{
    body::Incoming,
    client::conn::{TrySendError, http1, http2},
};
use hyper_rustls::MaybeHttpsStream;
use hyper_util::{
    client::legacy::connect::Connection as _,
    rt::{TokioExecutor, TokioIo},
};
use tokio::net::TcpStream;

use super::write_tracker::TrackedBody;

/// A TCP connection, with TLS where the URL says `https`.
pub type Stream = MaybeHttpsStream<TokioIo<TcpStream>>;
/// Why there is no response. Contains the request if the connection had not started to write it.
pub type RequestFailure = TrySendError<Request<TrackedBody>>;

/// The host that requests are sent to.
#[derive(Clone)]
pub struct Origin {
    /// The scheme, the authority and the path `/`.
    pub uri: Uri,
    /// The value of the `Host` header.
    host: HeaderValue,
}

impl Origin {
    /// Returns the origin of a URI, without user and password. Fails if the URI has no host.
    pub fn new(uri: &Uri) -> Result<Self, http::Error> {
        let authority = uri.authority().map_or("", Authority::as_str);
        let authority = authority.rsplit('@').next().unwrap_or_default();
        let scheme = uri.scheme_str().unwrap_or_default();
        let builder = Uri::builder().scheme(scheme).authority(authority);
        Ok(Self {
            uri: builder.path_and_query("/").build()?,
            host: HeaderValue::from_str(authority)?,
        })
    }

    /// Returns whether a request for this URI belongs to this origin. A URI without an authority does.
    pub fn includes(&self, uri: &Uri) -> bool {
        uri.authority().is_none()
            || uri.authority() == self.uri.authority() && uri.scheme() == self.uri.scheme()
    }

    /// Returns the absolute form of a URI that may consist only of a path and a query.
    fn absolute(&self, uri: Uri) -> Uri {
        let mut parts = self.uri.clone().into_parts();
        parts.path_and_query = uri.into_parts().path_and_query.or(parts.path_and_query);
        // A URI with a scheme, an authority and a path is always valid.
        Uri::from_parts(parts).unwrap_or_default()
    }
}

/// Returns the path and the query of a URI.
fn relative(uri: Uri) -> Uri {
    let mut parts = Parts::default();
    parts.path_and_query = uri.into_parts().path_and_query;
    Uri::from_parts(parts).unwrap_or_default()
}

/// An open connection. A separate task reads and writes, and ends with the connection.
pub enum Connection {
    /// A connection for one request at a time.
    Http1(http1::SendRequest<TrackedBody>),
    /// A handle to a connection that requests share.
    Http2(http2::SendRequest<TrackedBody>),
}

impl Connection {
    /// Starts HTTP on a stream, in the version that the TLS handshake selected.
    #[allow(
        clippy::disallowed_methods,
        reason = "the only place that starts HTTP connections to upstreams"
    )]
    pub fn start(stream: Stream) -> BoxFuture<'static, hyper::Result<Self>> {
        if stream.connected().is_negotiated_h2() {
            let handshake = http2::handshake(TokioExecutor::new(), stream);
            return Box::pin(handshake.map_ok(|(sender, task)| {
                tokio::spawn(task);
                Self::Http2(sender)
            }));
        }
        // Requests are small. Copying one into a single buffer takes less time than `writev`.
        let handshake = http1::Builder::new().writev(false).handshake(stream);
        Box::pin(handshake.map_ok(|(sender, task)| {
            tokio::spawn(task);
            Self::Http1(sender)
        }))
    }

    /// Returns whether the connection can take a request.
    pub fn is_ready(&self) -> bool {
        match self {
            Self::Http1(sender) => sender.is_ready(),
            Self::Http2(sender) => sender.is_ready(),
        }
    }

    /// Waits until the connection can take a request. Fails if the connection is closed.
    pub async fn ready(&mut self) -> hyper::Result<()> {
        match self {
            Self::Http1(sender) => sender.ready().await,
            Self::Http2(sender) => sender.ready().await,
        }
    }

    /// Sends a request to the origin, and waits for the head of the response. The error returns the request if the
    /// connection had not started to write the request.
    pub fn send(
        &mut self,
        mut request: Box<Request<TrackedBody>>,
        origin: &Origin,
    ) -> impl Future<Output = Result<Response<Incoming>, RequestFailure>> + use<> {
        let uri = request.uri_mut();
        match self {
            Self::Http1(sender) => {
                if uri.authority().is_some() {
                    *uri = relative(mem::take(uri));
                }
                request.headers_mut().insert(HOST, origin.host.clone());
                Either::Left(sender.try_send_request(*request))
            }
            Self::Http2(sender) => {
                *uri = origin.absolute(mem::take(uri));
                request.headers_mut().remove(HOST);
                Either::Right(sender.try_send_request(*request))
            }
        }
    }
}
