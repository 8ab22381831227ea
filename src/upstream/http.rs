//! HTTP to an upstream: one client a target, no redirects, no proxies, no link-local hosts, bounded bodies;
//! and the one fact that matters after a failure: may the request have arrived?

use std::{
    error::Error as _,
    sync::Arc,
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, StatusCode, header::RETRY_AFTER};
use reqwest::{ClientBuilder, Request, Response, redirect, retry};
use rustls::ClientConfig;
use tokio::time::timeout;
use url::Url;

use super::{
    attempt::Limits,
    connecting::{Connections, Watch},
    deadline::Deadline,
    observed::{Observed, Operation},
    resolver::NoLinkLocal,
};
use crate::{
    client_tls::{self, Trust},
    config::Roots,
    error::{Failure, Fate},
    metrics::Requests,
    proto::ErrorReason,
};

/// Most bytes of an upstream's answer that are read, ...
pub const MAX_BODY_BYTES: usize = 64 * 1024;
/// ... and of another document.
const MAX_DOCUMENT_BYTES: usize = 1024 * 1024;

/// TCP and TLS. Three of these fit the default deadline, so that a host behind a silent firewall is told as
/// unreachable, and not as a delete whose outcome is unknown.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A body that trickles is given up; the status line has been read by then.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long to wait for the rest of an answer that is done at its status line, to use the connection again.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(50);

const DOCUMENT: Operation = Operation {
    name: "read_keys",
    route: None,
    traced: false,
};

/// An upstream's answer.
pub struct Answer {
    /// Status line.
    pub status: u16,
    /// Header lines.
    pub headers: HeaderMap,
    /// The whole body; absent when it was cut, too long, or not wanted.
    pub body: Option<Bytes>,
}

impl Answer {
    /// A header's value, if it is there and plain text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// `Retry-After`, in seconds or as a date, between 1 and 60 seconds.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        let text = self.header(RETRY_AFTER.as_str())?.trim();
        let (least, most) = (Duration::from_secs(1), Duration::from_mins(1));
        let asked = if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
            // More digits than a number can have are more than the most, too.
            text.parse().map_or(most, Duration::from_secs)
        } else {
            let date = httpdate::parse_http_date(text).ok()?;
            date.duration_since(SystemTime::now()).unwrap_or_default()
        };
        Some(asked.clamp(least, most))
    }
}

/// A client for one target. Clones share what they trust.
#[derive(Clone)]
pub struct Client {
    trusting: Arc<ArcSwap<Trusting>>,
    url: Url,
    trust: Trust,
    alpn: Alpn,
    connections: Connections,
    numbers: Requests,
}

/// A client, and the authorities that it was made with.
struct Trusting {
    client: reqwest::Client,
    roots: Roots,
}

/// A change that is ready to be made, and cannot fail.
pub type Change = Box<dyn FnOnce() + Send>;

/// The versions of HTTP that are offered, the best one first.
pub type Alpn = &'static [&'static [u8]];

/// Why there is no status line.
#[derive(Debug)]
pub enum NoAnswer {
    /// No connection: nothing was sent.
    Unreachable(String),
    /// Time ran out, or the caller went away, before there was a connection: nothing was sent.
    NotConnected,
    /// The upstream said that it has not processed the request (RFC 9113, section 8.7).
    Refused(String),
    /// The connection ended, or what came was not HTTP.
    Cut(String),
    /// Time ran out.
    TimedOut,
}

