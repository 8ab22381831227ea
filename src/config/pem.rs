//! Certificates in PEM.

use std::path::Path;

use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject as _},
};

use super::files;

/// All certificates of a file in PEM; at least one.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let pem = files::read(path, files::MAX_BYTES)
        .map_err(|error| format!("cannot be read: {error}{}", files::shown(path)))?;
    let list: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|_| "is not PEM: a section has no end, or is not base64")?;
    if list.is_empty() {
        return Err("holds no certificate in PEM".into());
    }
    for certificate in &list {
        RootCertStore::empty()
            .add(certificate.clone())
            .map_err(|_| "holds something that is not a usable X.509 certificate")?;
    }
    Ok(list)
}
