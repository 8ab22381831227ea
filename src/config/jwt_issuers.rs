//! `[[jwt_issuers]]`.

use std::path::PathBuf;

use jsonwebtoken::Algorithm;
use url::Url;

use super::{
    files,
    reader::Reader,
    table::{Kind, table},
    urls::AllowedComponents,
    values::{Roots, ca_file, flattened, identifier, path, texts, url},
};
use crate::{
    client_tls::Trust,
    identity::SUBJECT_SEPARATOR,
    jwks::{ALGORITHMS, KeySet},
};

table! {
    /// An issuer of tokens.
    #[table("jwt_issuers", check = check)]
    pub struct JwtIssuer {
        /// The exact value of the claim `iss` of a token.
        issuer: String = issuer();
        /// The required value, or one of the values, of the claim `aud`: the name of this service at the issuer.
        audience: String = identifier();
        /// The permitted values of the header `alg`.
        algorithms: Vec<Algorithm> = algorithms().default_as("[\"RS256\", \"ES256\"]", vec![Algorithm::RS256, Algorithm::ES256]);
        /// The place of the issuer's keys.
        jwks: Jwks = flattened().then(jwks);
    }
}

table! {
    /// The keys that name the place of an issuer's keys.
    #[table("jwt_issuers")]
    struct JwksKeys {
        /// The issuer's keys as a JSON Web Key Set; read every 5 minutes and when a token names an unknown key. http
        /// is allowed for a loopback host only. RSA keys of 2048 to 8192 bits and keys of P-256, P-384 and Ed25519
        /// are used; others are left out, with a warning.
        jwks_url: Option<Url> = url("https URL", AllowedComponents::Resource, |_| false).optional("either this or `jwks_file`");
        /// The same in a file; read again when it changes. It must hold a key for one of the `algorithms`.
        jwks_file: Option<PathBuf> = path().optional("either this or `jwks_url`");
        /// More certificate authorities for `jwks_url`, beside the system's.
        #[key("ca_file")]
        roots: Roots = ca_file(Trust::AddToSystem);
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Jwks {
    File(PathBuf),
    Url {
        url: Url,
        /// Authorities that are trusted in addition to the system's.
        roots: Roots,
    },
}

fn jwks(reader: &Reader<'_>, _: &str, keys: JwksKeys) -> Option<Jwks> {
    match (reader.has("jwks_file"), reader.has("jwks_url")) {
        (true, false) => {
            if reader.has("ca_file") {
                reader.error(reader.key_span("ca_file"), "`ca_file` goes with `jwks_url`");
            }
            keys.jwks_file.map(Jwks::File)
        }
        (false, true) => Some(Jwks::Url {
            url: keys.jwks_url?,
            roots: keys.roots,
        }),
        _ => {
            let error = "an issuer needs either `jwks_url` or `jwks_file`";
            reader.error(reader.span(), error);
            None
        }
    }
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
                let mut known = ALGORITHMS.into_iter();
                if let Some((_, algorithm)) = known.find(|(name, _)| name == text.get_ref()) {
                    reader.reveal(text.span());
                    algorithms.push(algorithm);
                } else {
                    reader.error(text.span(), format!("`{key}` holds only {names}"));
                }
            }
            Some(algorithms)
        })
}

fn issuer() -> Kind<String> {
    let text = identifier().format("text without `#`");
    text.require("must not hold a `#`", |issuer| {
        !issuer.contains(SUBJECT_SEPARATOR)
    })
}

fn check(issuer: &JwtIssuer, reader: &Reader<'_>) {
    let (Jwks::File(path), algorithms) = (&issuer.jwks, &issuer.algorithms) else {
        return;
    };
    let keys = files::read(path)
        .map_err(|error| format!("cannot be read: {error}{}", files::display_path(path)))
        .and_then(|bytes| KeySet::parse_usable(&bytes));
    match keys {
        Ok(keys) => {
            if let Some(ignored) = keys.describe_unusable_keys() {
                let warning = format!(" has keys that are left out: {ignored}");
                reader.warn("jwks_file", warning);
            }
            // An empty list of algorithms has already been reported as an error.
            if !algorithms.is_empty() && !keys.serves(algorithms) {
                let error = "holds no public key for one of the `algorithms`";
                reader.invalid_content("jwks_file", error);
            }
        }
        Err(error) => reader.invalid_content("jwks_file", error),
    }
}
