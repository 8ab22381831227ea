//! Opens connections to upstreams: name resolution, TCP with keepalive, and TLS where the URL says `https`.

use std::time::Duration;

use futures_util::{FutureExt as _, future::BoxFuture};
use http::Uri;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::HttpConnector;
use rustls::ClientConfig;
use tokio::time::timeout;
use tower::{BoxError, ServiceExt as _};

use super::connection::Stream;
use crate::upstream::{
    resolver::{Resolver, without_link_local},
    response::CONNECT_TIMEOUT,
};

/// TCP keepalive: the idle time before the first probe, and the interval between probes. On Linux, a connection is
/// also closed if sent data is not acknowledged for twice this time.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// Number of failed probes after which a connection is closed.
const KEEPALIVE_RETRIES: u32 = 3;

/// Opens connections, with TLS within [`CONNECT_TIMEOUT`]. ALPN selects HTTP/1.1 or HTTP/2.
#[derive(Clone)]
pub struct Connector(HttpsConnector<HttpConnector<Resolver>>);

impl Connector {
    /// Creates a connector with these settings of TLS, which include the protocols to offer.
    pub fn new(tls: ClientConfig) -> Self {
        let mut tcp = HttpConnector::new_with_resolver(without_link_local());
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        tcp.set_keepalive(Some(KEEPALIVE));
        tcp.set_keepalive_interval(Some(KEEPALIVE));
        tcp.set_keepalive_retries(Some(KEEPALIVE_RETRIES));
        #[cfg(target_os = "linux")]
        tcp.set_tcp_user_timeout(Some(KEEPALIVE * 2));
        Self(HttpsConnector::from((tcp, tls)))
    }

    /// Opens a connection to the host of a URI. Fails if that is not possible within [`CONNECT_TIMEOUT`].
    pub fn connect(&self, uri: Uri) -> BoxFuture<'static, Result<Stream, BoxError>> {
        let connecting = timeout(CONNECT_TIMEOUT, self.0.clone().oneshot(uri));
        Box::pin(connecting.map(|connected| {
            connected.unwrap_or_else(|_| Err("there was no connection in time".into()))
        }))
    }
}
