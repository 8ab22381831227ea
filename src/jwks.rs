//! JSON Web Key Sets (RFC 7517): reads one, and finds the keys that may have signed a token.

use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse},
};
use serde_json::Value;

/// The algorithms that a configuration can name: none with a shared secret, and not `none`.
pub const ALGORITHMS: [(&str, Algorithm); 9] = [
    ("RS256", Algorithm::RS256),
    ("RS384", Algorithm::RS384),
    ("RS512", Algorithm::RS512),
    ("PS256", Algorithm::PS256),
    ("PS384", Algorithm::PS384),
    ("PS512", Algorithm::PS512),
    ("ES256", Algorithm::ES256),
    ("ES384", Algorithm::ES384),
    ("EdDSA", Algorithm::EdDSA),
];

struct Key {
    jwk: Jwk,
    key: DecodingKey,
}

/// The public keys of an issuer.
#[derive(Default)]
pub struct KeySet(Vec<Key>);

impl KeySet {
    /// Reads a set. Keys of kinds that are not known are passed over, as RFC 7517, section 5, asks for.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let document: Value =
            serde_json::from_slice(bytes).map_err(|error| format!("is not JSON: {error}"))?;
        let Some(list) = document.get("keys").and_then(Value::as_array) else {
            return Err("is not a JSON Web Key Set: it has no list `keys`".to_owned());
        };
        let keys: Vec<Key> = list.iter().filter_map(usable).collect();
        if keys.is_empty() {
            return Err("holds no public key that can check a signature".to_owned());
        }
        Ok(Self(keys))
    }

    /// The keys that may have signed a token with this header: those with its key ID, or else those without any.
    pub fn find<'a>(
        &'a self,
        id: Option<&'a str>,
        algorithm: Algorithm,
    ) -> impl Iterator<Item = &'a DecodingKey> {
        let known = self.knows(id);
        let fitting = move |key: &&Key| {
            let own = key.jwk.common.key_id.as_deref();
            let named = id.is_none() || own == id || !known && own.is_none();
            named && serves(&key.jwk, algorithm)
        };
        self.0.iter().filter(fitting).map(|key| &key.key)
    }

    /// Is there a key with this ID?
    #[must_use]
    pub fn knows(&self, id: Option<&str>) -> bool {
        let mut ids = self.0.iter().map(|key| key.jwk.common.key_id.as_deref());
        id.is_some() && ids.any(|own| own == id)
    }
}

fn usable(value: &Value) -> Option<Key> {
    let jwk: Jwk = serde_json::from_value(value.clone()).ok()?;
    let signs = matches!(
        jwk.common.public_key_use,
        None | Some(PublicKeyUse::Signature)
    );
    let operations = jwk.common.key_operations.as_ref();
    let checks = operations.is_none_or(|list| list.contains(&KeyOperations::Verify));
    let known = ALGORITHMS
        .iter()
        .any(|(_, algorithm)| serves(&jwk, *algorithm));
    let key = DecodingKey::from_jwk(&jwk).ok()?;
    (signs && checks && known).then_some(Key { jwk, key })
}

/// Is the key of the kind, and for the use, that the algorithm asks for?
fn serves(jwk: &Jwk, algorithm: Algorithm) -> bool {
    use Algorithm as A;
    let kind = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => matches!(
            algorithm,
            A::RS256 | A::RS384 | A::RS512 | A::PS256 | A::PS384 | A::PS512
        ),
        AlgorithmParameters::EllipticCurve(curve) => matches!(
            (&curve.curve, algorithm),
            (EllipticCurve::P256, A::ES256) | (EllipticCurve::P384, A::ES384)
        ),
        AlgorithmParameters::OctetKeyPair(curve) => {
            curve.curve == EllipticCurve::Ed25519 && algorithm == A::EdDSA
        }
        _ => false,
    };
    let pinned = jwk.common.key_algorithm;
    kind && pinned.is_none_or(|pinned| pinned == KeyAlgorithm::from(algorithm))
}
