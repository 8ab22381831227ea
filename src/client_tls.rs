//! Whom a connection of ours trusts: to upstreams, to a collector of traces, to a server whose health is asked for. Verification is never switched off: a certificate that the operator
//! named may stand for itself, but its host name and its dates are checked like any other's.

use std::sync::Arc;

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
};
use rustls_platform_verifier::Verifier;
use url::Url;

use crate::certificates::{
    Authorities, Unusable, authority_fault,
    refusal::{check_key, explain, explain_signature},
};

/// What named authorities are beside the system's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// They are trusted too.
    More,
    /// They alone are trusted; the system's when there are none.
    Only,
}

/// The TLS side of a client for `url`: TLS 1.2 or newer.
pub fn config(
    url: &Url,
    trust: Trust,
    named: &[CertificateDer<'static>],
    alpn: &[&[u8]],
) -> Result<ClientConfig, String> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    // Plain http is for loopback hosts, and must also work where the system has no authorities at all.
    let mut config = if url.scheme() == "http" {
        builder
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth()
    } else {
        let verifier = verifier(trust, named, provider).map_err(|error| error.to_string())?;
        builder
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth()
    };
    config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(config)
}

fn verifier(
    trust: Trust,
    named: &[CertificateDer<'static>],
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, Error> {
    let chains: Arc<dyn ServerCertVerifier> = if trust == Trust::More || named.is_empty() {
        let verifier = Verifier::new_with_extra_roots(named.to_vec(), provider)?;
        Arc::new(verifier)
    } else {
        let mut roots = RootCertStore::empty();
        for certificate in named {
            roots.add(certificate.clone())?;
        }
        let builder = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider);
        let verifier = builder.build();
        verifier.map_err(|error| Error::General(error.to_string()))?
    };
    Ok(Arc::new(NamedOrChained {
        named: named.to_vec(),
        unusable: Authorities::sort(named, authority_fault).unusable,
        chains,
    }))
}

/// Accepts a server certificate that the operator named byte for byte, and every other one by its chain.
///
/// rustls refuses a CA certificate as a server's own, even if it is in the root store; the self-signed
/// certificate of an HMC may be one.
#[derive(Debug)]
struct NamedOrChained {
    named: Vec<CertificateDer<'static>>,
    unusable: Vec<Unusable>,
    chains: Arc<dyn ServerCertVerifier>,
}

impl NamedOrChained {
    fn verify(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if !self.named.iter().any(|named| named == end_entity) {
            return self.chains.verify_server_cert(
                end_entity,
                intermediates,
                server_name,
                ocsp_response,
                now,
            );
        }
        check_dates(end_entity, now)?;
        verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
        Ok(ServerCertVerified::assertion())
    }
}

impl ServerCertVerifier for NamedOrChained {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self
            .verify(end_entity, intermediates, server_name, ocsp_response, now)
            .map_err(|error| explain(error, end_entity, intermediates, &self.unusable))?;
        check_key(end_entity)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chains
            .verify_tls12_signature(message, certificate, signed)
            .map_err(|error| explain_signature(error, certificate))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chains
            .verify_tls13_signature(message, certificate, signed)
            .map_err(|error| explain_signature(error, certificate))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chains.supported_verify_schemes()
    }
}

fn check_dates(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate)
        .map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
    let validity = parsed.validity();
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    if now < validity.not_before.timestamp() {
        return Err(Error::InvalidCertificate(CertificateError::NotValidYet));
    }
    if now > validity.not_after.timestamp() {
        return Err(Error::InvalidCertificate(CertificateError::Expired));
    }
    Ok(())
}