impl NoAnswer {
    /// Its name in the numbers.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "unreachable",
            Self::NotConnected => "not_connected",
            Self::Refused(_) => "refused",
            Self::Cut(_) => "cut",
            Self::TimedOut => "timed_out",
        }
    }

    /// For a request that deletes: what may have left may have been carried out.
    #[must_use]
    pub fn of_delete(self) -> Failure {
        let unknown = |context| Failure {
            fate: Fate::Unknown,
            ..Failure::new(ErrorReason::OutcomeUnknown, context)
        };
        match self {
            Self::Unreachable(context) => unreachable(context),
            Self::NotConnected => Deadline::exceeded("connecting to the upstream"),
            Self::Refused(context) => Failure {
                fate: Fate::NotDeleted,
                ..refused(context)
            },
            Self::Cut(context) => unknown(context).repeatable(),
            Self::TimedOut => unknown("no answer in time".to_owned()).alternate(),
        }
    }

    /// For a request that deletes nothing.
    #[must_use]
    pub fn of_read(self) -> Failure {
        match self {
            Self::Unreachable(context) | Self::Cut(context) => unreachable(context),
            Self::NotConnected => Deadline::exceeded("connecting to the upstream"),
            Self::Refused(context) => refused(context),
            Self::TimedOut => Deadline::exceeded("waiting for the upstream's answer"),
        }
    }
}

fn unreachable(context: String) -> Failure {
    Failure::new(ErrorReason::UpstreamUnreachable, context).repeatable()
}

fn refused(context: String) -> Failure {
    Failure::new(ErrorReason::UpstreamUnavailable, context).repeatable()
}

impl Client {
    /// For `url`, trusting these authorities. Its requests are counted there.
    pub fn new(
        url: &Url,
        trust: Trust,
        roots: &Roots,
        alpn: Alpn,
        numbers: Requests,
    ) -> Result<Self, String> {
        let connections = Connections::default();
        let tls = client_tls::config(url, trust, &roots.certificates, alpn)?;
        let trusting = Trusting {
            client: build(tls, &connections)?,
            roots: roots.clone(),
        };
        Ok(Self {
            trusting: Arc::new(ArcSwap::from_pointee(trusting)),
            url: url.clone(),
            trust,
            alpn,
            connections,
            numbers,
        })
    }

    /// Ready to trust what the same file holds by now; `None` when that is nothing new. Requests in progress go on as
    /// they are. Another file, or none, is another setting: it waits for a restart.
    pub fn trust(&self, roots: &Roots) -> Result<Option<Change>, String> {
        let present = self.trusting.load();
        if *roots == present.roots || roots.file != present.roots.file {
            return Ok(None);
        }
        let tls = client_tls::config(&self.url, self.trust, &roots.certificates, self.alpn)?;
        let next = Trusting {
            client: build(tls, &self.connections)?,
            roots: roots.clone(),
        };
        let trusting = Arc::clone(&self.trusting);
        Ok(Some(Box::new(move || trusting.store(Arc::new(next)))))
    }

    /// Sends a request and reads the answer. After the status `done` the body is of no interest.
    pub async fn send(
        &self,
        operation: &'static Operation,
        request: Request,
        done: Option<StatusCode>,
        limits: &Limits,
    ) -> Result<Answer, NoAnswer> {
        self.observe(operation, request, done, MAX_BODY_BYTES, limits)
            .await
    }

    async fn observe(
        &self,
        operation: &'static Operation,
        mut request: Request,
        done: Option<StatusCode>,
        most: usize,
        limits: &Limits,
    ) -> Result<Answer, NoAnswer> {
        let observed = Observed::begin(operation, &self.numbers, &mut request, limits);
        let sent = self.exchange(request, done, most, limits).await;
        observed.end(&sent);
        sent
    }

