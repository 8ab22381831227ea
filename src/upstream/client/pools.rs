//! The connection pools of one upstream, one for each worker thread, and one for all other threads. When the file of
//! certificate authorities changes, they are replaced by new ones.

use std::sync::Arc;

use arc_swap::ArcSwap;
use http::Uri;
use rustls::ClientConfig;
use url::Url;

use super::{connection::Origin, connector::Connector, pool::Pool};
use crate::{
    client_tls::{self, Trust},
    config::Roots,
    runtimes::PerRuntime,
    upstream::response::describe,
};

/// The versions of HTTP that are offered in the TLS handshake, in order of preference.
pub type Alpn = &'static [&'static [u8]];

/// A prepared change. Calling it applies the change, and cannot fail.
pub type Change = Box<dyn FnOnce() + Send>;

/// The connection pools of one upstream. Clones share them.
#[derive(Clone)]
pub struct Pools {
    current: Arc<ArcSwap<Current>>,
    url: Url,
    origin: Origin,
    trust: Trust,
    alpn: Alpn,
}

struct Current {
    connector: Connector,
    pools: PerRuntime<Arc<Pool>>,
    roots: Roots,
}

impl Pools {
    /// Creates empty pools whose connections trust these authorities. Fails if the URL or the authorities cannot be
    /// used.
    pub fn new(url: &Url, trust: Trust, roots: &Roots, alpn: Alpn) -> Result<Self, String> {
        let uri = url.as_str().parse::<Uri>().map_err(http::Error::from);
        let origin = uri.and_then(|uri| Origin::new(&uri));
        let origin = origin.map_err(|error| format!("{url}: {}", describe(&error)))?;
        let tls = client_tls::config(url, trust, &roots.certificates, alpn)?;
        Ok(Self {
            current: Arc::new(ArcSwap::from_pointee(Current::new(&origin, tls, roots))),
            url: url.clone(),
            origin,
            trust,
            alpn,
        })
    }

    /// Returns the URL that these pools were created for.
    pub const fn url(&self) -> &Url {
        &self.url
    }

    /// Returns the pool of this thread for the host of `uri`, or a new, empty pool if that is another host. A URI
    /// without a host means the host of this upstream.
    pub fn pool(&self, uri: &Uri) -> Result<Arc<Pool>, http::Error> {
        let current = self.current.load();
        if self.origin.includes(uri) {
            return Ok(Arc::clone(current.pools.current()));
        }
        Ok(Pool::new(Origin::new(uri)?, current.connector.clone()))
    }

    /// See [`super::Client::prepare_roots`]. Also returns `None` if another file is configured, or no file any more,
    /// because such a change needs a restart.
    pub fn prepare_roots(&self, roots: &Roots) -> Result<Option<Change>, String> {
        let present = &self.current.load().roots;
        if roots == present || roots.file != present.file {
            return Ok(None);
        }
        let tls = client_tls::config(&self.url, self.trust, &roots.certificates, self.alpn)?;
        let next = Arc::new(Current::new(&self.origin, tls, roots));
        let current = Arc::clone(&self.current);
        Ok(Some(Box::new(move || current.store(next))))
    }
}

impl Current {
    fn new(origin: &Origin, tls: ClientConfig, roots: &Roots) -> Self {
        let connector = Connector::new(tls);
        Self {
            pools: PerRuntime::new(|| Pool::new(origin.clone(), connector.clone())),
            connector,
            roots: roots.clone(),
        }
    }
}
