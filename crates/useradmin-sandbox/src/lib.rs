//! In-process simulation of both upstreams over HTTP/1.1 on loopback: the Azure Batch service with a Microsoft Entra
//! token endpoint, and the IBM Z HMC Web Services API. `serve --sandbox` and the tests use it.
//!
//! The simulation follows the vendors' documents. This crate does not depend on the server, so that an error in a
//! table of the server is not repeated here. Limitations: there is no TLS, and responses of Batch have a standard
//! reason phrase where the real service sends the message of the error.

mod batch;
mod credentials;
mod entra;
mod guide;
mod hmc;
pub mod identities;
mod net;
mod on_behalf_of;

use std::fmt;
use std::io;
use std::sync::Arc;

use tokio::sync::watch;

pub use self::credentials::Credentials;
use self::entra::{Entra, Tokens};
pub use self::guide::Served;
use self::hmc::Hmc;
use self::net::{Counters, read, spawn};

/// The three simulated servers. They stop when this value is dropped.
pub struct Sandbox {
    batch_url: String,
    authority_url: String,
    hmc_url: String,
    credentials: Arc<Credentials>,
    tokens: Arc<Tokens>,
    hmc: Arc<Hmc>,
    counters: Arc<Counters>,
    /// Dropping this sender stops the servers.
    _running: watch::Sender<()>,
}

/// Numbers of requests received since the start, including refused ones, and the number of open sessions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Requests to the token endpoint.
    pub token_requests: u64,
    /// All requests to the Batch service, including DELETE requests.
    pub batch_requests: u64,
    /// DELETE requests to the Batch service.
    pub batch_deletes: u64,
    /// All requests to the HMC, including those counted below.
    pub hmc_requests: u64,
    /// Logon requests to the HMC.
    pub hmc_logons: u64,
    /// Logoff requests to the HMC.
    pub hmc_logoffs: u64,
    /// DELETE requests for a user of the HMC.
    pub hmc_deletes: u64,
    /// HMC sessions that are open now.
    pub open_sessions: u64,
}

impl Sandbox {
    /// Starts the three servers on free ports of 127.0.0.1, with new random credentials and the initial users.
    ///
    /// # Errors
    ///
    /// Returns an error if a loopback port cannot be opened.
    pub async fn start() -> io::Result<Self> {
        let credentials = Arc::new(Credentials::random());
        let (tokens, counters) = (Arc::new(Tokens::default()), Arc::new(Counters::default()));
        let hmc = Arc::new(Hmc::new(&credentials, Arc::clone(&counters)));
        let entra = Arc::new(Entra {
            credentials: Arc::clone(&credentials),
            tokens: Arc::clone(&tokens),
            counters: Arc::clone(&counters),
        });
        let batch = batch::router(
            Arc::clone(&credentials),
            Arc::clone(&tokens),
            Arc::clone(&counters),
        );
        let (running, stop) = watch::channel(());
        Ok(Self {
            batch_url: spawn(batch, stop.clone()).await?,
            authority_url: spawn(entra::router(entra), stop.clone()).await?,
            hmc_url: spawn(hmc::router(Arc::clone(&hmc)), stop).await?,
            credentials,
            tokens,
            hmc,
            counters,
            _running: running,
        })
    }

    /// Returns the base URL of the Batch account, `http://127.0.0.1:PORT`.
    pub fn batch_url(&self) -> &str {
        &self.batch_url
    }

    /// Returns the base URL of the authority. The token endpoint is `POST /{tenant}/oauth2/v2.0/token`.
    pub fn authority_url(&self) -> &str {
        &self.authority_url
    }

    /// Returns the base URL of the HMC.
    pub fn hmc_url(&self) -> &str {
        &self.hmc_url
    }

    /// Returns the credentials that the simulated upstreams accept.
    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// Returns the current values of the counters.
    pub fn traffic(&self) -> Traffic {
        let counters = &self.counters;
        Traffic {
            token_requests: read(&counters.token_requests),
            batch_requests: read(&counters.batch_requests),
            batch_deletes: read(&counters.batch_deletes),
            hmc_requests: read(&counters.hmc_requests),
            hmc_logons: read(&counters.hmc_logons),
            hmc_logoffs: read(&counters.hmc_logoffs),
            hmc_deletes: read(&counters.hmc_deletes),
            open_sessions: u64::try_from(self.hmc.open_sessions()).unwrap_or(u64::MAX),
        }
    }

    /// Returns instructions for trying the server described by `served`. The text contains no secrets.
    pub fn guide(&self, served: &Served) -> String {
        guide::text(served, &self.batch_url, &self.authority_url, &self.hmc_url)
    }

    /// Invalidates all HMC sessions, as a restart of the HMC does.
    pub fn expire_sessions(&self) {
        self.hmc.expire_sessions();
    }

    /// Expires all access tokens issued so far.
    pub fn expire_tokens(&self) {
        self.tokens.expire_all();
    }
}

impl fmt::Debug for Sandbox {
    /// Formats the URLs, and omits the credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Sandbox");
        debug
            .field("batch_url", &self.batch_url)
            .field("authority_url", &self.authority_url);
        debug
            .field("hmc_url", &self.hmc_url)
            .finish_non_exhaustive()
    }
}