    #[allow(clippy::disallowed_methods, reason = "this is the place")]
    async fn exchange(
        &self,
        request: Request,
        done: Option<StatusCode>,
        most: usize,
        limits: &Limits,
    ) -> Result<Answer, NoAnswer> {
        let deadline = &limits.deadline;
        let watch = self.connections.watch();
        let trusting = self.trusting.load_full();
        let sent = watch.over(trusting.client.execute(request));
        let sent = tokio::select! {
            sent = deadline.bound(sent) => sent,
            () = gone_in_time(limits, &watch) => return Err(NoAnswer::NotConnected),
        };
        let response = match sent {
            None if watch.never_left() => return Err(NoAnswer::NotConnected),
            None => return Err(NoAnswer::TimedOut),
            Some(Ok(response)) => response,
            Some(Err(error)) if error.is_connect() || error.is_builder() => {
                return Err(NoAnswer::Unreachable(describe(&error)));
            }
            Some(Err(error)) if is_refusal(&error) => {
                return Err(NoAnswer::Refused(describe(&error)));
            }
            Some(Err(error)) => return Err(NoAnswer::Cut(describe(&error))),
        };
        let (status, headers) = (response.status(), response.headers().clone());
        let body = if done == Some(status) {
            // The status line has decided. What is left is only read to use the connection again.
            let rest = timeout(DRAIN_TIMEOUT, whole_body(response, most));
            let _ = deadline.bound(rest).await;
            None
        } else {
            let body = deadline.bound(timeout(BODY_TIMEOUT, whole_body(response, most)));
            body.await.and_then(Result::ok).flatten()
        };
        self.connections.given_back();
        Ok(Answer {
            status: status.as_u16(),
            headers,
            body,
        })
    }
}

impl Client {
    /// Reads a document that is not an upstream's: exactly 200, and a whole body.
    pub async fn document(&self, url: Url, deadline: &Deadline) -> Result<Bytes, String> {
        let request = Request::new(Method::GET, url);
        let limits = deadline.clone().into();
        let read = self.observe(&DOCUMENT, request, None, MAX_DOCUMENT_BYTES, &limits);
        match read.await {
            Ok(Answer {
                status: 200,
                body: Some(body),
                ..
            }) => Ok(body),
            Ok(Answer { status: 200, .. }) => Err("the body was cut, or is too long".to_owned()),
            Ok(answer) => Err(format!("HTTP status {}", answer.status)),
            Err(NoAnswer::Unreachable(error) | NoAnswer::Cut(error) | NoAnswer::Refused(error)) => {
                Err(error)
            }
            Err(NoAnswer::NotConnected | NoAnswer::TimedOut) => Err("no answer in time".to_owned()),
        }
    }
}

fn build(tls: ClientConfig, connections: &Connections) -> Result<reqwest::Client, String> {
    ClientBuilder::new()
        .user_agent(concat!("useradmin/", env!("CARGO_PKG_VERSION")))
        .tls_backend_preconfigured(tls)
        .redirect(redirect::Policy::none())
        // Attempts are counted, paused and paid for in one place, and this is not it.
        .retry(retry::never())
        .no_proxy()
        .referer(false)
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(Duration::from_secs(30))
        .dns_resolver(NoLinkLocal)
        .connector_layer(connections.clone())
        .build()
        .map_err(|error| describe(&error))
}

/// Ends when the caller has gone while the request was surely still here.
async fn gone_in_time(limits: &Limits, watch: &Watch) {
    limits.gone.cancelled().await;
    if !watch.never_left() {
        std::future::pending::<()>().await;
    }
}

/// Did the upstream say that it has not processed the request? By `REFUSED_STREAM`, or by a GOAWAY of an orderly
/// stop, which ends the streams behind the last one that was processed (RFC 9113, sections 6.8 and 8.7).
fn is_refusal(error: &reqwest::Error) -> bool {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            let stops = error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR);
            let refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
            return error.is_remote() && (stops || refused);
        }
        cause = error.source();
    }
    false
}

/// The body, if it ends well and within the limit.
async fn whole_body(mut response: Response, most: usize) -> Option<Bytes> {
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await.ok()? {
        if body.len() + chunk.len() > most {
            return None;
        }
        body.extend_from_slice(&chunk);
    }
    Some(body.freeze())
}

/// The error and its causes, without the URL: a URL can hold what must not be logged.
fn describe(error: &reqwest::Error) -> String {
    let mut text = String::new();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(if text.is_empty() { "" } else { ": " });
        text.push_str(&error.to_string());
        cause = error.source();
    }
    if text.is_empty() {
        "the request failed".to_owned()
    } else {
        text
    }
}
