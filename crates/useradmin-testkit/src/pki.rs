//! Certificates of servers and clients, generated at run time.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, GeneralSubtree, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, NameConstraints, SanType, date_time_ymd,
};
use rustls::{
    ServerConfig, SupportedProtocolVersion,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    sign::{CertifiedKey, SingleCertAndKey},
};

/// The basic constraints of a self-signed certificate.
#[derive(Clone, Copy)]
pub enum Kind {
    /// No basic constraints.
    Plain,
    /// `CA:FALSE`.
    NoCa,
    /// `CA:TRUE`, as created by `openssl req -x509`.
    Ca,
    /// `CA:TRUE`, with name constraints on directory names.
    Constrained,
}

/// The validity period of a certificate.
#[derive(Clone, Copy)]
pub enum Validity {
    Past,
    Now,
    Future,
}

fn params(host: &str, validity: Validity) -> CertificateParams {
    let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, host);
    let (from, to) = match validity {
        Validity::Past => (2001, 2002),
        Validity::Now => (2001, 2999),
        Validity::Future => (2998, 2999),
    };
    params.not_before = date_time_ymd(from, 1, 1);
    params.not_after = date_time_ymd(to, 1, 1);
    params
}

/// A certificate chain and a private key.
#[derive(Clone)]
pub struct Identity {
    chain: Vec<CertificateDer<'static>>,
    pem: String,
    key: Arc<KeyPair>,
}

impl Identity {
    /// Creates a self-signed certificate.
    pub fn self_signed(host: &str, kind: Kind, validity: Validity) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = params(host, validity);
        params.is_ca = match kind {
            Kind::Plain => IsCa::NoCa,
            Kind::NoCa => IsCa::ExplicitNoCa,
            Kind::Ca | Kind::Constrained => IsCa::Ca(BasicConstraints::Unconstrained),
        };
        if matches!(kind, Kind::Constrained) {
            params.name_constraints = Some(NameConstraints {
                permitted_subtrees: vec![GeneralSubtree::DirectoryName(DistinguishedName::new())],
                excluded_subtrees: Vec::new(),
            });
        }
        let certificate = params.self_signed(&key).unwrap();
        Self {
            chain: vec![certificate.der().clone()],
            pem: certificate.pem(),
            key: Arc::new(key),
        }
    }

    /// Reads a certificate and its key from PEM.
    pub fn read(pem: &str, key: &str) -> Self {
        Self {
            chain: vec![CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()],
            pem: pem.to_owned(),
            key: Arc::new(KeyPair::from_pem(key).unwrap()),
        }
    }

    /// Returns the end-entity certificate in PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Returns the complete certificate chain.
    pub fn chain(&self) -> Vec<CertificateDer<'static>> {
        self.chain.clone()
    }

    /// Returns the private key in PEM.
    pub fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }

    /// Returns the private key in DER.
    pub fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::try_from(self.key.serialize_der()).unwrap()
    }

    /// Returns the same certificates with the key of another identity.
    pub fn with_key_of(&self, other: &Self) -> Self {
        Self {
            key: Arc::clone(&other.key),
            ..self.clone()
        }
    }

    /// Returns a server configuration with this identity. The key need not match the certificate.
    pub fn server(&self, versions: &[&'static SupportedProtocolVersion]) -> ServerConfig {
        let der = PrivateKeyDer::try_from(self.key.serialize_der()).unwrap();
        let key = ring::sign::any_supported_type(&der).unwrap();
        let printed = CertifiedKey::new(self.chain.clone(), key);
        ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(printed)))
    }
}

/// A certificate authority. All authorities have the same name.
pub struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

fn authority_params() -> CertificateParams {
    let mut params = params("Test authority", Validity::Now);
    params.subject_alt_names.clear();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

/// Certificates of kinds that rcgen cannot generate; see `certificates.sh`.
const FIXTURES: &str = include_str!("../fixtures/certificates.pem");
/// The private key of those leaf certificates in `FIXTURES` that are named after their authority.
const FIXTURE_KEY: &str = include_str!("../fixtures/rsa-test-key.pem");

/// Returns the certificate with this name in `FIXTURES`, in PEM.
pub fn fixture(name: &str) -> &'static str {
    let (_, found) = FIXTURES.split_once(&format!("# {name}\n")).unwrap();
    found.split('#').next().unwrap()
}

/// Returns the leaf certificate with this name. Its private key is that of the leaves that are named after their
/// authority.
pub fn fixture_leaf(name: &str) -> Identity {
    Identity::read(fixture(name), FIXTURE_KEY)
}

/// Returns a leaf certificate followed by the certificate of an intermediate authority.
pub fn fixture_chain(leaf: &str, intermediate: &str) -> Identity {
    let mut identity = fixture_leaf(leaf);
    let intermediate = CertificateDer::from_pem_slice(fixture(intermediate).as_bytes());
    identity.chain.push(intermediate.unwrap());
    identity
}

impl Authority {
    pub fn new() -> Self {
        Self::with(|_| {})
    }

    /// Returns an authority whose certificate parameters are modified by this function.
    pub fn with(change: impl FnOnce(&mut CertificateParams)) -> Self {
        let (mut params, key) = (authority_params(), KeyPair::generate().unwrap());
        change(&mut params);
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            pem,
            issuer: Issuer::new(params, key),
        }
    }

    pub fn pem(&self) -> &str {
        &self.pem
    }

    pub fn issue(&self, host: &str, validity: Validity) -> Identity {
        self.sign(&params(host, validity))
    }

    /// Issues a certificate to a client with these names.
    pub fn issue_to(&self, names: Vec<SanType>, validity: Validity) -> Identity {
        let mut params = params("Test client", validity);
        params.subject_alt_names = names;
        self.sign(&params)
    }

    fn sign(&self, params: &CertificateParams) -> Identity {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Identity {
            chain: vec![certificate.der().clone()],
            pem: certificate.pem(),
            key: Arc::new(key),
        }
    }

    /// Issues a certificate whose parameters are modified by this function.
    pub fn issue_from(&self, change: impl FnOnce(&mut CertificateParams)) -> Identity {
        let mut params = params("Test client", Validity::Now);
        change(&mut params);
        self.sign(&params)
    }

    /// Issues a certificate through an intermediate authority. The chain contains both certificates.
    pub fn issue_through_intermediate(&self, host: &str) -> Identity {
        let key = KeyPair::generate().unwrap();
        let mut params = authority_params();
        params
            .distinguished_name
            .push(DnType::CommonName, "Test intermediate");
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let other = Self {
            pem: certificate.pem(),
            issuer: Issuer::new(params, key),
        };
        let mut issued = other.issue(host, Validity::Now);
        issued.chain.push(certificate.der().clone());
        issued
    }
}
