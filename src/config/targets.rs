//! Reads `[batch_accounts.ALIAS]` and `[hmcs.ALIAS]`, and the files that they name.

use std::{
    collections::BTreeMap,
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject as _},
};
use url::{Host, Url};

use super::{
    BatchAccount, BulkheadLimits, Credential, DEFAULT_SCOPE, Entra, EntraKind, Hmc,
    fault::Faults,
    secret::SecretSource,
    section::{Placed, Section},
};
use crate::{names, pattern::Pattern};

const KINDS: [&str; 5] = [
    "client_secret",
    "workload_identity",
    "managed_identity",
    "azure_cli",
    "shared_key",
];

/// `[batch_accounts.ALIAS]`
pub fn batch_accounts(
    file: &Section,
    folder: &Path,
    faults: &mut Faults,
) -> BTreeMap<String, BatchAccount> {
    let mut accounts = BTreeMap::new();
    for (alias, section) in file.named_tables("batch_accounts", "batch_accounts.ALIAS", faults) {
        check_alias(&alias, faults);
        let url = url(&section, "url", faults);
        let roots = roots(&section, folder, faults);
        let protected_users = protected(&section, faults);
        let bulkhead = bulkhead(&section, BulkheadLimits::BATCH, faults);
        let credential = credential(&section, folder, faults);
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
        let url = url(&section, "url", faults);
        let userid = section.required("userid", faults);
        let password = secret(&section, "password_file", folder, faults);
        let roots = roots(&section, folder, faults);
        let protected_users = protected(&section, faults);
        let bulkhead = bulkhead(&section, BulkheadLimits::HMC, faults);
        if let (Some(url), Some(userid), Some(password)) = (url, userid, password) {
            let hmc = Hmc {
                url,
                userid: userid.value,
                password,
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
    let Some(list) = section.texts("protected_users", faults) else {
        return Vec::new();
    };
    let texts = list.value.iter();
    texts.map(|text| Pattern::folded(&text.value)).collect()
}

/// An https URL that is nothing but an origin; http for loopback hosts, which no network can read.
fn url(section: &Section, key: &str, faults: &mut Faults) -> Option<Url> {
    let text = section.required(key, faults)?;
    match origin(&text.value) {
        Ok(url) => Some(url),
        Err(fault) => {
            faults.add(text.span, format!("`{key}` {fault}"));
            None
        }
    }
}

fn origin(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("is not a URL: {error}"))?;
    match url.scheme() {
        "https" => {}
        "http" if is_loopback(&url) => {}
        "http" => return Err("must be https; http is for loopback hosts only".into()),
        _ => return Err("must be an https URL".into()),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not hold a user or a password".into());
    }
    if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
        return Err("must have no path, query or fragment".into());
    }
    Ok(url)
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => IpAddr::V4(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::V6(address).is_loopback(),
        None => false,
    }
}

fn roots(section: &Section, folder: &Path, faults: &mut Faults) -> Vec<CertificateDer<'static>> {
    let Some(text) = section
        .has("ca_file")
        .then(|| section.required("ca_file", faults))
        .flatten()
    else {
        return Vec::new();
    };
    match certificates(&folder.join(&text.value)) {
        Ok(certificates) => certificates,
        Err(fault) => {
            faults.add(text.span, format!("`ca_file` {fault}"));
            Vec::new()
        }
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let pem =
        fs::read(path).map_err(|error| format!("cannot be read: {error} ({})", path.display()))?;
    let list: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|error| format!("is not PEM: {error}"))?;
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

/// The file of a secret, which must be readable now: a wrong path should not wait for the first call.
fn secret(
    section: &Section,
    key: &str,
    folder: &Path,
    faults: &mut Faults,
) -> Option<SecretSource> {
    let text = section.required(key, faults)?;
    let path = folder.join(&text.value);
    let shown = path.display().to_string();
    let source = SecretSource::File(path);
    match source.read() {
        Ok(_) => Some(source),
        Err(error) => {
            let fault = format!("`{key}` cannot be used: {error} ({shown})");
            faults.add(text.span, fault);
            None
        }
    }
}

fn credential(account: &Section, folder: &Path, faults: &mut Faults) -> Option<Credential> {
    if !account.has("credential") {
        faults.add(account.span(), "missing table `credential`");
        return None;
    }
    let section = account.table("credential", "batch_accounts.ALIAS.credential", faults)?;
    let kind = section.required("kind", faults)?;
    let before = faults.list().len();
    for key in keys_of_other_kinds(&kind.value, &section) {
        faults.add(
            section.key_span(key),
            format!("`{key}` does not go with kind `{}`", kind.value),
        );
    }
    if kind.value == "shared_key" {
        return shared_key(&section, folder, faults);
    }
    let tenant_id = tenant_id(&section, faults);
    let client_id = optional(&section, "client_id", faults);
    let entra = match kind.value.as_str() {
        "client_secret" => client_secret(&section, tenant_id, client_id, folder, faults),
        "workload_identity" => Some(EntraKind::WorkloadIdentity {
            tenant_id,
            client_id,
            token_file: token_file(&section, folder, faults),
        }),
        "managed_identity" => Some(EntraKind::ManagedIdentity { client_id }),
        "azure_cli" => Some(EntraKind::AzureCli { tenant_id }),
        _ => {
            let kinds = KINDS.join(", ");
            faults.add(kind.span, format!("`kind` must be one of {kinds}"));
            None
        }
    };
    let authority = section
        .has("authority")
        .then(|| url(&section, "authority", faults))
        .flatten();
    let scope = optional(&section, "scope", faults).unwrap_or_else(|| DEFAULT_SCOPE.to_owned());
    let kind = entra.filter(|_| faults.list().len() == before)?;
    Some(Credential::Entra(Entra {
        kind,
        authority,
        scope,
    }))
}

/// A key that the kind does not read would be a setting without effect.
fn keys_of_other_kinds(kind: &str, section: &Section) -> Vec<&'static str> {
    let unused: &[&str] = match kind {
        "client_secret" => &["token_file", "account_name", "key_file"],
        "workload_identity" => &["secret_file", "account_name", "key_file"],
        "managed_identity" => &[
            "tenant_id",
            "secret_file",
            "token_file",
            "authority",
            "account_name",
            "key_file",
        ],
        "azure_cli" => &[
            "client_id",
            "secret_file",
            "token_file",
            "authority",
            "account_name",
            "key_file",
        ],
        "shared_key" => &[
            "tenant_id",
            "client_id",
            "secret_file",
            "token_file",
            "authority",
            "scope",
        ],
        _ => &[],
    };
    unused
        .iter()
        .copied()
        .filter(|key| section.has(key))
        .collect()
}

