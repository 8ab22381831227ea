//! `[server.tls]`, and the content of the files that it names. The same code reads the files at the start and when
//! they change.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::danger::ClientCertVerifier,
    sign::CertifiedKey,
};
use x509_parser::parse_x509_certificate;

use super::{files, pem::certificates, reader::Reader, table::table, values::pem_path};
use crate::certificates::{
    Authorities, authority_fault, date_fault, date_warning, verifier::CallerVerifier,
};

const CERT: &str = "cert_file";
const KEY: &str = "key_file";
const CLIENT_CA: &str = "client_ca_file";
/// The kinds of private keys with which *ring* can sign.
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
        /// The authorities of client certificates. With it, a caller must show a certificate or a token; a
        /// certificate that does not verify ends the handshake. A file without a usable authority is an error.
        client_ca_file: Option<PathBuf> = pem_path().optional("none: no client certificates");
    }
}

/// The valid content of the files.
pub struct TlsMaterial {
    /// Certificate chain of the server, and the private key that belongs to it.
    pub certified: Arc<CertifiedKey>,
    /// Usable authorities of client certificates.
    pub authorities: Vec<CertificateDer<'static>>,
    /// Verifier of client certificates with these authorities; `None` without `client_ca_file`.
    pub clients: Option<Arc<dyn ClientCertVerifier>>,
    /// Ignored authorities, certificates that should be replaced, and a private key that every user can read.
    pub warnings: Vec<Fault>,
}

/// Name of a configuration key, and a fault or warning about the content of its file.
pub type Fault = (&'static str, String);

impl TlsFiles {
    /// Reads and checks all files. Returns the faults if the content of a file cannot be used.
    pub fn read(&self) -> Result<TlsMaterial, Vec<Fault>> {
        let mut faults = Vec::new();
        let mut note = |key, fault| faults.push((key, fault));
        let chain = certificates(&self.cert_file).map_err(|fault| note(CERT, fault));
        let key = private_key(&self.key_file).map_err(|fault| note(KEY, fault));
        let clients = self.client_ca_file.as_deref().map(client_authorities);
        let clients = clients.transpose().map_err(|fault| note(CLIENT_CA, fault));
        let certified = chain.and_then(|chain| {
            CertifiedKey::from_der(chain, key?, &ring::default_provider())
                .map_err(|error| note(KEY, format!("does not go with `cert_file`: {error}")))
        });
        let (Ok(certified), Ok(clients)) = (certified, clients) else {
            return Err(faults);
        };
        let mut material = TlsMaterial {
            warnings: self.warnings(&certified.cert),
            certified: Arc::new(certified),
            authorities: Vec::new(),
            clients: None,
        };
        if let Some((authorities, warnings)) = clients {
            let warnings = warnings.into_iter().map(|text| (CLIENT_CA, text));
            material.warnings.extend(warnings);
            material.authorities.clone_from(&authorities.usable);
            let verifier = CallerVerifier::new(authorities);
            let verifier = verifier.map_err(|fault| vec![(CLIENT_CA, fault)])?;
            material.clients = Some(Arc::new(verifier));
        }
        Ok(material)
    }

    /// Returns warnings about the dates of the certificates, and about a private key that every user can read.
    fn warnings(&self, chain: &[CertificateDer<'static>]) -> Vec<Fault> {
        let dated = Authorities::partition(chain, date_warning);
        let shown = files::display_path(&self.cert_file);
        let dated = dated.warnings("holds a certificate to replace", &shown);
        let exposed = files::exposure(&self.key_file).map(|warning| (KEY, warning));
        let dated = dated.into_iter().map(|warning| (CERT, warning));
        dated.chain(exposed).collect()
    }

    pub fn paths(&self) -> Vec<PathBuf> {
        let files = [Some(&self.cert_file), Some(&self.key_file)];
        let files = files.into_iter().chain([self.client_ca_file.as_ref()]);
        files.flatten().cloned().collect()
    }
}

/// Reports faults in the content of the files.
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
    let pem = files::read(path)
        .map_err(|error| format!("cannot be read: {error}{}", files::display_path(path)))?;
    let key = PrivateKeyDer::from_pem_slice(&pem)
        .map_err(|_| "holds no private key in PEM; an encrypted one cannot be used")?;
    // The key is checked separately from the certificate, so that the error names the kind of key as the cause.
    ring::sign::any_supported_type(&key).map_err(|_| {
        format!("holds a private key of a kind that cannot be used; usable are {KEY_KINDS}")
    })?;
    Ok(key)
}

/// Returns the authorities of client certificates in a file, and warnings for those that are ignored. Fails if none
/// is usable, or if a certificate is not an authority's.
fn client_authorities(path: &Path) -> Result<(Authorities, Vec<String>), String> {
    let certificates = certificates(path)?;
    let shown = files::display_path(path);
    certificates
        .iter()
        .try_for_each(check_authority)
        .map_err(|fault| format!("{fault}{shown}"))?;
    // rustls does not check the dates of authorities.
    let authorities = Authorities::partition(&certificates, |authority| {
        authority_fault(authority).or_else(|| date_fault(authority))
    });
    if authorities.usable.is_empty() {
        let faults = authorities.faults();
        return Err(format!(
            "holds no authority that can admit a caller: {faults}{shown}"
        ));
    }
    let warnings = authorities.warnings("holds an authority that can admit no caller", &shown);
    Ok((authorities, warnings))
}

/// Returns an error for a certificate that is not an authority's. Otherwise its holder could issue certificates for
/// any name, because rustls does not check the key usage of authorities (RFC 5280, section 6.1.1).
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
