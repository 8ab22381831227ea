//! Reads `[batch_accounts.ALIAS]` and `[hmcs.ALIAS]`, and the files that they name.

use std::{collections::BTreeMap, path::Path, time::Duration};

use super::{
    BatchAccount, BulkheadLimits, Hmc, Roots, credential,
    fault::Faults,
    files, pem,
    secret::{Form, SecretSource},
    section::{Placed, Section},
    urls::{Shape, identifier, url},
};
use crate::{client_tls::Trust, names, pattern::Pattern};

/// `[batch_accounts.ALIAS]`
pub fn batch_accounts(
    file: &Section,
    folder: &Path,
    faults: &mut Faults,
) -> BTreeMap<String, BatchAccount> {
    let mut accounts = BTreeMap::new();
    for (alias, section) in file.named_tables("batch_accounts", "batch_accounts.ALIAS", faults) {
        check_alias(&alias, faults);
        let url = url(&section, "url", Shape::Origin, false, faults);
        let roots = roots(&section, Trust::More, folder, faults);
        let protected_users = protected(&section, faults);
        let bulkhead = bulkhead(&section, BulkheadLimits::BATCH, faults);
        let credential = credential::credential(&section, folder, faults);
        if let (Some(url), Some(credential)) = (url, credential) {
            let account = BatchAccount {
                url,
                roots,
                protected_users,
                bulkhead,
                credential,
            };
            accounts.insert(alias.value, account);
        }
    }
    accounts
}

/// `[hmcs.ALIAS]`
pub fn hmcs(file: &Section, folder: &Path, faults: &mut Faults) -> BTreeMap<String, Hmc> {
    let mut hmcs = BTreeMap::new();
    for (alias, section) in file.named_tables("hmcs", "hmcs.ALIAS", faults) {
        check_alias(&alias, faults);
        let url = url(&section, "url", Shape::Origin, false, faults);
        let userid = identifier(&section, "userid", faults);
        let password = secret(&section, "password_file", Form::Text, folder, faults);
        let roots = roots(&section, Trust::Only, folder, faults);
        let protected_users = protected(&section, faults);
        let bulkhead = bulkhead(&section, BulkheadLimits::HMC, faults);
        let seconds = section.number("logon_timeout_seconds", 1..=60, faults);
        let usual = Hmc::LOGON_TIMEOUT;
        if let (Some(url), Some(userid), Some(password)) = (url, userid, password) {
            let hmc = Hmc {
                url,
                userid: userid.value,
                password,
                logon_timeout: seconds.map_or(usual, |s| Duration::from_secs(s.into())),
                roots,
                protected_users,
                bulkhead,
            };
            hmcs.insert(alias.value, hmc);
        }
    }
    hmcs
}

fn check_alias(alias: &Placed<String>, faults: &mut Faults) {
    if !names::is_alias(&alias.value) {
        faults.add(
            alias.span.clone(),
            "an alias is 1-64 letters, digits, `.`, `_` or `-`",
        );
    }
}

fn bulkhead(section: &Section, usual: BulkheadLimits, faults: &mut Faults) -> BulkheadLimits {
    let mut number = |key, range, usual| section.number(key, range, faults).unwrap_or(usual);
    BulkheadLimits {
        in_flight: number("max_in_flight", 1..=4096, usual.in_flight),
        queued: number("max_queued", 0..=65_536, usual.queued),
    }
}

fn protected(section: &Section, faults: &mut Faults) -> Vec<Pattern> {
    let Some(list) = section.patterns("protected_users", faults) else {
        return Vec::new();
    };
    let texts = list.value.iter();
    texts.map(|text| Pattern::folded(&text.value)).collect()
}

pub(super) fn roots(section: &Section, trust: Trust, folder: &Path, faults: &mut Faults) -> Roots {
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
pub(super) fn secret(
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
