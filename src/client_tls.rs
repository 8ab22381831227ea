//! TLS of outgoing connections: to upstreams, issuers, trace collectors, and to the server whose health is checked.
//! Verification is never disabled: a certificate that the operator has named is accepted without an authority, but
//! its host name and dates are checked like those of any other.

use std::sync::Arc;

use rustls::{
    ClientConfig, ConfigBuilder, Error, RootCertStore, WantsVerifier,
    client::{WebPkiServerVerifier, danger::ServerCertVerifier},
    crypto::{CryptoProvider, ring},
    pki_types::CertificateDer,
};
use rustls_platform_verifier::Verifier;
use url::Url;

use crate::certificates::verifier::ServerVerifier;

/// The role of the authorities that the operator has named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// The named authorities are trusted in addition to those of the system.
    AddToSystem,
    /// Only the named authorities are trusted. If none are named, those of the system are trusted.
    ReplaceSystem,
}

/// Returns the configuration of TLS 1.2 or newer for connections to `url`.
pub fn config(
    url: &Url,
    trust: Trust,
    certificates: &[CertificateDer<'static>],
    alpn: &[&[u8]],
) -> Result<ClientConfig, String> {
    // Plaintext HTTP, which is used for loopback hosts, must work on systems that have no authorities.
    let mut config = if url.scheme() == "http" {
        builder()?
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth()
    } else {
        verified(trust, certificates)?
    };
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(config)
}

/// Returns the configuration of TLS 1.2 or newer for connections to servers that these authorities vouch for.
pub fn verified(
    trust: Trust,
    certificates: &[CertificateDer<'static>],
) -> Result<ClientConfig, String> {
    let verifier = verifier(trust, certificates, Arc::new(ring::default_provider()));
    let verifier = verifier.map_err(|error| error.to_string())?;
    let builder = builder()?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    Ok(builder.with_no_client_auth())
}

fn builder() -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, String> {
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())
}

fn verifier(
    trust: Trust,
    certificates: &[CertificateDer<'static>],
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, Error> {
    let chains: Arc<dyn ServerCertVerifier> =
        if trust == Trust::AddToSystem || certificates.is_empty() {
            let verifier = Verifier::new_with_extra_roots(certificates.to_vec(), provider)?;
            Arc::new(verifier)
        } else {
            let mut roots = RootCertStore::empty();
            for certificate in certificates {
                roots.add(certificate.clone())?;
            }
            let builder = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier = builder.build();
            verifier.map_err(|error| Error::General(error.to_string()))?
        };
    Ok(Arc::new(ServerVerifier::new(certificates, chains)))
}
