//! Requests to token endpoints: an HTTP transport for `azure_identity` that parses the responses itself.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use azure_core::{
    error::ErrorKind,
    http::{AsyncRawResponse, HttpClient, Request, StatusCode, headers::Headers, request::Body},
};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Uri};
use serde::Deserialize;
use serde_json::Value;

use super::{
    causes::{
        CREDENTIAL_REFUSED, TOKEN_ENDPOINT_UNAVAILABLE, TOKEN_ENDPOINT_UNREACHABLE,
        TOKEN_RESPONSE_NOT_UNDERSTOOD, TOKEN_TIMED_OUT, aadsts_code, is_transient, oauth_error,
        rejected, unreachable,
    },
    document,
    token::{Outcome, Token},
};
use crate::{
    error::Failure,
    upstream::{
        client::{self, Client},
        credential_cache::Lease,
        deadline::Deadline,
        instrument::Operation,
        response::{RequestError, Response},
    },
};

pub const REQUEST_TOKEN: Operation = Operation {
    name: "request_token",
    route: None,
};

/// Sends the requests of `azure_identity`, and stores the result of the last one in `outcome`. `azure_identity`
/// receives only the status of a response, because it accepts fewer forms of documents and does not expose why a
/// token is refused.
pub struct TokenHttpClient {
    pub client: Client,
    /// Whether the configured authority is plain http on a loopback host. `azure_identity` refuses http URLs, so it
    /// receives an https URL, and this client changes the URL back to http.
    pub plain: bool,
    pub timeout: Duration,
    pub outcome: Arc<Outcome>,
}

impl fmt::Debug for TokenHttpClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHttpClient")
    }
}

impl TokenHttpClient {
    fn request(&self, request: &Request) -> azure_core::Result<client::Request> {
        let method = Method::from_bytes(request.method().as_str().as_bytes()).map_err(other)?;
        let mut ours = client::request(method, self.uri(request)?);
        for (name, value) in request.headers().iter() {
            let name = HeaderName::from_bytes(name.as_str().as_bytes()).map_err(other)?;
            let mut value = HeaderValue::from_str(value.as_str()).map_err(other)?;
            // Any header may contain a secret.
            value.set_sensitive(true);
            ours.headers_mut().insert(name, value);
        }
        if let Body::Bytes(bytes) = request.body() {
            *ours.body_mut() = bytes.clone();
        }
        Ok(ours)
    }

    fn uri(&self, request: &Request) -> azure_core::Result<Uri> {
        let url = request.url().as_str();
        let uri = if self.plain {
            url.replacen("https://", "http://", 1).parse()
        } else {
            url.parse()
        };
        uri.map_err(other)
    }
}

fn other(error: impl std::error::Error + Send + Sync + 'static) -> azure_core::Error {
    azure_core::Error::new(ErrorKind::Other, error)
}

#[async_trait]
impl HttpClient for TokenHttpClient {
    async fn execute_request(&self, request: &Request) -> azure_core::Result<AsyncRawResponse> {
        let request = self.request(request)?;
        let limits = Deadline::after(self.timeout).into();
        let sent = self
            .client
            .send(&REQUEST_TOKEN, request, None, &limits)
            .await;
        let response = if let Ok(response) = &sent {
            let status = StatusCode::from(response.status);
            Ok(AsyncRawResponse::from_bytes(
                status,
                Headers::default(),
                Bytes::new(),
            ))
        } else {
            let error = "no answer from the token endpoint";
            Err(azure_core::Error::with_message(ErrorKind::Io, error))
        };
        self.outcome.set(match sent {
            Ok(response) => read(&response),
            Err(error) => Err(failed(error)),
        });
        response
    }
}

/// Returns the failure of a request that got no response.
pub fn failed(error: RequestError) -> Failure {
    let (cause, context) = match error {
        RequestError::Unreachable(context)
        | RequestError::Refused(context)
        | RequestError::Cut(context) => (TOKEN_ENDPOINT_UNREACHABLE, context),
        RequestError::NotConnected | RequestError::TimedOut => {
            (TOKEN_TIMED_OUT, "no answer in time".to_owned())
        }
    };
    unreachable(cause, format!("token endpoint: {context}"))
}

/// Returns the token of a response, or the failure that the response means.
pub fn read(response: &Response) -> Result<Lease<Token>, Failure> {
    if response.status != 200 {
        return Err(failure(response));
    }
    let now = response.date().unwrap_or_else(SystemTime::now);
    let body = response.body.as_deref().unwrap_or_default();
    document::read(body, now).map_err(|error| {
        let context = format!("token endpoint: {error}");
        unreachable(TOKEN_RESPONSE_NOT_UNDERSTOOD, context)
    })
}

/// Error document of a token endpoint. The values may have other types than the documented ones.
#[derive(Default, Deserialize)]
#[serde(default)]
pub struct Refusal {
    error: Value,
    error_codes: Value,
    error_description: Value,
    /// The claims that a new token of the user must have, as JSON in a string.
    pub claims: Value,
}

impl Refusal {
    /// Parses the body of a response. Absent values are null.
    pub fn of(response: &Response) -> Self {
        let body = response.body.as_deref().unwrap_or_default();
        serde_json::from_slice(body).unwrap_or_default()
    }
}

/// Returns the failure for a response. The error description, which may repeat the request, is not logged.
fn failure(response: &Response) -> Failure {
    let refusal = Refusal::of(response);
    let error = refusal.error.as_str().and_then(oauth_error);
    let listed = refusal.error_codes[0].as_u64();
    let listed = listed.and_then(|code| u32::try_from(code).ok());
    let aadsts = listed.or_else(|| aadsts_code(refusal.error_description.as_str()?));
    let status = response.status;

    let mut context = format!("token endpoint: {status}");
    if let Some(error) = error {
        context = format!("{context} {error}");
    }
    if let Some(code) = aadsts {
        context = format!("{context}, AADSTS{code}");
    }
    let transient = is_transient(error, aadsts);
    let failure = match status {
        400 | 401 if !transient => rejected(error.unwrap_or(CREDENTIAL_REFUSED), context),
        _ if transient => unreachable(error.unwrap_or(TOKEN_ENDPOINT_UNAVAILABLE), context),
        408 | 410 | 429 | 500.. => unreachable(TOKEN_ENDPOINT_UNAVAILABLE, context),
        _ => unreachable(error.unwrap_or(TOKEN_RESPONSE_NOT_UNDERSTOOD), context),
    };
    let refused = matches!(status, 400 | 401 | 403);
    let skew = refused.then(|| response.clock_skew()).flatten();
    let failure = Failure {
        retry_after: response.retry_after(),
        ..failure
    };
    failure.with_aadsts_code(aadsts).with_clock_skew(skew)
}
