//! What the three simulated servers share: a listener that stops when the sandbox is dropped, the request as
//! it stood on the wire (raw path, bounded body), strict percent-decoding and the traffic counters.
//!
//! Nothing here knows Azure Batch, Microsoft Entra or the HMC.

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

/// No request of either API needs more than a few hundred bytes.
const BODY_LIMIT: usize = 64 * 1024;

/// Requests received since the start, whatever the answer was.
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

pub(super) fn bump(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::SeqCst);
}

pub(super) fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::SeqCst)
}

/// A poisoned lock only says that another request panicked; the state is still whole between two statements.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Serves `router` on a free loopback port until the sender of `stop` is dropped; returns the base URL.
pub(super) async fn spawn(router: Router, mut stop: watch::Receiver<()>) -> io::Result<String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let url = format!("http://{}", listener.local_addr()?);
    // Small answers in two writes would otherwise wait for Nagle and the delayed ACK.
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

/// A request as it stood on the wire.
pub(super) struct Incoming {
    pub(super) method: Method,
    /// Still percent-encoded: a `%2F` inside a name must not become a separator.
    pub(super) path: String,
    pub(super) query: String,
    pub(super) headers: HeaderMap,
    /// `None`: longer than the limit, or broken off.
    pub(super) body: Option<Bytes>,
}

impl Incoming {
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

    /// The header's text; `None` when it is absent or not text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    pub(super) fn has_body(&self) -> bool {
        self.body.as_ref().is_none_or(|body| !body.is_empty())
    }

    /// The decoded path segments; `None` when an escape is broken or the bytes are not UTF-8.
    pub(super) fn segments(&self) -> Option<Vec<String>> {
        self.path
            .strip_prefix('/')?
            .split('/')
            .map(decode)
            .collect()
    }

    /// The decoded query parameters in their order; `None` as for [`Self::segments`].
    pub(super) fn query_pairs(&self) -> Option<Vec<(String, String)>> {
        form_pairs(&self.query)
    }
}

/// `application/x-www-form-urlencoded`, as both vendors' servers read a query or a form: `+` is a blank.
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

/// Strict, unlike the crate's own decoder, which lets a broken escape through as it is.
fn decode(text: &str) -> Option<String> {
    let is_escape =
        |rest: &str| rest.len() >= 2 && rest.bytes().take(2).all(|byte| byte.is_ascii_hexdigit());
    if !text.split('%').skip(1).all(is_escape) {
        return None;
    }
    Some(percent_decode_str(text).decode_utf8().ok()?.into_owned())
}

/// An answer with a status and a body; the content type and the rest are set with [`set`].
pub(super) fn response(status: u16, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response
}

/// Sets a header; a value that no header can hold is left out.
pub(super) fn set(response: &mut Response, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response
            .headers_mut()
            .insert(HeaderName::from_static(name), value);
    }
}

/// Now, in UTC and RFC 3339, with 100 ns ticks as the services write them.
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
