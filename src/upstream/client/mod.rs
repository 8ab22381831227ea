//! The HTTP client for targets, token endpoints and the signing keys of issuers: pools of connections with HTTP/1.1,
//! HTTP/2 and TLS. The client follows no redirects, uses no proxies, resolves no host name to a link-local
//! address and limits the length of bodies. It never sends a request twice.

mod connection;
mod connector;
mod pool;
mod pools;
mod receive;
#[cfg(test)]
mod tests;
mod write_tracker;

use bytes::Bytes;
use http::{
    HeaderValue, Method, StatusCode, Uri,
    header::{ACCEPT, USER_AGENT},
};
use url::Url;

pub use self::pools::{Alpn, Change};
use self::{
    pools::Pools,
    receive::ReceiveOptions,
    write_tracker::{TrackedBody, WriteTracker},
};
use super::{
    call_limits::CallLimits,
    deadline::Deadline,
    instrument::{Operation, RequestSpan},
    response::{MAX_BODY_BYTES, RequestError, Response, USER_AGENT_TEXT, describe},
};
use crate::{client_tls::Trust, config::Roots, error::Failure, metrics::RequestMetrics};

/// Maximum length of a document that is not an upstream's response, such as a key set, in bytes.
const MAX_DOCUMENT_BYTES: usize = 1024 * 1024;

pub const HTTP_1: Alpn = &[b"http/1.1"];
/// Offers HTTP/2, and HTTP/1.1 for servers that do not support HTTP/2.
pub const HTTP_2_OR_1: Alpn = &[b"h2", b"http/1.1"];

/// Typical maximum number of headers of a request.
const TYPICAL_HEADERS: usize = 8;

const DOCUMENT: Operation = Operation {
    name: "read_keys",
    route: None,
};

/// A request. If its URI consists only of a path and a query, the request is sent to the host of the client.
pub type Request = http::Request<Bytes>;

/// Creates a request without a body, with the default headers only.
pub fn request(method: Method, uri: impl Into<Uri>) -> Request {
    let mut request = Request::new(Bytes::new());
    *request.method_mut() = method;
    *request.uri_mut() = uri.into();
    request.headers_mut().reserve(TYPICAL_HEADERS);
    let agent = HeaderValue::from_static(USER_AGENT_TEXT);
    request.headers_mut().insert(USER_AGENT, agent);
    request
}

/// Creates a header value that `Debug` does not print, and that HPACK does not add to its table: a secret, or a value
/// that differs in each request. Fails if a header value cannot contain the text.
pub fn sensitive_header(text: &str) -> Result<HeaderValue, Failure> {
    let mut value = HeaderValue::from_str(text)
        .map_err(|_| Failure::internal("a text cannot be the value of a header"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// A client for one host. Clones share connections and certificate authorities.
#[derive(Clone)]
pub struct Client {
    pools: Pools,
    metrics: RequestMetrics,
}

impl Client {
    /// Creates a client for the host of `url`. The client trusts the authorities in `roots`, as `trust` defines, and
    /// counts its requests in `numbers`. Fails if the URL or the authorities cannot be used.
    pub fn new(
        url: &Url,
        trust: Trust,
        roots: &Roots,
        alpn: Alpn,
        metrics: RequestMetrics,
    ) -> Result<Self, String> {
        Ok(Self {
            pools: Pools::new(url, trust, roots, alpn)?,
            metrics,
        })
    }

    /// Returns the change that applies the present content of the file of authorities, or `None` if this client
    /// already uses it. Requests in progress keep their connections.
    pub fn prepare_roots(&self, roots: &Roots) -> Result<Option<Change>, String> {
        self.pools.prepare_roots(roots)
    }

    /// Sends a request and reads the response. The body is not returned if the status is `no_body_status`.
    pub fn send(
        &self,
        operation: &'static Operation,
        request: Request,
        no_body_status: Option<StatusCode>,
        limits: &CallLimits,
    ) -> impl Future<Output = Result<Response, RequestError>> + Send {
        let options = ReceiveOptions {
            no_body_status,
            max_body_bytes: MAX_BODY_BYTES,
            limits,
        };
        self.observe(operation, request, options)
    }

    /// Reads a document that is not an upstream's response. Fails if the status is not 200 or the body is incomplete.
    pub async fn document(&self, url: &Url, deadline: &Deadline) -> Result<Bytes, String> {
        let uri: Uri = url.as_str().parse().map_err(|error| describe(&error))?;
        let mut request = request(Method::GET, uri);
        let any = HeaderValue::from_static("*/*");
        request.headers_mut().insert(ACCEPT, any);
        let options = ReceiveOptions {
            no_body_status: None,
            max_body_bytes: MAX_DOCUMENT_BYTES,
            limits: &deadline.clone().into(),
        };
        match self.observe(&DOCUMENT, request, options).await {
            Ok(Response {
                status: 200,
                body: Some(body),
                ..
            }) => Ok(body),
            Ok(Response { status: 200, .. }) => Err("the body was cut, or is too long".to_owned()),
            Ok(response) => Err(format!("HTTP status {}", response.status)),
            Err(
                RequestError::Unreachable(error)
                | RequestError::Cut(error)
                | RequestError::Refused(error),
            ) => Err(error),
            Err(RequestError::NotConnected | RequestError::TimedOut) => {
                Err("no answer in time".to_owned())
            }
        }
    }

    /// Sends a request, counts it, and records its span.
    fn observe(
        &self,
        operation: &'static Operation,
        request: Request,
        options: ReceiveOptions<'_>,
    ) -> impl Future<Output = Result<Response, RequestError>> + Send {
        let (mut head, body) = request.into_parts();
        let other_host = head.uri.authority().map(|_| head.uri.to_string());
        let other_host = other_host.and_then(|uri| Url::parse(&uri).ok());
        let url = other_host.as_ref().unwrap_or(self.pools.url());
        let span = RequestSpan::begin(operation, &self.metrics, url, &mut head, options.limits);
        let tracker = WriteTracker::default();
        let body = TrackedBody::new(body, &tracker);
        // Boxed, because it is moved through the futures below.
        let request = Box::new(http::Request::from_parts(head, body));
        async move {
            let response = match self.pools.pool(request.uri()) {
                Ok(pool) => receive::receive(&pool, request, &tracker, &options).await,
                Err(error) => Err(RequestError::Unreachable(describe(&error))),
            };
            span.end(&response);
            response
        }
    }
}
