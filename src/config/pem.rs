//! Reads certificates from PEM files.

use std::path::Path;

use rustls::{
    Error, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject as _},
};

use super::files;
use crate::{
    certificates::{
        Authorities, authority_fault, key_fault, key_point_fault,
        refusal::describe_certificate_error,
    },
    client_tls::Trust,
};

/// Returns the certificates of a PEM file. Fails if the file cannot be read, contains no certificate, or contains one
/// that cannot be used. Errors name the file.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    read(path).map_err(|fault| format!("{fault}{}", files::display_path(path)))
}

/// Returns the certificates with which servers are verified, and warnings for those that are no usable authority.
/// With [`Trust::ReplaceSystem`], fails if no certificate has a usable key, because it then is neither an authority nor
/// the certificate of the server itself.
pub fn roots(
    path: &Path,
    trust: Trust,
) -> Result<(Vec<CertificateDer<'static>>, Vec<String>), String> {
    let certificates = certificates(path)?;
    let shown = files::display_path(path);
    let sorted = Authorities::partition(&certificates, authority_fault);
    if trust == Trust::ReplaceSystem && sorted.usable.is_empty() {
        let keys = Authorities::partition(&certificates, |certificate| {
            key_fault(certificate).or_else(|| key_point_fault(certificate))
        });
        if keys.usable.is_empty() {
            let faults = keys.faults();
            return Err(format!(
                "holds no certificate that can be used: {faults}{shown}"
            ));
        }
    }
    let warnings = sorted.warnings("holds a certificate that can vouch for no other", &shown);
    Ok((certificates, warnings))
}

fn read(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let pem = files::read(path).map_err(|error| format!("cannot be read: {error}"))?;
    let list: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|_| "is not PEM: a section has no end, or is not base64")?;
    if list.is_empty() {
        return Err("holds no certificate in PEM".into());
    }
    for (number, certificate) in list.iter().enumerate() {
        RootCertStore::empty()
            .add(certificate.clone())
            .map_err(|error| unusable(number + 1, &error))?;
    }
    Ok(list)
}

fn unusable(number: usize, error: &Error) -> String {
    let cause = match error {
        Error::InvalidCertificate(cause) => describe_certificate_error(cause),
        other => other.to_string(),
    };
    format!("holds something that is not a usable X.509 certificate: number {number}: {cause}")
}
