//! The connection pools of one upstream, one for each worker thread. When the file of certificate authorities
//! changes, they are replaced by new ones.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use http::Request;
use hyper_util::{
    client::legacy::{Client, ResponseFuture},
    rt::{TokioExecutor, TokioTimer},
};
use rustls::ClientConfig;
use url::Url;

use super::{connector::Connector, write_tracker::TrackedBody};
use crate::{
    client_tls::{self, Trust},
    config::Roots,
    runtimes::PerRuntime,
};

/// Idle time after which a connection is not used again. The connection is closed within twice this time.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// The versions of HTTP that are offered in the TLS handshake, in order of preference.
pub type Alpn = &'static [&'static [u8]];

/// A prepared change. Calling it applies the change, and cannot fail.
pub type Change = Box<dyn FnOnce() + Send>;

type Pool = Client<Connector, TrackedBody>;

/// The connection pools of one upstream. Clones share them.
#[derive(Clone)]
pub struct Pools {
    current: Arc<ArcSwap<(PerRuntime<Pool>, Roots)>>,
    pub url: Url,
    trust: Trust,
    alpn: Alpn,
}

impl Pools {
    /// Creates empty pools whose connections trust these authorities. Fails if the authorities cannot be used.
    pub fn new(url: &Url, trust: Trust, roots: &Roots, alpn: Alpn) -> Result<Self, String> {
        let tls = client_tls::config(url, trust, &roots.certificates, alpn)?;
        Ok(Self {
            current: Arc::new(ArcSwap::from_pointee((pools(tls), roots.clone()))),
            url: url.clone(),
            trust,
            alpn,
        })
    }

    /// Sends a request over a pooled or a new connection of this thread.
    #[allow(clippy::disallowed_methods, reason = "this is the place")]
    pub fn request(&self, request: Request<TrackedBody>) -> ResponseFuture {
        self.current.load().0.current().request(request)
    }

    /// See [`super::Client::prepare_roots`]. Also returns `None` if another file is configured, or no file any more,
    /// because such a change needs a restart.
    pub fn prepare_roots(&self, roots: &Roots) -> Result<Option<Change>, String> {
        let present = &self.current.load().1;
        if roots == present || roots.file != present.file {
            return Ok(None);
        }
        let tls = client_tls::config(&self.url, self.trust, &roots.certificates, self.alpn)?;
        let next = Arc::new((pools(tls), roots.clone()));
        let current = Arc::clone(&self.current);
        Ok(Some(Box::new(move || current.store(next))))
    }
}

#[allow(clippy::disallowed_methods, reason = "this is the place")]
fn pools(tls: ClientConfig) -> PerRuntime<Pool> {
    let connector = Connector::new(tls);
    let mut builder = Client::builder(TokioExecutor::new());
    builder
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_TIMEOUT);
    PerRuntime::new(|| builder.build(connector.clone()))
}
