//! Connects to the database.

use std::{path::Path, sync::Mutex, time::Duration};

use deadpool::managed::{self, Metrics, RecycleError};
use rustls::{ClientConfig, pki_types::CertificateDer};
use tokio_postgres::{Client, Config, NoTls, config::SslMode};
use tokio_postgres_rustls::MakeRustlsConnect;
use zeroize::Zeroizing;

use super::{
    error::{Error, describe},
    schema,
};
use crate::{
    client_tls::{self, Trust},
    config::{self, pem, secret::SecretSource},
};

/// Time without an acknowledgement after which TCP closes a connection.
const TCP_TIMEOUT: Duration = Duration::from_secs(10);

/// Parameters of each session. Statements see the records of other replicas after they have waited for them. If a host
/// ends in the middle of a request, the server of the database notices it and releases the locks of the request.
const SESSION: &str = "-c default_transaction_isolation=read\\ committed -c tcp_keepalives_idle=10 \
                       -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3";

/// Creates the connections of the pool.
pub(super) struct Manager {
    url: SecretSource,
    /// The last valid parameters of the URL.
    last: Mutex<Config>,
    roots: config::Roots,
    statement_timeout: Duration,
}

impl Manager {
    pub(super) fn new(config: &config::Postgres) -> Result<Self, String> {
        let url = config.url.read().map_err(|error| error.to_string())?;
        let last = config::parse_url(url.expose());
        Ok(Self {
            url: config.url.clone(),
            last: Mutex::new(last.map_err(|error| format!("the URL {error}"))?),
            roots: config.roots.clone(),
            statement_timeout: config.statement_timeout,
        })
    }

    pub(super) fn name(&self) -> String {
        config::database_name(&crate::lock(&self.last))
    }

    pub(super) fn password(&self) -> Zeroizing<Vec<u8>> {
        let config = self.parameters();
        Zeroizing::new(config.get_password().unwrap_or_default().to_vec())
    }

    /// Returns the parameters of the URL in the file, which may have changed.
    fn parameters(&self) -> Config {
        let url = self.url.read().ok();
        let config = url.and_then(|url| config::parse_url(url.expose()).ok());
        if let Some(config) = config {
            *crate::lock(&self.last) = config;
        }
        let mut config = crate::lock(&self.last).clone();
        let options = format!(
            "{} -c search_path={} -c statement_timeout={} {SESSION}",
            config.get_options().unwrap_or_default(),
            schema::NAME,
            self.statement_timeout.as_millis()
        );
        config.options(options.trim());
        config.tcp_user_timeout(TCP_TIMEOUT);
        config.keepalives_idle(TCP_TIMEOUT);
        if config.get_application_name().is_none() {
            config.application_name("useradmin");
        }
        config
    }

    /// Connects. Does not check the schema.
    pub(super) async fn connect(&self) -> Result<Client, Error> {
        let mut config = self.parameters();
        let failed = |error| Error::NoEffect(describe(&error));
        let Some(file) = &self.roots.file else {
            // The file of the URL may name another host than at the start.
            if !config::is_loopback(&config) {
                let text = "a database on another host needs TLS: `ca_file` is missing";
                return Err(Error::NoEffect(text.to_owned()));
            }
            config.ssl_mode(SslMode::Disable);
            let (client, connection) = config.connect(NoTls).await.map_err(failed)?;
            tokio::spawn(connection);
            return Ok(client);
        };
        config.ssl_mode(SslMode::Require);
        let tls = MakeRustlsConnect::new(self.tls(file)?);
        let (client, connection) = config.connect(tls).await.map_err(failed)?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// Returns the configuration of TLS with the authorities in the file, or with those at the start if the file is not
    /// valid any more.
    fn tls(&self, file: &Path) -> Result<ClientConfig, Error> {
        let roots = pem::roots(file, Trust::ReplaceSystem);
        let roots: Vec<CertificateDer<'static>> = match roots {
            Ok((certificates, _warnings)) => certificates,
            Err(_) => self.roots.certificates.clone(),
        };
        client_tls::verified(Trust::ReplaceSystem, &roots).map_err(Error::NoEffect)
    }
}

impl managed::Manager for Manager {
    type Type = Client;
    type Error = Error;

    async fn create(&self) -> Result<Client, Error> {
        let client = self.connect().await?;
        schema::check(&client).await?;
        Ok(client)
    }

    async fn recycle(&self, client: &mut Client, _: &Metrics) -> managed::RecycleResult<Error> {
        if client.is_closed() {
            return Err(RecycleError::message("closed"));
        }
        Ok(())
    }
}
