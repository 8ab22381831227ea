//! Microsoft Entra tokens through `azure_identity`, over our own HTTP client.

use std::{
    fmt,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use azure_core::{
    cloud::{CloudConfiguration, CustomConfiguration},
    credentials::{AccessToken, Secret as AzureSecret, TokenCredential},
    error::ErrorKind,
    http::{
        AsyncRawResponse, ClientOptions, HttpClient, Request, RetryOptions, StatusCode, Transport,
        Url as AzureUrl, headers::Headers, request::Body,
    },
    time::OffsetDateTime,
};
use azure_identity::{
    AzureCliCredential, AzureCliCredentialOptions, ClientAssertionCredentialOptions,
    ClientSecretCredential, ClientSecretCredentialOptions, ManagedIdentityCredential,
    ManagedIdentityCredentialOptions, UserAssignedId,
};
use futures_util::FutureExt as _;
use reqwest::{
    Method, Request as HttpRequest,
    header::{HeaderName, HeaderValue},
};
use url::Url;
use zeroize::Zeroizing;

use super::federated;
use crate::{
    config::{Entra, EntraKind, secret::unprintable},
    error::Failure,
    metrics::Requests,
    proto::ErrorReason,
    upstream::{
        aside::Client,
        deadline::Deadline,
        http::NoAnswer,
        observed::Operation,
        renewable::{LONGEST, Lease, Obtaining, Source},
    },
};

/// The kind of credential in the numbers.
pub const TOKEN: &str = "token";
const REQUEST_TOKEN: Operation = Operation {
    name: "request_token",
    route: None,
    traced: false,
};
const SCHEME: &str = "Bearer ";
const PUBLIC_AUTHORITY: &str = "https://login.microsoftonline.com";

/// The value of the Authorization header.
pub struct Token(Zeroizing<String>);

unprintable!(Token, Lease<Token>);

impl Token {
    /// The header's value. Hand it to the wire only.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The token alone.
    pub fn bare(&self) -> &str {
        self.0.strip_prefix(SCHEME).unwrap_or_default()
    }
}

/// Where tokens come from.
pub struct TokenSource {
    entra: Entra,
    client: Client,
    numbers: Requests,
}

impl TokenSource {
    /// Asks over this client.
    pub fn new(entra: Entra, client: Client, numbers: Requests) -> Self {
        numbers.expect_renewals(TOKEN);
        Self {
            entra,
            client,
            numbers,
        }
    }

    /// The URL that tokens come from, as far as the configuration decides it.
    pub fn authority(entra: &Entra) -> Option<Url> {
        entra
            .authority
            .clone()
            .or_else(|| Url::parse(PUBLIC_AUTHORITY).ok())
    }

    async fn token(&self) -> Result<Lease<Token>, Failure> {
        // `azure_identity` keeps its tokens and cannot be told that one was refused, hence a new credential
        // each time. What it says of an answer that it did not understand hides the status, hence `exchange`.
        let exchange = Arc::new(Exchange::new(self.client.clone(), &self.entra));
        let outcome = async {
            let credential = self.credential(&exchange)?;
            credential.get_token(&[&self.entra.scope], None).await
        };
        // `azure_identity` panics at life times that do not fit its clock.
        let outcome = AssertUnwindSafe(outcome).catch_unwind();
        match outcome.await {
            Err(_) => Err(unreachable("the token answer was not understood".into())),
            Ok(Err(error)) => Err(exchange.failure(&error)),
            Ok(Ok(token)) => lease(&token),
        }
    }

    fn credential(&self, exchange: &Arc<Exchange>) -> azure_core::Result<Arc<dyn TokenCredential>> {
        let client_options = self.client_options(exchange);
        Ok(match self.entra.kind.clone() {
            EntraKind::ClientSecret {
                tenant_id,
                client_id,
                secret,
            } => {
                let secret = secret.read().map_err(|error| {
                    azure_core::Error::with_error(ErrorKind::Credential, error, "secret_file")
                })?;
                let secret = AzureSecret::new(secret.expose().to_owned());
                let options = ClientSecretCredentialOptions { client_options };
                ClientSecretCredential::new(&tenant_id, client_id, secret, Some(options))?
            }
            EntraKind::WorkloadIdentity {
                tenant_id,
                client_id,
                token_file,
            } => {
                let options = ClientAssertionCredentialOptions { client_options };
                federated::credential(tenant_id, client_id, token_file, options)?
            }
            EntraKind::ManagedIdentity { client_id } => {
                ManagedIdentityCredential::new(Some(ManagedIdentityCredentialOptions {
                    user_assigned_id: client_id.map(UserAssignedId::ClientId),
                    client_options,
                }))?
            }
            EntraKind::AzureCli { tenant_id } => {
                AzureCliCredential::new(Some(AzureCliCredentialOptions {
                    tenant_id,
                    ..AzureCliCredentialOptions::default()
                }))?
            }
        })
    }

    fn client_options(&self, exchange: &Arc<Exchange>) -> ClientOptions {
        let authority = self.entra.authority.as_ref().map(Url::as_str);
        // Kubernetes tells a workload its authority in the environment; nobody else is to choose one there.
        let cloud = match (authority, &self.entra.kind) {
            (None, EntraKind::WorkloadIdentity { .. }) => None,
            (None, _) => Some(CloudConfiguration::AzurePublic),
            (Some(authority), _) => {
                let mut custom = CustomConfiguration::default();
                custom.authority_host = authority.replacen("http://", "https://", 1);
                Some(custom.into())
            }
        };
        ClientOptions {
            transport: Some(Transport::new(Arc::clone(exchange) as Arc<dyn HttpClient>)),
            retry: RetryOptions::none(),
            cloud: cloud.map(Arc::new),
            ..ClientOptions::default()
        }
    }
}

impl Source<Token> for TokenSource {
    fn obtain(self: Arc<Self>) -> Obtaining<Token> {
        Box::pin(async move { self.token().await })
    }

    fn renewed(&self, well: bool) {
        self.numbers.renewed(TOKEN, well);
    }
}

fn lease(token: &AccessToken) -> Result<Lease<Token>, Failure> {
    let life = token.expires_on - OffsetDateTime::now_utc();
    let life = Duration::try_from(life).unwrap_or_default();
    let header = Zeroizing::new(format!("{SCHEME}{}", token.token.secret()));
    let plain = !token.token.secret().is_empty() && header.bytes().all(|b| (32..127).contains(&b));
    if !plain || life.is_zero() {
        return Err(unreachable("the token answer was not understood".into()));
    }
    Ok(Lease::lasting(Token(header), life))
}

fn unreachable(context: String) -> Failure {
    Failure::new(ErrorReason::UpstreamUnreachable, context).repeatable()
}

/// What came of the last request to the token endpoint.
#[derive(Clone, Default)]
enum Seen {
    /// None was made: the credential itself could not be used.
    #[default]
    Nothing,
    /// It got no answer.
    NoAnswer(String),
    /// It got this status, with this `Retry-After`, and the difference of the clocks.
    Status(u16, Option<Duration>, Option<i64>),
}

/// The transport that `azure_identity` uses: ours, bounded, and with a memory of one answer.
struct Exchange {
    client: Client,
    /// The configured authority is plain http on a loopback host, which `azure_identity` would refuse.
    plain: bool,
    seen: Mutex<Seen>,
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Exchange")
    }
}

