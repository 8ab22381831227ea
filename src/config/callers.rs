//! Reads `[[callers]]` and `[[jwt_issuers]]`.

use std::{collections::BTreeSet, path::Path};

use jsonwebtoken::Algorithm;

use super::{
    Allow, Caller, Jwks, JwtIssuer,
    diagnostics::Faults,
    files,
    reader::{Placed, Section},
    references::roots,
    urls::{self, Shape},
};
use crate::{
    client_tls::Trust,
    identity::{Identity, MAX_BYTES, SUBJECT_MARK},
    jwks::{ALGORITHMS, KeySet},
    names,
    pattern::Pattern,
    proto::rpcs,
};

/// What `algorithms` is when it is left out.
const USUAL: [Algorithm; 2] = [Algorithm::RS256, Algorithm::ES256];

/// `[[jwt_issuers]]`
pub fn jwt_issuers(file: &Section, folder: &Path, faults: &mut Faults) -> Vec<JwtIssuer> {
    let mut seen = BTreeSet::new();
    let mut issuers = Vec::new();
    for section in file.tables("jwt_issuers", "jwt_issuers", faults) {
        let issuer = section.identifier("issuer", faults);
        let audience = section.identifier("audience", faults);
        let algorithms = algorithms(&section, faults);
        let jwks = jwks(&section, &algorithms, folder, faults);
        let Some(Placed { value, span }) = issuer else {
            continue;
        };
        if value.contains(SUBJECT_MARK) {
            faults.add(span.clone(), "`issuer` must not hold a `#`");
        }
        if !seen.insert(value.clone()) {
            faults.add(span, "this issuer is listed twice");
        }
        if let (Some(audience), Some(jwks)) = (audience, jwks) {
            issuers.push(JwtIssuer {
                issuer: value,
                audience: audience.value,
                algorithms,
                jwks,
            });
        }
    }
    issuers
}

fn algorithms(section: &Section, faults: &mut Faults) -> Vec<Algorithm> {
    let Some(list) = section.texts("algorithms", faults) else {
        return USUAL.to_vec();
    };
    if list.value.is_empty() {
        faults.add(list.span, "`algorithms` must not be empty");
    }
    let mut algorithms = Vec::new();
    for Placed { value, span } in list.value {
        let known = ALGORITHMS.into_iter().find(|(name, _)| *name == value);
        if let Some((_, algorithm)) = known {
            faults.reveal(&span);
            algorithms.push(algorithm);
        } else {
            let names = ALGORITHMS.map(|(name, _)| name).join(", ");
            faults.add(span, format!("`algorithms` holds only {names}"));
        }
    }
    algorithms
}

fn jwks(
    section: &Section,
    algorithms: &[Algorithm],
    folder: &Path,
    faults: &mut Faults,
) -> Option<Jwks> {
    let roots = roots(section, Trust::More, folder, faults);
    match (section.has("jwks_file"), section.has("jwks_url")) {
        (true, false) => {
            if section.has("ca_file") {
                let span = section.key_span("ca_file");
                faults.add(span, "`ca_file` goes with `jwks_url`");
            }
            jwks_file(section, algorithms, folder, faults)
        }
        (false, true) => {
            let url = section.url("jwks_url", Shape::Resource, false, faults)?;
            Some(Jwks::Url { url, roots })
        }
        _ => {
            let fault = "an issuer needs either `jwks_url` or `jwks_file`";
            faults.add(section.span(), fault);
            None
        }
    }
}

fn jwks_file(
    section: &Section,
    algorithms: &[Algorithm],
    folder: &Path,
    faults: &mut Faults,
) -> Option<Jwks> {
    let Placed { value: path, span } = section.path("jwks_file", folder, faults)?;
    let keys = files::read(&path, files::MAX_BYTES)
        .map_err(|error| format!("cannot be read: {error}{}", files::shown(&path)))
        .and_then(|bytes| KeySet::parse_usable(&bytes));
    match keys {
        Ok(keys) => {
            if let Some(keys) = keys.left_out() {
                let warning = format!("`jwks_file` has keys that are left out: {keys}");
                faults.warn(span.clone(), warning);
            }
            // An empty list of algorithms is a fault already.
            if !algorithms.is_empty() && !keys.serves(algorithms) {
                let fault = "`jwks_file` holds no public key for one of the `algorithms`";
                faults.add_of_content(span, fault);
            }
        }
        Err(fault) => faults.add_of_content(span, format!("`jwks_file` {fault}")),
    }
    Some(Jwks::File(path))
}

/// `[[callers]]`
pub fn callers(file: &Section, issuers: &[JwtIssuer], faults: &mut Faults) -> Vec<Caller> {
    let mut seen = BTreeSet::new();
    let mut callers = Vec::new();
    for section in file.tables("callers", "callers", faults) {
        let identity = section.required("identity", faults);
        let allow = allow(&section, faults);
        let deletes_per_minute = section.number("deletes_per_minute", 1..=1_000_000, faults);
        let Some(Placed { value, span }) = identity else {
            continue;
        };
        if value.len() > MAX_BYTES {
            faults.add(span.clone(), "`identity` is longer than 256 bytes");
        }
        if value.chars().any(names::is_unseen) {
            faults.add(
                span.clone(),
                "`identity` holds characters that cannot be seen",
            );
        }
        let names = issuers.iter().map(|issuer| issuer.issuer.as_str());
        let identity = Identity::parse(&value, names);
        let checked = match &identity {
            Identity::Certificate(name) => urls::check_certificate_name(name),
            Identity::Token { subject, .. } => urls::check_template(subject),
            Identity::Anonymous => Ok(()),
        };
        if let Err(fault) = checked {
            faults.add(span.clone(), format!("`identity` {fault}"));
        }
        if !seen.insert(identity.to_string()) {
            let remedy = "put all that it may do into one `allow`";
            faults.add(span, format!("this caller is listed twice; {remedy}"));
        }
        callers.push(Caller {
            identity,
            allow,
            deletes_per_minute,
        });
    }
    callers
}

fn allow(caller: &Section, faults: &mut Faults) -> Vec<Allow> {
    if !caller.has("allow") {
        faults.add(caller.span(), "missing key `allow`");
    }
    caller
        .tables("allow", "callers.allow", faults)
        .iter()
        .filter_map(|entry| allow_entry(entry, faults))
        .collect()
}

fn allow_entry(entry: &Section, faults: &mut Faults) -> Option<Allow> {
    let targets = patterns(entry, "targets", faults);
    if !entry.has("targets") {
        faults.add(entry.span(), "missing key `targets`");
    }
    let pools = patterns(entry, "pools", faults);
    let rpc = entry.required("rpc", faults)?;
    let Some(known) = rpcs().find(|known| *known == rpc.value) else {
        faults.add(
            rpc.span,
            format!(
                "`rpc` must be one of {}",
                rpcs().collect::<Vec<_>>().join(", ")
            ),
        );
        return None;
    };
    faults.reveal(&rpc.span);
    if pools.is_some() && known != "DeleteBatchNodeUser" {
        faults.add(entry.key_span("pools"), "an HMC has no pools");
    }
    Some(Allow {
        rpc: known,
        targets: targets.unwrap_or_default(),
        pools,
    })
}

fn patterns(section: &Section, key: &str, faults: &mut Faults) -> Option<Vec<Pattern>> {
    let list = section.patterns(key, faults)?;
    if list.value.is_empty() {
        faults.add(list.span, format!("`{key}` must not be empty"));
    }
    let texts = list.value.iter();
    Some(texts.map(|text| Pattern::exact(&text.value)).collect())
}
