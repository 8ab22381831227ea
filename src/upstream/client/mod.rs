//! The client of a target: no redirects, no proxies, no link-local hosts, no attempts of its own, bounded bodies. Its
//! requests go over connections that it keeps, and it knows of each whether a byte of it has left.

mod connector;
mod exchange;
mod http1;
mod http2;
mod pool;
mod watched;

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header::USER_AGENT, uri::PathAndQuery};
use rustls::ClientConfig;
use url::Url;

use self::{connector::Connector, exchange::Terms, pool::Pool};
use super::{
    attempt::Limits,
    http::{Answer, NoAnswer, USER_AGENT_TEXT},
    observed::{Observed, Operation, Sent},
    trusted::{Alpn, Change, Trusted},
};
use crate::{client_tls::Trust, config::Roots, metrics::Requests};

/// A request to a target, with its path and query alone.
pub type Request = http::Request<Bytes>;

/// A request without a body and, but for the usual ones, without headers.
#[must_use]
pub fn request(method: Method, path: PathAndQuery) -> Request {
    let mut request = Request::new(Bytes::new());
    *request.method_mut() = method;
    *request.uri_mut() = path.into();
    let agent = HeaderValue::from_static(USER_AGENT_TEXT);
    request.headers_mut().insert(USER_AGENT, agent);
    request
}

/// A client for one target. Clones share their connections, and what they trust.
#[derive(Clone)]
pub struct Client {
    pool: Trusted<Arc<Pool>>,
    numbers: Requests,
}

impl Client {
    /// For the host of `url`, trusting these authorities. Its requests are counted there.
    pub fn new(
        url: &Url,
        trust: Trust,
        roots: &Roots,
        alpn: Alpn,
        numbers: Requests,
    ) -> Result<Self, String> {
        Ok(Self {
            pool: Trusted::new(url, trust, roots, alpn, pool)?,
            numbers,
        })
    }

    /// See [`Trusted::trust`].
    pub fn trust(&self, roots: &Roots) -> Result<Option<Change>, String> {
        self.pool.trust(roots)
    }

    /// Sends a request and reads the answer. After the status `done` the body is of no interest.
    pub async fn send(
        &self,
        operation: &'static Operation,
        request: Request,
        done: Option<StatusCode>,
        limits: &Limits,
    ) -> Result<Answer, NoAnswer> {
        let (mut parts, body) = request.into_parts();
        let sent = Sent {
            method: &parts.method,
            url: self.pool.url(),
            path: parts.uri.path_and_query().map_or("/", PathAndQuery::as_str),
        };
        let headers = &mut parts.headers;
        let observed = Observed::begin(operation, &self.numbers, &sent, headers, limits);
        let request = Request::from_parts(parts, body);
        let terms = Terms { done, limits };
        let pool = Arc::clone(&self.pool.load().0);
        let answer = pool.send(request, &terms).await;
        observed.end(&answer);
        answer
    }
}

fn pool(url: &Url, tls: ClientConfig) -> Result<Arc<Pool>, String> {
    let tls = (url.scheme() != "http").then_some(tls);
    Ok(Arc::new(Pool::new(Connector::new(url, tls)?)))
}
