//! `[[jwt_issuers]]`.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use jsonwebtoken::Algorithm;
use toml::Spanned;
use url::Url;

use super::{
    files,
    reader::Reader,
    table::{Kind, table},
    urls::Shape,
    values::{Roots, ca_file, identifier, path, texts, url},
};
use crate::{
    client_tls::Trust,
    identity::SUBJECT_MARK,
    jwks::{ALGORITHMS, KeySet},
};

table! {
    /// The keys of `[[jwt_issuers]]`.
    #[table("jwt_issuers", check = check)]
    pub struct JwtIssuerKeys {
        /// What the claim `iss` of a token must be, to the letter.
        issuer: Spanned<String> = issuer().spanned();
        /// What the claim `aud` must be, or hold: the name of this service at the issuer.
        audience: String = identifier();
        /// What the header `alg` may be.
        algorithms: Vec<Algorithm> = algorithms().default_as("[\"RS256\", \"ES256\"]", vec![Algorithm::RS256, Algorithm::ES256]);
        /// The issuer's keys as a JSON Web Key Set; read every 5 minutes and when a token names an unknown key. http is
        /// allowed for a loopback host only. RSA keys of 2048 to 8192 bits and keys of P-256, P-384 and Ed25519 are used;
        /// others are left out, with a warning.
        jwks_url: Option<Url> = url("https URL", Shape::Resource, |_| false).optional("either this or `jwks_file`");
        /// The same in a file; read again when it changes. It must hold a key for one of the `algorithms`.
        jwks_file: Option<PathBuf> = path().optional("either this or `jwks_url`");
        /// More certificate authorities for `jwks_url`, beside the system's.
        #[key("ca_file")]
        roots: Roots = ca_file(Trust::More);
    }
}

/// An issuer of tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwtIssuer {
    /// What `iss` must be.
    pub issuer: String,
    /// What `aud` must be, or hold.
    pub audience: String,
    /// What `alg` may be.
    pub algorithms: Vec<Algorithm>,
    /// Where the issuer's keys are.
    pub jwks: Jwks,
}

/// Where an issuer's keys are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Jwks {
    /// In a file.
    File(PathBuf),
    /// On a server.
    Url {
        /// URL of the key set.
        url: Url,
        /// More authorities beside the system's.
        roots: Roots,
    },
}

fn algorithms() -> Kind<Vec<Algorithm>> {
    let names = ALGORITHMS.map(|(name, _)| name).join(", ");
    texts()
        .format(format!("list of {names}"))
        .then(move |reader, key, texts| {
            if texts.is_empty() {
                reader.invalid(key, "must not be empty");
            }
            let mut algorithms = Vec::new();
            for text in texts {
                let known = ALGORITHMS
                    .into_iter()
                    .find(|(name, _)| name == text.get_ref());
                if let Some((_, algorithm)) = known {
                    reader.reveal(&text.span());
                    algorithms.push(algorithm);
                } else {
                    reader.error(text.span(), format!("`{key}` holds only {names}"));
                }
            }
            Some(algorithms)
        })
}

fn issuer() -> Kind<String> {
    identifier().format("text without `#`").check(|issuer| {
        let is_valid = !issuer.contains(SUBJECT_MARK);
        is_valid.then_some(()).ok_or("must not hold a `#`")
    })
}

fn check(keys: &JwtIssuerKeys, reader: &Reader<'_>) {
    match (reader.has("jwks_file"), reader.has("jwks_url")) {
        (true, false) => {
            if reader.has("ca_file") {
                reader.error(reader.key_span("ca_file"), "`ca_file` goes with `jwks_url`");
            }
            if let Some(path) = &keys.jwks_file {
                check_key_set(path, &keys.algorithms, reader);
            }
        }
        (false, true) => {}
        _ => {
            let error = "an issuer needs either `jwks_url` or `jwks_file`";
            reader.error(reader.span(), error);
        }
    }
}

fn check_key_set(path: &Path, algorithms: &[Algorithm], reader: &Reader<'_>) {
    let keys = files::read(path, files::MAX_BYTES)
        .map_err(|error| format!("cannot be read: {error}{}", files::shown(path)))
        .and_then(|bytes| KeySet::parse_usable(&bytes));
    match keys {
        Ok(keys) => {
            if let Some(left_out) = keys.left_out() {
                reader.warn(
                    "jwks_file",
                    format!(" has keys that are left out: {left_out}"),
                );
            }
            // An empty list of algorithms is an error already.
            if !algorithms.is_empty() && !keys.serves(algorithms) {
                let error = "holds no public key for one of the `algorithms`";
                reader.invalid_content("jwks_file", error);
            }
        }
        Err(error) => reader.invalid_content("jwks_file", error),
    }
}

/// Returns the issuers, and reports those that are listed twice.
pub fn issuers(list: Vec<JwtIssuerKeys>, reader: &Reader<'_>) -> Vec<JwtIssuer> {
    let mut seen = BTreeSet::new();
    let mut issuers = Vec::new();
    for keys in list {
        if !seen.insert(keys.issuer.get_ref().clone()) {
            reader.error(keys.issuer.span(), "this issuer is listed twice");
        }
        let jwks = match (keys.jwks_file, keys.jwks_url) {
            (Some(path), _) => Jwks::File(path),
            (None, Some(url)) => Jwks::Url {
                url,
                roots: keys.roots,
            },
            (None, None) => continue,
        };
        issuers.push(JwtIssuer {
            issuer: keys.issuer.into_inner(),
            audience: keys.audience,
            algorithms: keys.algorithms,
            jwks,
        });
    }
    issuers
}