impl Exchange {
    fn new(client: Client, entra: &Entra) -> Self {
        Self {
            client,
            plain: entra
                .authority
                .as_ref()
                .is_some_and(|url| url.scheme() == "http"),
            seen: Mutex::new(Seen::Nothing),
        }
    }

    fn failure(&self, error: &azure_core::Error) -> Failure {
        match crate::lock(&self.seen).clone() {
            Seen::Status(status, retry_after, clock_skew) => {
                let failure = if matches!(status, 400 | 401) {
                    rejected(format!("token endpoint: {status}{}", entra_codes(error)))
                } else {
                    unreachable(format!("token endpoint: {status}"))
                };
                Failure {
                    retry_after,
                    ..failure.with_clock_skew(clock_skew)
                }
            }
            Seen::NoAnswer(context) => unreachable(format!("token endpoint: {context}")),
            Seen::Nothing => rejected(format!("no token: {}", error.kind())),
        }
    }

    fn url(&self, url: &AzureUrl) -> Result<Url, azure_core::Error> {
        let mut url = url.clone();
        if self.plain {
            url.set_scheme("http")
                .map_err(|()| azure_core::Error::with_message(ErrorKind::Other, "scheme"))?;
        }
        Ok(url)
    }
}

fn other(error: impl std::error::Error + Send + Sync + 'static) -> azure_core::Error {
    azure_core::Error::new(ErrorKind::Other, error)
}

fn rejected(context: String) -> Failure {
    Failure::new(ErrorReason::UpstreamCredentialsRejected, context)
}

/// The numbers behind `AADSTS`; the description may quote what was sent.
fn entra_codes(error: &azure_core::Error) -> String {
    let text = error.to_string();
    match text.split_once("AADSTS") {
        Some((_, rest)) => {
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            format!(", AADSTS{digits}")
        }
        None => String::new(),
    }
}

#[async_trait]
impl HttpClient for Exchange {
    async fn execute_request(&self, request: &Request) -> azure_core::Result<AsyncRawResponse> {
        let method = Method::from_bytes(request.method().as_str().as_bytes()).map_err(other)?;
        let mut ours = HttpRequest::new(method, self.url(request.url())?);
        for (name, value) in request.headers().iter() {
            let name = HeaderName::from_bytes(name.as_str().as_bytes()).map_err(other)?;
            let mut value = HeaderValue::from_str(value.as_str()).map_err(other)?;
            // Which of them prove an identity is the library's business; none of them is anybody else's.
            value.set_sensitive(true);
            ours.headers_mut().insert(name, value);
        }
        if let Body::Bytes(bytes) = request.body() {
            *ours.body_mut() = Some(bytes.clone().into());
        }
        match self
            .client
            .send(&REQUEST_TOKEN, ours, &Deadline::after(LONGEST).into())
            .await
        {
            Ok(answer) => {
                let refused = matches!(answer.status, 400 | 401 | 403);
                let skew = refused.then(|| answer.clock_skew()).flatten();
                let seen = Seen::Status(answer.status, answer.retry_after(), skew);
                *crate::lock(&self.seen) = seen;
                let body = answer.body.unwrap_or_default();
                let status = StatusCode::from(answer.status);
                Ok(AsyncRawResponse::from_bytes(
                    status,
                    Headers::default(),
                    body,
                ))
            }
            Err(no_answer) => {
                let context = match no_answer {
                    NoAnswer::Unreachable(context)
                    | NoAnswer::Refused(context)
                    | NoAnswer::Cut(context) => context,
                    NoAnswer::NotConnected | NoAnswer::TimedOut => "no answer in time".to_owned(),
                };
                *crate::lock(&self.seen) = Seen::NoAnswer(context);
                let error = "no answer from the token endpoint";
                Err(azure_core::Error::with_message(ErrorKind::Io, error))
            }
        }
    }
}
