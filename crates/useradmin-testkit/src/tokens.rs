//! Tokens of an issuer, signed with ring and assembled manually, so that any part can be invalid.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use ring::{
    rand::SystemRandom,
    rsa::KeyPair as RsaPair,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
        Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512,
        RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512,
    },
};
use rustls::pki_types::{PrivatePkcs8KeyDer, pem::PemObject as _};
use serde_json::{Value, json};

use crate::canary;

/// RSA key for tests only. It is a file, because ring signs with RSA keys but cannot generate them.
const RSA: &str = include_str!("../fixtures/rsa-test-key.pem");

enum Key {
    P256(EcdsaKeyPair),
    P384(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Rsa(RsaPair),
}

/// A signing key of an issuer.
pub struct Signer {
    id: String,
    algorithm: &'static str,
    key: Key,
}

impl Signer {
    /// Generates a key for `ES256`.
    pub fn es256(id: &str) -> Self {
        Self::new(id, "ES256")
    }

    /// Generates a key for this algorithm. For RSA, the key is always the same.
    pub fn new(id: &str, algorithm: &'static str) -> Self {
        let random = SystemRandom::new();
        let curve = |algorithm| {
            let document = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
            EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random).unwrap()
        };
        let key = match algorithm {
            "ES256" => Key::P256(curve(&ECDSA_P256_SHA256_FIXED_SIGNING)),
            "ES384" => Key::P384(curve(&ECDSA_P384_SHA384_FIXED_SIGNING)),
            "EdDSA" => {
                let document = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
                Key::Ed25519(Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap())
            }
            _ => {
                let pem = PrivatePkcs8KeyDer::from_pem_slice(RSA.as_bytes()).unwrap();
                Key::Rsa(RsaPair::from_pkcs8(pem.secret_pkcs8_der()).unwrap())
            }
        };
        Self {
            id: id.to_owned(),
            algorithm,
            key,
        }
    }

    /// Returns the public key as a JSON Web Key.
    pub fn jwk(&self) -> Value {
        let curve = |name: &str, public: &[u8]| {
            let (x, y) = public[1..].split_at(public.len() / 2);
            json!({ "kty": "EC", "crv": name, "x": BASE64.encode(x), "y": BASE64.encode(y) })
        };
        let mut jwk = match &self.key {
            Key::P256(key) => curve("P-256", key.public_key().as_ref()),
            Key::P384(key) => curve("P-384", key.public_key().as_ref()),
            Key::Ed25519(key) => {
                json!({ "kty": "OKP", "crv": "Ed25519", "x": BASE64.encode(key.public_key()) })
            }
            Key::Rsa(key) => {
                let public = ring::rsa::PublicKeyComponents::<Vec<u8>>::from(key.public());
                json!({ "kty": "RSA", "n": BASE64.encode(public.n), "e": BASE64.encode(public.e) })
            }
        };
        jwk["kid"] = json!(self.id);
        jwk["use"] = json!("sig");
        jwk
    }

    /// Returns a key set with this key only.
    pub fn key_set(&self) -> String {
        json!({ "keys": [self.jwk()] }).to_string()
    }

    /// Returns the default header of a token.
    pub fn header(&self) -> Value {
        json!({ "alg": self.algorithm, "typ": "JWT", "kid": self.id })
    }

    /// Returns a token with the default header.
    pub fn token(&self, claims: &Value) -> String {
        self.token_with(&self.header(), claims)
    }

    /// Returns a token with this header, signed with this key regardless of the algorithm in the header.
    pub fn token_with(&self, header: &Value, claims: &Value) -> String {
        let encode = |value: &Value| BASE64.encode(value.to_string());
        let message = format!("{}.{}", encode(header), encode(claims));
        let signature = BASE64.encode(self.sign(message.as_bytes()));
        format!("{message}.{signature}")
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.key {
            Key::P256(key) | Key::P384(key) => key.sign(&random, message).unwrap().as_ref().into(),
            Key::Ed25519(key) => key.sign(message).as_ref().into(),
            Key::Rsa(key) => {
                let padding: &'static dyn ring::signature::RsaEncoding = match self.algorithm {
                    "RS256" => &RSA_PKCS1_SHA256,
                    "RS384" => &RSA_PKCS1_SHA384,
                    "RS512" => &RSA_PKCS1_SHA512,
                    "PS256" => &RSA_PSS_SHA256,
                    "PS384" => &RSA_PSS_SHA384,
                    "PS512" => &RSA_PSS_SHA512,
                    other => panic!("{other}"),
                };
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(padding, &random, message, &mut signature).unwrap();
                signature
            }
        }
    }
}

/// Returns the current time in seconds since 1970.
pub fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap().as_secs()
}

/// Returns the claims of a token that is valid for five minutes.
pub fn default_claims(issuer: &str, subject: &str) -> Value {
    json!({
        "iss": issuer, "sub": subject, "aud": "useradmin",
        "iat": now(), "nbf": now(), "exp": now() + 300, "jti": canary::CALLERS_TOKEN,
    })
}
