//! Code shared by the three simulated servers: a listener that stops when the sandbox is dropped, requests with their
//! raw path and a bounded body, strict percent-decoding, and the traffic counters.
//!
//! This module does not depend on Azure Batch, Microsoft Entra or the HMC.

use std::io;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::Request;
use axum::response::Response;
use axum::serve::ListenerExt as _;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use percent_encoding::percent_decode_str;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// Maximum size of a request body, in bytes. Requests of the simulated APIs need a few hundred bytes at most.
const BODY_LIMIT: usize = 64 * 1024;

/// Numbers of requests received since the start, including refused ones.
#[derive(Default)]
pub(super) struct Counters {
    pub(super) token_requests: AtomicU64,
    pub(super) batch_requests: AtomicU64,
    pub(super) batch_deletes: AtomicU64,
    pub(super) hmc_requests: AtomicU64,
    pub(super) hmc_logons: AtomicU64,
    pub(super) hmc_logoffs: AtomicU64,
    pub(super) hmc_deletes: AtomicU64,
}

pub(super) fn increment(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::SeqCst);
}

pub(super) fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::SeqCst)
}

/// Locks a mutex, even if it is poisoned: the state is consistent after each statement, so a panic of another request
/// does not corrupt it.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Serves `router` on a free loopback port until the sender of `stop` is dropped. Returns the base URL, or an error
/// if no port can be opened.
pub(super) async fn spawn(router: Router, mut stop: watch::Receiver<()>) -> io::Result<String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let url = format!("http://{}", listener.local_addr()?);
    // Disables Nagle's algorithm, which would delay the second write of a small response until the delayed ACK.
    let listener = listener.tap_io(|stream| {
        let _best_effort = stream.set_nodelay(true);
    });
    let stopped = async move { while stop.changed().await.is_ok() {} };
    tokio::spawn(async move {
        axum::serve(listener, router)
            .with_graceful_shutdown(stopped)
            .await
    });
    Ok(url)
}

/// A received request. Its path and query are not decoded.
pub(super) struct Incoming {
    pub(super) method: Method,
    /// The path, still percent-encoded, because a `%2F` inside a name must not become a separator.
    pub(super) path: String,
    pub(super) query: String,
    pub(super) headers: HeaderMap,
    /// `None` if the body exceeds the limit or is incomplete.
    pub(super) body: Option<Bytes>,
}

impl Incoming {
    /// Reads the whole request.
    pub(super) async fn read(request: Request) -> Self {
        let (head, body) = request.into_parts();
        Self {
            method: head.method,
            path: head.uri.path().to_owned(),
            query: head.uri.query().unwrap_or_default().to_owned(),
            headers: head.headers,
            body: to_bytes(body, BODY_LIMIT).await.ok(),
        }
    }

    /// Returns the value of a header, or `None` if the header is absent or is not visible ASCII.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Returns whether the request has a body, including one that could not be read.
    pub(super) fn has_body(&self) -> bool {
        self.body.as_ref().is_none_or(|body| !body.is_empty())
    }

    /// Returns the decoded path segments, or `None` if an escape is invalid or the bytes are not UTF-8.
    pub(super) fn segments(&self) -> Option<Vec<String>> {
        self.path
            .strip_prefix('/')?
            .split('/')
            .map(decode)
            .collect()
    }

    /// Returns the decoded query parameters in their order, or `None` if an escape is invalid or the bytes are not
    /// UTF-8.
    pub(super) fn query_pairs(&self) -> Option<Vec<(String, String)>> {
        form_pairs(&self.query)
    }
}

/// Parses `application/x-www-form-urlencoded` text, in which `+` is a space, as both vendors' servers parse queries
/// and forms. Returns `None` if an escape is invalid or the bytes are not UTF-8.
pub(super) fn form_pairs(text: &str) -> Option<Vec<(String, String)>> {
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((
                decode(&name.replace('+', " "))?,
                decode(&value.replace('+', " "))?,
            ))
        })
        .collect()
}

/// Decodes percent-encoded text. Unlike the decoder of the crate `percent_encoding`, returns `None` for invalid
/// escapes and for bytes that are not UTF-8.
fn decode(text: &str) -> Option<String> {
    let is_escape =
        |rest: &str| rest.len() >= 2 && rest.bytes().take(2).all(|byte| byte.is_ascii_hexdigit());
    if !text.split('%').skip(1).all(is_escape) {
        return None;
    }
    Some(percent_decode_str(text).decode_utf8().ok()?.into_owned())
}

/// Creates a response with a status and a body. Headers are added with [`set`].
pub(super) fn response(status: u16, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response
}

/// Sets a header. A value that is not valid in a header is ignored.
pub(super) fn set(response: &mut Response, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response
            .headers_mut()
            .insert(HeaderName::from_static(name), value);
    }
}

/// Returns the current UTC time in RFC 3339, with a resolution of 100 ns as in the responses of the services.
pub(super) fn now() -> String {
    let now = OffsetDateTime::now_utc();
    let ticks = now.nanosecond() / 100 * 100;
    let now = now.replace_nanosecond(ticks).unwrap_or(now);
    now.format(&Rfc3339).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_decoded_strictly() {
        assert_eq!(decode("a%2Fb%20jos%C3%A9+"), Some("a/b josé+".to_owned()));
        for broken in ["%", "a%2", "%zz", "%C3", "100%"] {
            assert_eq!(decode(broken), None, "{broken}");
        }
    }
}
