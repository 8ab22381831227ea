//! What is made for the authorities that the operator names, and made anew when their file changes.

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use rustls::ClientConfig;
use url::Url;

use crate::{
    client_tls::{self, Trust},
    config::Roots,
};

/// The versions of HTTP that are offered, the best one first.
pub type Alpn = &'static [&'static [u8]];

/// A change that is ready to be made, and cannot fail.
pub type Change = Box<dyn FnOnce() + Send>;

/// Makes it for this host, with this side of TLS.
pub type Make<T> = fn(&Url, ClientConfig) -> Result<T, String>;

/// The one in use. Clones share it.
pub struct Trusted<T> {
    current: Arc<ArcSwap<(T, Roots)>>,
    url: Url,
    trust: Trust,
    alpn: Alpn,
    make: Make<T>,
}

impl<T> Clone for Trusted<T> {
    fn clone(&self) -> Self {
        Self {
            current: Arc::clone(&self.current),
            url: self.url.clone(),
            ..*self
        }
    }
}

impl<T: Send + Sync + 'static> Trusted<T> {
    /// For the host of `url`, trusting these authorities.
    pub fn new(
        url: &Url,
        trust: Trust,
        roots: &Roots,
        alpn: Alpn,
        make: Make<T>,
    ) -> Result<Self, String> {
        let tls = client_tls::config(url, trust, &roots.certificates, alpn)?;
        let first = (make(url, tls)?, roots.clone());
        Ok(Self {
            current: Arc::new(ArcSwap::from_pointee(first)),
            url: url.clone(),
            trust,
            alpn,
            make,
        })
    }

    /// The host.
    #[must_use]
    pub const fn url(&self) -> &Url {
        &self.url
    }

    /// The one in use now.
    #[must_use]
    pub fn load(&self) -> Guard<Arc<(T, Roots)>> {
        self.current.load()
    }

    /// Ready to trust what the same file holds by now; `None` when that is nothing new. Requests in progress go on as
    /// they are. Another file, or none, is another setting: it waits for a restart.
    pub fn trust(&self, roots: &Roots) -> Result<Option<Change>, String> {
        let present = &self.current.load().1;
        if roots == present || roots.file != present.file {
            return Ok(None);
        }
        let tls = client_tls::config(&self.url, self.trust, &roots.certificates, self.alpn)?;
        let next = Arc::new(((self.make)(&self.url, tls)?, roots.clone()));
        let current = Arc::clone(&self.current);
        Ok(Some(Box::new(move || current.store(next))))
    }
}
