//! Reads files that keys refer to: authorities and secrets.

use std::path::Path;

use super::{
    diagnostics::Faults,
    files,
    model::Roots,
    pem,
    reader::Section,
    secret::{Form, SecretSource},
};
use crate::client_tls::Trust;

/// Reads the certificates of `ca_file`, if the section has the key.
pub fn roots(section: &Section, trust: Trust, folder: &Path, faults: &mut Faults) -> Roots {
    if !section.has("ca_file") {
        return Roots::default();
    }
    let Some(path) = section.path("ca_file", folder, faults) else {
        return Roots::default();
    };
    let certificates = match pem::roots(&path.value, trust) {
        Ok((certificates, warnings)) => {
            for warning in warnings {
                faults.warn(path.span.clone(), format!("`ca_file` {warning}"));
            }
            certificates
        }
        Err(fault) => {
            faults.add(path.span, format!("`ca_file` {fault}"));
            Vec::new()
        }
    };
    Roots {
        file: Some(path.value),
        certificates,
    }
}

/// The file of a secret, which must be readable now: a wrong path should not wait for the first call. A fault of its
/// content takes nothing else away from a server that runs.
pub fn secret(
    section: &Section,
    key: &str,
    form: Form,
    folder: &Path,
    faults: &mut Faults,
) -> Option<SecretSource> {
    let path = section.path(key, folder, faults)?;
    let shown = files::shown(&path.value);
    let source = SecretSource::file(path.value, form);
    match source.check() {
        // Blanks around base64 are dropped.
        Ok(()) if form == Form::Base64 => {}
        Ok(()) => {
            let doubt = source
                .known()
                .and_then(|secret| files::doubt(secret.expose()));
            if let Some(doubt) = doubt {
                faults.warn(path.span, format!("`{key}`: the secret {doubt}{shown}"));
            }
        }
        Err(error) => {
            let fault = format!("`{key}` cannot be used: {error}{shown}");
            faults.add_of_content(path.span, fault);
        }
    }
    Some(source)
}
