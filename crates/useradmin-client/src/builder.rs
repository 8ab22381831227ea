//! Configuration of a client.

use std::{error::Error, fmt, path::PathBuf, sync::Arc, time::Duration};

use tonic::transport::{self, Certificate, ClientTlsConfig, Endpoint, Identity};

use crate::{
    client::Client,
    token::{self, BoxError, Token, TokenSource},
};

/// Deadline of calls for which the caller sets none. The server has the same default.
const DEFAULT_DEADLINE: Duration = Duration::from_secs(30);
/// Maximum time to establish a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Interval of HTTP/2 pings during calls. They detect a server that disappeared without closing the connection.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// Maximum time to wait for the response to a ping.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// A builder for a [`Client`].
#[must_use]
pub struct ClientBuilder {
    endpoint: String,
    ca: Option<Certificate>,
    identity: Option<Identity>,
    token: Option<TokenSource>,
    deadline: Duration,
}

impl Client {
    /// Returns a builder for a client of this endpoint, such as `https://useradmin.example:50051`.
    pub fn builder(endpoint: impl Into<String>) -> ClientBuilder {
        ClientBuilder {
            endpoint: endpoint.into(),
            ca: None,
            identity: None,
            token: None,
            deadline: DEFAULT_DEADLINE,
        }
    }
}

impl ClientBuilder {
    /// Trusts the certificate authorities in this PEM text instead of those of the system.
    pub fn ca_certificate(mut self, pem: impl AsRef<[u8]>) -> Self {
        self.ca = Some(Certificate::from_pem(pem));
        self
    }

    /// Presents this client certificate, given with its chain and its private key in PEM (mutual TLS).
    ///
    /// The client keeps the certificate. Build a new client when the certificate is renewed.
    pub fn client_certificate(mut self, pem: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Self {
        self.identity = Some(Identity::from_pem(pem, key));
        self
    }

    /// Sends this bearer token with each call.
    pub fn bearer_token(self, token: Token) -> Self {
        self.bearer_token_source(move || Ok(token.clone()))
    }

    /// Sends the bearer token in this file with each call. The file is read for each call, so that a renewed token is
    /// used immediately.
    pub fn bearer_token_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.token = Some(token::file(path.into()));
        self
    }

    /// Sends the bearer token that `source` returns. The function is called for each call and must not block.
    ///
    /// If it returns an error, the call fails with [`Error::Token`](crate::Error::Token).
    pub fn bearer_token_source(
        mut self,
        source: impl Fn() -> Result<Token, BoxError> + Send + Sync + 'static,
    ) -> Self {
        self.token = Some(Arc::new(source));
        self
    }

    /// Sets the deadline of calls for which the caller sets none. The default is 30 seconds. The server limits
    /// deadlines to 60 seconds.
    pub fn default_deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Creates the client. It connects at the first call, and reconnects if the connection is lost.
    ///
    /// # Errors
    ///
    /// Returns an error if the configuration is not valid. If a connection fails, the calls return the error.
    ///
    /// # Panics
    ///
    /// Panics if it is called outside of a Tokio runtime.
    pub fn build(self) -> Result<Client, BuildError> {
        let endpoint = self.endpoint()?;
        Ok(Client::new(
            endpoint.connect_lazy(),
            self.token,
            self.deadline,
        ))
    }

    fn endpoint(&self) -> Result<Endpoint, BuildError> {
        let invalid = |_| BuildError::Endpoint(self.endpoint.clone());
        let endpoint = Endpoint::from_shared(self.endpoint.clone())
            .map_err(invalid)?
            .user_agent(concat!("useradmin-client/", env!("CARGO_PKG_VERSION")))
            .map_err(invalid)?
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT);
        match endpoint.uri().scheme_str() {
            Some("https") => endpoint.tls_config(self.tls()).map_err(BuildError::Tls),
            Some("http")
                if self.ca.is_some() || self.identity.is_some() || self.token.is_some() =>
            {
                Err(BuildError::Plaintext)
            }
            Some("http") => Ok(endpoint),
            _ => Err(BuildError::Endpoint(self.endpoint.clone())),
        }
    }

    fn tls(&self) -> ClientTlsConfig {
        let tls = match &self.ca {
            Some(ca) => ClientTlsConfig::new().ca_certificate(ca.clone()),
            None => ClientTlsConfig::new().with_native_roots(),
        };
        match &self.identity {
            Some(identity) => tls.identity(identity.clone()),
            None => tls,
        }
    }
}

impl fmt::Debug for ClientBuilder {
    /// Omits the private key and the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientBuilder")
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

/// An error in the configuration of a client.
#[derive(Debug)]
#[non_exhaustive]
pub enum BuildError {
    /// The endpoint is not an `http` or `https` URL.
    Endpoint(String),
    /// A certificate authority, a client certificate or a bearer token is configured for an `http` endpoint, where the
    /// first two have no effect and the third would be sent in plaintext.
    Plaintext,
    /// A certificate or the private key is not valid, or the system has no certificate authorities.
    Tls(transport::Error),
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Endpoint(endpoint) => write!(
                f,
                "the endpoint must be a URL such as https://useradmin.example:50051: {endpoint}"
            ),
            Self::Plaintext => f.write_str(
                "certificates and bearer tokens require an endpoint that begins with https://",
            ),
            Self::Tls(_) => f.write_str("the TLS configuration cannot be used"),
        }
    }
}

impl Error for BuildError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Tls(error) => Some(error),
            Self::Endpoint(_) | Self::Plaintext => None,
        }
    }
}
