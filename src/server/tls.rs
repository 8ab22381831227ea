//! TLS of the listener. The files of `[server.tls]` are reloaded when they change. Then new connections use the new
//! content, and the client certificates of open connections are verified again.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, UnixTime},
    server::{NoClientAuth, NoServerSessionStorage, danger::ClientCertVerifier},
    sign::SingleCertAndKey,
};
use x509_parser::parse_x509_certificate;

use crate::{
    access::{authentication_error::AuthenticationError, certificate::PeerCertificate},
    certificates::refusal::describe_tls_error,
    config::tls::{Fault, TlsFiles},
    metrics::Metrics,
};

/// The TLS configuration that one read of the files has produced.
struct Loaded {
    /// Number of the read: 0 at the start, and 1 more with each reload.
    number: u64,
    config: Arc<ServerConfig>,
    /// The verifier of client certificates, or `None` if the server does not accept any.
    clients: Option<Arc<dyn ClientCertVerifier>>,
}

/// The TLS configuration of the listener, which is replaced when the files are reloaded.
pub struct Tls {
    pub files: TlsFiles,
    loaded: ArcSwap<Loaded>,
    metrics: Arc<Metrics>,
}

impl Tls {
    pub fn new(files: TlsFiles, metrics: &Arc<Metrics>) -> Result<Self, String> {
        // These warnings have already been logged with those of the configuration.
        let (loaded, _) = load(&files, 0, metrics)?;
        Ok(Self {
            files,
            loaded: ArcSwap::from_pointee(loaded),
            metrics: Arc::clone(metrics),
        })
    }

    /// Reads the files again. If one of them is invalid, returns an error, and the last valid content stays in use.
    pub fn reload(&self) -> Result<(), String> {
        let number = self.loaded.load().number + 1;
        let (loaded, warnings) = load(&self.files, number, &self.metrics)?;
        for (key, warning) in warnings {
            let warning = format!("`{key}` {warning}");
            tracing::warn!(warning, "configuration warning");
        }
        self.loaded.store(Arc::new(loaded));
        Ok(())
    }

    pub fn current(&self) -> (Arc<ServerConfig>, u64) {
        let loaded = self.loaded.load();
        (Arc::clone(&loaded.config), loaded.number)
    }

    /// Checks the client certificate of an open connection. Verifies its chain again if the files have been reloaded,
    /// or if the last verification is too old. Returns the error for the caller, and a text for the log.
    pub fn check(
        &self,
        certificate: &PeerCertificate,
    ) -> Result<(), (AuthenticationError, String)> {
        if certificate.has_expired() {
            let why = "it has expired since the connection was made".to_owned();
            return Err((AuthenticationError::CertificateExpired, why));
        }
        let loaded = self.loaded.load();
        if certificate.is_verified_by(loaded.number) {
            return Ok(());
        }
        let verifier = loaded.clients.as_ref();
        let chain = certificate.chain.split_first();
        let (Some(verifier), Some((own, intermediates))) = (verifier, chain) else {
            let why = "client certificates are no longer accepted".to_owned();
            return Err((AuthenticationError::CertificateNotTrusted, why));
        };
        verifier
            .verify_client_cert(own, intermediates, UnixTime::now())
            .map_err(|error| {
                (
                    AuthenticationError::CertificateNotTrusted,
                    describe_tls_error(&error),
                )
            })?;
        certificate.set_verified_by(loaded.number);
        Ok(())
    }
}

/// Returns the earliest expiry time of these certificates, in seconds since 1970.
fn expires(chain: &[CertificateDer<'_>]) -> Option<i64> {
    let parsed = chain
        .iter()
        .filter_map(|certificate| parse_x509_certificate(certificate).ok());
    parsed
        .map(|(_, certificate)| certificate.validity().not_after.timestamp())
        .min()
}

fn load(files: &TlsFiles, number: u64, metrics: &Metrics) -> Result<(Loaded, Vec<Fault>), String> {
    let material = files.read().map_err(|faults| {
        let texts = faults.iter().map(|(key, fault)| format!("`{key}` {fault}"));
        texts.collect::<Vec<_>>().join("; ")
    })?;
    for (key, certificates) in [
        ("cert_file", &material.certified.cert),
        ("client_ca_file", &material.authorities),
    ] {
        if let Some(at) = expires(certificates) {
            metrics.certificate_expires(key, at);
        }
    }
    let clients = material.clients.clone();
    let verifier = material.clients.unwrap_or_else(|| Arc::new(NoClientAuth));
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(material.certified)));
    config.alpn_protocols = vec![b"h2".to_vec()];
    // A resumed session would restore the client's chain, which may have expired, without verifying it again.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    let loaded = Loaded {
        number,
        config: Arc::new(config),
        clients,
    };
    Ok((loaded, material.warnings))
}
