//! `[server.tls]`, and the files that it names; they are read in the same way when they change.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::danger::ClientCertVerifier,
    sign::CertifiedKey,
};
use x509_parser::{certificate::X509Certificate, parse_x509_certificate, time::ASN1Time};

use super::{files, pem::certificates, reader::Reader, table::table, values::pem_path};
use crate::certificates::{Authorities, authority_fault, callers::CallerVerifier};

const CERT: &str = "cert_file";
const KEY: &str = "key_file";
const CLIENT_CA: &str = "client_ca_file";
/// The kinds of keys that *ring* signs with.
const KEY_KINDS: &str = "RSA of 2048 to 4096 bits, P-256, P-384 and Ed25519";

table! {
    /// `[server.tls]`
    #[table("server.tls", check = check)]
    pub struct TlsFiles {
        /// The server's certificate, and the intermediate ones below the authority.
        /// [security.md](security.md#kinds-of-keys) has the kinds of keys that can be used.
        cert_file: PathBuf = pem_path();
        /// Its private key: PKCS #8, PKCS #1 or SEC 1.
        key_file: PathBuf = pem_path();
        /// The authorities of client certificates. With it, a caller must show a certificate or a token; a certificate that
        /// does not verify ends the handshake. A file without an authority that can admit a caller is a fault.
        client_ca_file: Option<PathBuf> = pem_path().optional("none: no client certificates");
    }
}

/// What the files hold.
pub struct TlsMaterial {
    /// Certificate and key, which belong together.
    pub certified: Arc<CertifiedKey>,
    /// Whom client certificates are believed from.
    pub clients: Option<Arc<dyn ClientCertVerifier>>,
    /// Those authorities.
    pub authorities: Vec<CertificateDer<'static>>,
    /// What is wrong with parts of the files that are left out.
    pub warnings: Vec<Fault>,
}

/// Whom client certificates are believed from.
#[derive(Default)]
struct Clients {
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    authorities: Vec<CertificateDer<'static>>,
    warnings: Vec<Fault>,
}

/// The key of the configuration whose file is at fault, and what is wrong with it.
pub type Fault = (&'static str, String);

impl TlsFiles {
    /// Reads all files.
    pub fn read(&self) -> Result<TlsMaterial, Vec<Fault>> {
        let mut faults = Vec::new();
        let mut note = |key, fault| faults.push((key, fault));
        let chain = certificates(&self.cert_file).map_err(|fault| note(CERT, fault));
        let key = private_key(&self.key_file).map_err(|fault| note(KEY, fault));
        let clients = self.client_ca_file.as_deref();
        let clients = clients.map_or_else(|| Ok(Clients::default()), clients_of);
        let clients = clients.map_err(|fault| note(CLIENT_CA, fault));
        let certified = chain.and_then(|chain| {
            CertifiedKey::from_der(chain, key?, &ring::default_provider())
                .map_err(|error| note(KEY, format!("does not go with `cert_file`: {error}")))
        });
        match (certified, clients) {
            (Ok(certified), Ok(clients)) => Ok(TlsMaterial {
                certified: Arc::new(certified),
                clients: clients.verifier,
                authorities: clients.authorities,
                warnings: clients.warnings,
            }),
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

/// Reports what is wrong with the content of the files.
fn check(files: &TlsFiles, reader: &Reader<'_>) {
    match files.read() {
        Ok(material) => {
            for (key, warning) in material.warnings {
                reader.warn(key, format!(" {warning}"));
            }
        }
        Err(faults) => {
            for (key, fault) in faults {
                reader.invalid_content(key, fault);
            }
        }
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let pem = files::read(path, files::MAX_BYTES)
        .map_err(|error| format!("cannot be read: {error}{}", files::shown(path)))?;
    let key = PrivateKeyDer::from_pem_slice(&pem)
        .map_err(|_| "holds no private key in PEM; an encrypted one cannot be used")?;
    // What cannot be used has another cause than what does not fit.
    ring::sign::any_supported_type(&key).map_err(|_| {
        format!("holds a private key of a kind that cannot be used; usable are {KEY_KINDS}")
    })?;
    Ok(key)
}

fn clients_of(path: &Path) -> Result<Clients, String> {
    let certificates = certificates(path)?;
    let shown = files::shown(path);
    certificates
        .iter()
        .try_for_each(check_authority)
        .map_err(|fault| format!("{fault}{shown}"))?;
    let fault = |authority: &X509Certificate<'_>| {
        authority_fault(authority).or_else(|| date_fault(authority))
    };
    let sorted = Authorities::sort(&certificates, fault);
    if sorted.usable.is_empty() {
        let faults = sorted.faults();
        return Err(format!(
            "holds no authority that can admit a caller: {faults}{shown}"
        ));
    }
    let warnings = sorted.unusable.iter().map(|authority| {
        let fault = &authority.fault;
        let warning = format!("holds an authority that can admit no caller: {fault}{shown}");
        (CLIENT_CA, warning)
    });
    let warnings = warnings.collect();
    let mut roots = RootCertStore::empty();
    for authority in &sorted.usable {
        let added = roots.add(authority.clone());
        added.map_err(|error| error.to_string())?;
    }
    Ok(Clients {
        verifier: Some(Arc::new(CallerVerifier::new(roots, sorted.unusable)?)),
        authorities: sorted.usable,
        warnings,
    })
}

/// Refuses a client's own certificate in the place of an authority. It would let its holder make certificates for anybody:
/// rustls does not look at what an authority may do (RFC 5280, section 6.1.1).
fn check_authority(certificate: &CertificateDer<'_>) -> Result<(), String> {
    let (_, parsed) = parse_x509_certificate(certificate)
        .map_err(|_| "holds something that is not a usable X.509 certificate")?;
    let may_sign = parsed
        .key_usage()
        .map_err(|error| error.to_string())?
        .is_none_or(|usage| usage.value.key_cert_sign());
    if parsed.is_ca() && may_sign {
        Ok(())
    } else {
        Err("holds a certificate that is not an authority's".to_owned())
    }
}

/// Returns why an authority is not valid now. rustls does not look at the dates of authorities.
fn date_fault(authority: &X509Certificate<'_>) -> Option<String> {
    let (validity, now) = (authority.validity(), ASN1Time::now());
    if now < validity.not_before {
        let from = validity.not_before;
        Some(format!("it is not valid yet: it is valid from {from}"))
    } else if now > validity.not_after {
        let until = validity.not_after;
        Some(format!("it has expired: it was valid until {until}"))
    } else {
        None
    }
}
