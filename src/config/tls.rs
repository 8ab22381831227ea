//! Reads `[server.tls]` and the files that it names; they are read in the same way when they change.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
    sign::CertifiedKey,
};
use x509_parser::parse_x509_certificate;

use super::{fault::Faults, files, pem::certificates, section::Section};

const CERT: &str = "cert_file";
const KEY: &str = "key_file";
const CLIENT_CA: &str = "client_ca_file";

/// `[server.tls]`
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The server's certificate chain.
    pub cert_file: PathBuf,
    /// Its key.
    pub key_file: PathBuf,
    /// The authorities of client certificates.
    pub client_ca_file: Option<PathBuf>,
}

/// What the files hold.
pub struct TlsMaterial {
    /// Certificate and key, which belong together.
    pub certified: Arc<CertifiedKey>,
    /// Whom client certificates are believed from.
    pub clients: Option<Arc<dyn ClientCertVerifier>>,
    /// Those authorities.
    pub authorities: Vec<CertificateDer<'static>>,
}

/// Whom client certificates are believed from.
type Clients = (Arc<dyn ClientCertVerifier>, Vec<CertificateDer<'static>>);

/// The key of the configuration whose file is at fault, and what is wrong with it.
type Fault = (&'static str, String);

impl TlsFiles {
    /// Reads all files.
    pub fn read(&self) -> Result<TlsMaterial, Vec<Fault>> {
        let mut faults = Vec::new();
        let mut note = |key, fault| faults.push((key, fault));
        let chain = certificates(&self.cert_file).map_err(|fault| note(CERT, fault));
        let key = private_key(&self.key_file).map_err(|fault| note(KEY, fault));
        let clients = self.client_ca_file.as_deref().map(clients).transpose();
        let clients = clients.map_err(|fault| note(CLIENT_CA, fault));
        let certified = chain.and_then(|chain| {
            CertifiedKey::from_der(chain, key?, &ring::default_provider())
                .map_err(|error| note(KEY, format!("does not go with `cert_file`: {error}")))
        });
        match (certified, clients) {
            (Ok(certified), Ok(clients)) => {
                let (clients, authorities) = clients.unzip();
                Ok(TlsMaterial {
                    certified: Arc::new(certified),
                    clients,
                    authorities: authorities.unwrap_or_default(),
                })
            }
            _ => Err(faults),
        }
    }

    /// All files.
    #[must_use]
    pub fn paths(&self) -> Vec<PathBuf> {
        let files = [Some(&self.cert_file), Some(&self.key_file)];
        let files = files.into_iter().chain([self.client_ca_file.as_ref()]);
        files.flatten().cloned().collect()
    }
}

/// `[server.tls]`
pub(super) fn tls_files(server: &Section, folder: &Path, faults: &mut Faults) -> Option<TlsFiles> {
    let section = server.table("tls", "server.tls", faults)?;
    let mut path = |key| section.path(key, folder, faults).map(|path| path.value);
    let (cert_file, key_file) = (path(CERT), path(KEY));
    let client_ca_file = section.has(CLIENT_CA).then(|| path(CLIENT_CA));
    let files = TlsFiles {
        cert_file: cert_file?,
        key_file: key_file?,
        client_ca_file: match client_ca_file {
            Some(path) => Some(path?),
            None => None,
        },
    };
    for (key, fault) in files.read().err().into_iter().flatten() {
        if let Some(text) = section.text(key, faults) {
            faults.add_of_content(text.span, format!("`{key}` {fault}"));
        }
    }
    Some(files)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let pem = files::read(path, files::MAX_BYTES)
        .map_err(|error| format!("cannot be read: {error}{}", files::shown(path)))?;
    let key = PrivateKeyDer::from_pem_slice(&pem)
        .map_err(|_| "holds no private key in PEM; an encrypted one cannot be used")?;
    // What cannot be used has another cause than what does not fit.
    ring::sign::any_supported_type(&key)
        .map_err(|_| "holds a private key of a kind that cannot be used")?;
    Ok(key)
}

/// Whoever shows no certificate is let in as far as the identity check, which has an answer for it.
fn clients(path: &Path) -> Result<Clients, String> {
    let mut roots = RootCertStore::empty();
    let mut authorities = Vec::new();
    for authority in certificates(path)? {
        if is_valid_authority(&authority)? {
            let added = roots.add(authority.clone());
            added.map_err(|error| error.to_string())?;
            authorities.push(authority);
        }
    }
    if roots.is_empty() {
        return Err("holds no authority that is valid now".to_owned());
    }
    let provider = Arc::new(ring::default_provider());
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
    let verifier = builder.allow_unauthenticated().build();
    let verifier = verifier.map_err(|error| error.to_string())?;
    Ok((verifier, authorities))
}

/// A client's own certificate in the place of an authority would let its holder make certificates for anybody: rustls
/// looks neither at what an authority may do nor at its dates (RFC 5280, section 6.1.1).
fn is_valid_authority(certificate: &CertificateDer<'_>) -> Result<bool, String> {
    let (_, parsed) = parse_x509_certificate(certificate)
        .map_err(|_| "holds something that is not a usable X.509 certificate")?;
    let may_sign = parsed
        .key_usage()
        .map_err(|error| error.to_string())?
        .is_none_or(|usage| usage.value.key_cert_sign());
    if !parsed.is_ca() || !may_sign {
        return Err("holds a certificate that is not an authority's".to_owned());
    }
    Ok(parsed.validity().is_valid())
}
