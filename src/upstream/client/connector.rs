//! Makes connections: name, TCP, TLS, and the version of HTTP that the two sides agree on.

use std::{error::Error, sync::Arc, time::Duration};

use http::{HeaderValue, Uri};
use hyper_util::{client::legacy::connect::HttpConnector, rt::TokioIo};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tower::Service as _;
use url::{Position, Url};

use super::{http1::Http1, http2::Http2, watched::Watched};
use crate::upstream::{
    http::{CONNECT_TIMEOUT, describe},
    resolver::NoLinkLocal,
};

/// A connection whose other end has vanished without a word is noticed: the system asks after this time, again and again
/// after as long, so often, and waits for twice as long until what was sent has arrived.
const SILENCE: Duration = Duration::from_secs(15);
const RETRIES: u32 = 3;

/// A connection that is ready for a request.
pub enum Connection {
    /// One request at a time.
    Http1(Box<Http1>),
    /// Many at a time.
    Http2(Http2),
}

/// The way to one host.
pub struct Connector {
    tcp: HttpConnector<NoLinkLocal>,
    tls: Option<TlsConnector>,
    /// What the certificate must be for.
    name: String,
    uri: Uri,
    /// The value of `Host`.
    pub host: HeaderValue,
}

impl Connector {
    /// To the host of `url`; plaintext without `tls`.
    pub fn new(url: &Url, tls: Option<ClientConfig>) -> Result<Self, String> {
        let unusable = |error: &(dyn Error + 'static)| format!("{url}: {}", describe(error));
        let authority = &url[Position::BeforeHost..Position::AfterPort];
        let uri = format!("{}://{authority}/", url.scheme());
        let uri = uri.parse::<Uri>().map_err(|error| unusable(&error))?;
        let name = url.host_str().unwrap_or_default();
        let name = name.trim_matches(['[', ']']).to_owned();
        let mut tcp = HttpConnector::new_with_resolver(NoLinkLocal);
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        tcp.set_keepalive(Some(SILENCE));
        tcp.set_keepalive_interval(Some(SILENCE));
        tcp.set_keepalive_retries(Some(RETRIES));
        #[cfg(target_os = "linux")]
        tcp.set_tcp_user_timeout(Some(SILENCE * 2));
        Ok(Self {
            tcp,
            tls: tls.map(|tls| TlsConnector::from(Arc::new(tls))),
            name,
            uri,
            host: HeaderValue::from_str(authority).map_err(|error| unusable(&error))?,
        })
    }

    /// The absolute form of a path.
    pub fn absolute(&self, path: Uri) -> Result<Uri, http::Error> {
        let mut parts = path.into_parts();
        parts.scheme = self.uri.scheme().cloned();
        parts.authority = self.uri.authority().cloned();
        Ok(Uri::from_parts(parts)?)
    }

    /// A new connection, or why there is none.
    pub async fn connect(&self) -> Result<Connection, String> {
        let connected = timeout(CONNECT_TIMEOUT, self.try_connect()).await;
        connected.map_or_else(
            |_| Err("there was no connection in time".to_owned()),
            |connected| connected.map_err(|error| describe(&*error)),
        )
    }

    async fn try_connect(&self) -> Result<Connection, Box<dyn Error + Send + Sync>> {
        let tcp = self.tcp.clone().call(self.uri.clone()).await?;
        let (tcp, left) = Watched::new(tcp.into_inner());
        let Some(tls) = &self.tls else {
            let begun = Http1::begin(Box::new(tcp), left).await?;
            return Ok(Connection::Http1(Box::new(begun)));
        };
        let name = ServerName::try_from(self.name.clone())?;
        let tls = tls.connect(name, tcp).await?;
        if tls.get_ref().1.alpn_protocol() == Some(b"h2") {
            let begun = Http2::begin(TokioIo::new(tls)).await?;
            return Ok(Connection::Http2(begun));
        }
        let begun = Http1::begin(Box::new(tls), left).await?;
        Ok(Connection::Http1(Box::new(begun)))
    }
}
