//! Requests that are rare, to hosts beside the targets: for tokens, and for the keys of issuers. No redirects, no proxies,
//! no link-local hosts, bounded bodies, like those to targets.

use std::{error::Error as _, time::Duration};

use bytes::Bytes;
use reqwest::{ClientBuilder, Method, Request, redirect, retry};
use rustls::ClientConfig;
use tokio::time::timeout;
use url::{Position, Url};

use super::{
    attempt::Limits,
    deadline::Deadline,
    http::{
        Answer, BODY_TIMEOUT, CONNECT_TIMEOUT, MAX_BODY_BYTES, NoAnswer, USER_AGENT_TEXT, describe,
        whole,
    },
    observed::{Observed, Operation, Sent},
    resolver::NoLinkLocal,
    trusted::{Alpn, Change, Trusted},
};
use crate::{client_tls::Trust, config::Roots, metrics::Requests};

/// Most bytes of a document that are read.
const MAX_DOCUMENT_BYTES: usize = 1024 * 1024;

/// What those hosts are offered.
const HTTP_2_OR_1: Alpn = &[b"h2", b"http/1.1"];

const DOCUMENT: Operation = Operation {
    name: "read_keys",
    route: None,
    traced: false,
};

/// A client for one host. Clones share what they trust.
#[derive(Clone)]
pub struct Client {
    client: Trusted<reqwest::Client>,
    numbers: Requests,
}

impl Client {
    /// For `url`, trusting these authorities beside the system's. Its requests are counted there.
    pub fn new(url: &Url, roots: &Roots, numbers: Requests) -> Result<Self, String> {
        Ok(Self {
            client: Trusted::new(url, Trust::More, roots, HTTP_2_OR_1, client)?,
            numbers,
        })
    }

    /// See [`Trusted::trust`].
    pub fn trust(&self, roots: &Roots) -> Result<Option<Change>, String> {
        self.client.trust(roots)
    }

    /// Sends a request and reads the answer.
    pub async fn send(
        &self,
        operation: &'static Operation,
        request: Request,
        limits: &Limits,
    ) -> Result<Answer, NoAnswer> {
        self.observe(operation, request, MAX_BODY_BYTES, limits)
            .await
    }

    async fn observe(
        &self,
        operation: &'static Operation,
        mut request: Request,
        most: usize,
        limits: &Limits,
    ) -> Result<Answer, NoAnswer> {
        let (method, url) = (request.method().clone(), request.url().clone());
        let sent = Sent {
            method: &method,
            url: &url,
            path: &url[Position::BeforePath..Position::AfterQuery],
        };
        let headers = request.headers_mut();
        let observed = Observed::begin(operation, &self.numbers, &sent, headers, limits);
        let answer = self.exchange(request, most, limits).await;
        observed.end(&answer);
        answer
    }

    #[allow(clippy::disallowed_methods, reason = "this is the place")]
    async fn exchange(
        &self,
        request: Request,
        most: usize,
        limits: &Limits,
    ) -> Result<Answer, NoAnswer> {
        let client = self.client.load().0.clone();
        let sent = limits.bound(client.execute(request)).await;
        // Nothing is deleted by these: whether they left is of no interest.
        let response = sent
            .ok_or(NoAnswer::TimedOut)?
            .map_err(|error| no_answer(&error))?;
        let (head, body) = http::Response::from(response).into_parts();
        let body = limits.bound(timeout(BODY_TIMEOUT, whole(&head, body, most)));
        let body = body.await.and_then(Result::ok).flatten();
        Ok(Answer {
            status: head.status.as_u16(),
            headers: head.headers,
            body,
        })
    }
}

impl Client {
    /// Reads a document that is not an upstream's: exactly 200, and a whole body.
    pub async fn document(&self, url: Url, deadline: &Deadline) -> Result<Bytes, String> {
        let request = Request::new(Method::GET, url);
        let limits = deadline.clone().into();
        let read = self.observe(&DOCUMENT, request, MAX_DOCUMENT_BYTES, &limits);
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

fn client(_: &Url, tls: ClientConfig) -> Result<reqwest::Client, String> {
    ClientBuilder::new()
        .user_agent(USER_AGENT_TEXT)
        .tls_backend_preconfigured(tls)
        .redirect(redirect::Policy::none())
        // Attempts are counted, paused and paid for in one place, and this is not it.
        .retry(retry::never())
        .no_proxy()
        .referer(false)
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(Duration::from_secs(30))
        .dns_resolver(NoLinkLocal)
        .build()
        .map_err(|error| causes(&error))
}

fn no_answer(error: &reqwest::Error) -> NoAnswer {
    let text = causes(error);
    if error.is_connect() || error.is_builder() {
        NoAnswer::Unreachable(text)
    } else {
        NoAnswer::Cut(text)
    }
}

/// The causes of an error; its own text has the URL, which can hold what must not be logged.
fn causes(error: &reqwest::Error) -> String {
    error
        .source()
        .map_or_else(|| "the request failed".to_owned(), describe)
}
