//! Both upstreams simulated in process, with state, over real HTTP/1.1 on loopback: the Azure Batch service with
//! a Microsoft Entra token endpoint, and the IBM Z HMC Web Services API. `serve --sandbox` and the tests use it.
//!
//! Written from the vendors' documents. The crate does not depend on the server, so that a wrong table of the server
//! cannot agree with itself. The limits of the simulation: no TLS, and no reason phrase of Batch's own (the real one
//! puts the message text there).

mod batch;
mod credentials;
mod entra;
mod guide;
mod hmc;
pub mod identities;
mod net;

use std::fmt;
use std::io;
use std::sync::Arc;

use tokio::sync::watch;

pub use self::credentials::Credentials;
use self::entra::{Entra, Tokens};
pub use self::guide::Served;
use self::hmc::Hmc;
use self::net::{Counters, read, spawn};

/// The three running servers; dropping it stops them.
pub struct Sandbox {
    batch_url: String,
    authority_url: String,
    hmc_url: String,
    credentials: Arc<Credentials>,
    tokens: Arc<Tokens>,
    hmc: Arc<Hmc>,
    counters: Arc<Counters>,
    /// The servers wait for the end of this sender.
    _running: watch::Sender<()>,
}

/// How many requests have come since the start; refused ones count too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Requests to the token endpoint.
    pub token_requests: u64,
    /// All requests to the Batch service.
    pub batch_requests: u64,
    /// The DELETE requests among them.
    pub batch_deletes: u64,
    /// All requests to the HMC.
    pub hmc_requests: u64,
    /// Attempts to log on.
    pub hmc_logons: u64,
    /// Attempts to log off.
    pub hmc_logoffs: u64,
    /// DELETE requests for a user.
    pub hmc_deletes: u64,
    /// HMC sessions that are alive now.
    pub open_sessions: u64,
}

impl Sandbox {
    /// Starts the three servers on free ports of 127.0.0.1, with fresh credentials and all users in place.
    ///
    /// # Errors
    ///
    /// When a loopback port cannot be opened.
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

    /// The base URL of the Batch account, `http://127.0.0.1:PORT`.
    pub fn batch_url(&self) -> &str {
        &self.batch_url
    }

    /// The base URL of the authority; the token endpoint is `POST /{tenant}/oauth2/v2.0/token`.
    pub fn authority_url(&self) -> &str {
        &self.authority_url
    }

    /// The base URL of the HMC.
    pub fn hmc_url(&self) -> &str {
        &self.hmc_url
    }

    /// What a client has to know to get in.
    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// The counters as they stand.
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

    /// What a person has to know to try the service that is `served`; it holds no secret.
    pub fn guide(&self, served: &Served) -> String {
        guide::text(served, &self.batch_url, &self.authority_url, &self.hmc_url)
    }

    /// An HMC restart: no session is valid any more.
    pub fn expire_sessions(&self) {
        self.hmc.expire_sessions();
    }

    /// All access tokens issued so far are refused from now on.
    pub fn expire_tokens(&self) {
        self.tokens.expire_all();
    }
}

impl fmt::Debug for Sandbox {
    /// Without the credentials.
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
