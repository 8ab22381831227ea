//! Opens connections to upstreams: name resolution, TCP with keepalive, and TLS where the URL says `https`.

use std::{
    error::Error,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::future::BoxFuture;
use http::Uri;
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::{client::legacy::connect::HttpConnector, rt::TokioIo};
use rustls::ClientConfig;
use tokio::{net::TcpStream, time::timeout};
use tower::Service;

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
}

impl Service<Uri> for Connector {
    type Response = MaybeHttpsStream<TokioIo<TcpStream>>;
    type Error = Box<dyn Error + Send + Sync>;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = self.0.call(uri);
        Box::pin(async move {
            let connected = timeout(CONNECT_TIMEOUT, connecting).await;
            connected.unwrap_or_else(|_| Err("there was no connection in time".into()))
        })
    }
}