fn optional(section: &Section, key: &str, faults: &mut Faults) -> Option<String> {
    if !section.has(key) {
        return None;
    }
    section.required(key, faults).map(|placed| placed.value)
}

fn client_secret(
    section: &Section,
    tenant_id: Option<String>,
    client_id: Option<String>,
    folder: &Path,
    faults: &mut Faults,
) -> Option<EntraKind> {
    for key in ["tenant_id", "client_id"] {
        if !section.has(key) {
            faults.add(section.span(), format!("missing key `{key}`"));
        }
    }
    let secret = secret(section, "secret_file", folder, faults);
    Some(EntraKind::ClientSecret {
        tenant_id: tenant_id?,
        client_id: client_id?,
        secret: secret?,
    })
}

/// It becomes part of a URL.
fn tenant_id(section: &Section, faults: &mut Faults) -> Option<String> {
    if !section.has("tenant_id") {
        return None;
    }
    let text = section.required("tenant_id", faults)?;
    if !names::is_made_of(&text.value, b".-") {
        let rule = "`tenant_id` holds letters, digits, `.` and `-` only";
        faults.add(text.span, rule);
    }
    Some(text.value)
}

fn token_file(section: &Section, folder: &Path, faults: &mut Faults) -> Option<PathBuf> {
    let text = section
        .has("token_file")
        .then(|| section.required("token_file", faults))??;
    let path = folder.join(&text.value);
    if let Err(error) = fs::read(&path) {
        let fault = format!("`token_file` cannot be read: {error} ({})", path.display());
        faults.add(text.span, fault);
    }
    Some(path)
}

fn shared_key(section: &Section, folder: &Path, faults: &mut Faults) -> Option<Credential> {
    let account = section.required("account_name", faults);
    let key = secret(section, "key_file", folder, faults);
    if let Some(source) = &key
        && let Ok(secret) = source.read()
        && BASE64_STANDARD.decode(secret.expose().trim()).is_err()
        && let Some(text) = section.text("key_file", faults)
    {
        faults.add(text.span, "`key_file` does not hold base64");
    }
    if let Some(account) = &account
        && !names::is_made_of(&account.value, b"")
    {
        let rule = "`account_name` holds letters and digits only";
        faults.add(account.span.clone(), rule);
    }
    Some(Credential::SharedKey {
        account: account?.value,
        key: key?,
    })
}
