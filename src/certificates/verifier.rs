//! Verifiers of peer certificates. Their errors name the fault of a certificate.

use std::sync::Arc;

use rustls::{
    DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::ring,
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::{
        ParsedCertificate, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};

use super::{
    Authorities, UnusableAuthority, authority_fault,
    refusal::{check_dates, check_key, explain, explain_signature},
};

/// Implements the methods for signatures of handshakes, which are the same in both traits of rustls.
macro_rules! verify_signatures {
    () => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            self.chain_verifier
                .verify_tls12_signature(message, certificate, signed)
                .map_err(|error| explain_signature(error, certificate))
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signed: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            self.chain_verifier
                .verify_tls13_signature(message, certificate, signed)
                .map_err(|error| explain_signature(error, certificate))
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.chain_verifier.supported_verify_schemes()
        }
    };
}

#[derive(Debug)]
pub struct CallerVerifier {
    chain_verifier: Arc<dyn ClientCertVerifier>,
    unusable: Vec<UnusableAuthority>,
}

impl CallerVerifier {
    /// Creates a verifier that trusts the usable authorities. It accepts peers without a certificate, because the
    /// authentication of each call identifies them by a token or refuses them.
    pub fn new(authorities: Authorities) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        for authority in authorities.usable {
            roots.add(authority).map_err(|error| error.to_string())?;
        }
        let provider = Arc::new(ring::default_provider());
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        let chain_verifier = builder.allow_unauthenticated().build();
        Ok(Self {
            chain_verifier: chain_verifier.map_err(|error| error.to_string())?,
            unusable: authorities.unusable,
        })
    }
}

impl ClientCertVerifier for CallerVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.chain_verifier.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain_verifier.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self
            .chain_verifier
            .verify_client_cert(end_entity, intermediates, now)
            .map_err(|error| explain(error, end_entity, intermediates, &self.unusable))?;
        check_key(end_entity)?;
        Ok(verified)
    }

    verify_signatures!();
}

/// A verifier that accepts pinned server certificates, and verifies the chain of all others.
///
/// rustls refuses a CA certificate as a server's own, even if it is in the root store, and the self-signed
/// certificate of an HMC may be a CA certificate.
#[derive(Debug)]
pub struct ServerVerifier {
    pinned: Vec<CertificateDer<'static>>,
    unusable: Vec<UnusableAuthority>,
    chain_verifier: Arc<dyn ServerCertVerifier>,
}

impl ServerVerifier {
    /// Creates a verifier that accepts these certificates byte for byte, and others if `chain_verifier` does.
    pub fn new(
        pinned: &[CertificateDer<'static>],
        chain_verifier: Arc<dyn ServerCertVerifier>,
    ) -> Self {
        Self {
            pinned: pinned.to_vec(),
            unusable: Authorities::partition(pinned, authority_fault).unusable,
            chain_verifier,
        }
    }

    fn verify_pinned(
        certificate: &CertificateDer<'_>,
        server_name: &ServerName<'_>,
    ) -> Result<ServerCertVerified, Error> {
        check_dates(certificate)?;
        verify_server_name(&ParsedCertificate::try_from(certificate)?, server_name)?;
        Ok(ServerCertVerified::assertion())
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = if self.pinned.iter().any(|pinned| pinned == end_entity) {
            Self::verify_pinned(end_entity, server_name)?
        } else {
            self.chain_verifier
                .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
                .map_err(|error| explain(error, end_entity, intermediates, &self.unusable))?
        };
        check_key(end_entity)?;
        Ok(verified)
    }

    verify_signatures!();
}
