//! A JSON Web Key (RFC 7517), converted to the form that ring takes, and checked as ring checks it when it verifies a
//! signature.

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey};
use ring::agreement::{ECDH_P256, ECDH_P384};
use serde::Deserialize;
use serde_json::Value;

use crate::public_keys::{ED25519_BYTES, is_edwards_point, is_on_curve, rsa_fault};

/// Algorithms that a configuration can name. Those with a shared secret, and `none`, are excluded.
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

/// Maximum number of characters quoted from a key.
const MAX_QUOTED: usize = 64;

const RSA: &[Algorithm] = &[
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
];

/// A key that can verify signatures.
pub struct Key {
    /// `kid`
    pub id: Option<String>,
    /// The algorithms whose signatures the key can verify; at least one.
    pub algorithms: Vec<Algorithm>,
    pub public: DecodingKey,
}

/// The members of a key that the server uses. All are optional, so that the error message can name a missing member.
#[derive(Deserialize)]
struct Members {
    kty: Option<String>,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl Key {
    /// Reads a key. The error is the reason why it cannot verify a signature.
    pub fn parse(value: &Value) -> Result<Self, String> {
        let members = Members::deserialize(value).map_err(|_| "a member has the wrong type")?;
        if let Some(usage) = members.usage.as_deref()
            && usage != "sig"
        {
            return Err(format!("its `use` is {}, not `sig`", quoted(usage)));
        }
        if let Some(operations) = &members.key_ops
            && !operations.iter().any(|operation| operation == "verify")
        {
            return Err("its `key_ops` lack `verify`".to_owned());
        }
        let (public, algorithms) = match members.kty.as_deref() {
            Some("RSA") => (rsa(&members)?, RSA),
            Some("EC") => elliptic(&members)?,
            Some("OKP") => (edwards(&members)?, &[Algorithm::EdDSA][..]),
            Some(kind) => return Err(format!("the key type {} is not supported", quoted(kind))),
            None => return Err("`kty` is missing".to_owned()),
        };
        let mut algorithms = algorithms.to_vec();
        if let Some(pinned) = members.alg.as_deref() {
            let is_pinned = |(name, _): &&(&str, Algorithm)| *name == pinned;
            let pinned_to = ALGORITHMS.iter().find(is_pinned).map(|(_, known)| *known);
            algorithms.retain(|algorithm| Some(*algorithm) == pinned_to);
            if algorithms.is_empty() {
                let pinned = quoted(pinned);
                return Err(format!(
                    "its `alg` {pinned} is not supported for such a key"
                ));
            }
        }
        Ok(Self {
            id: members.kid,
            algorithms,
            public,
        })
    }
}

fn rsa(members: &Members) -> Result<DecodingKey, String> {
    let modulus = number("n", members.n.as_deref())?;
    let exponent = number("e", members.e.as_deref())?;
    if let Some(fault) = rsa_fault(&modulus, &exponent) {
        return Err(fault);
    }
    Ok(DecodingKey::from_rsa_raw_components(&modulus, &exponent))
}

fn elliptic(members: &Members) -> Result<(DecodingKey, &'static [Algorithm]), String> {
    let (curve, size, algorithms): (_, usize, &[_]) = match members.crv.as_deref() {
        Some("P-256") => (&ECDH_P256, 32, &[Algorithm::ES256]),
        Some("P-384") => (&ECDH_P384, 48, &[Algorithm::ES384]),
        other => return Err(unsupported_curve(other)),
    };
    // An uncompressed point: SEC 1, section 2.3.3.
    let mut point = vec![4];
    for (name, text) in [("x", &members.x), ("y", &members.y)] {
        let coordinate = number(name, text.as_deref())?;
        let Some(missing) = size.checked_sub(coordinate.len()) else {
            return Err(format!("its `{name}` is longer than {size} bytes"));
        };
        point.resize(point.len() + missing, 0);
        point.extend_from_slice(&coordinate);
    }
    if !is_on_curve(curve, &point) {
        return Err("its `x` and `y` are not a point of the curve".to_owned());
    }
    Ok((DecodingKey::from_ec_der(&point), algorithms))
}

fn edwards(members: &Members) -> Result<DecodingKey, String> {
    if members.crv.as_deref() != Some("Ed25519") {
        return Err(unsupported_curve(members.crv.as_deref()));
    }
    let encoded = bytes("x", members.x.as_deref())?;
    let Ok(point) = <[u8; ED25519_BYTES]>::try_from(encoded) else {
        return Err(format!("its `x` does not have {ED25519_BYTES} bytes"));
    };
    if !is_edwards_point(point) {
        return Err("its `x` is not a point of the curve".to_owned());
    }
    Ok(DecodingKey::from_ed_der(&point))
}

fn unsupported_curve(curve: Option<&str>) -> String {
    match curve {
        Some(curve) => format!("the curve {} is not supported", quoted(curve)),
        None => "`crv` is missing".to_owned(),
    }
}

/// Returns the bytes of a member. Accepts unambiguous violations of RFC 7515: padding and standard base64.
fn bytes(name: &str, text: Option<&str>) -> Result<Vec<u8>, String> {
    let text = text.ok_or_else(|| format!("`{name}` is missing"))?;
    let text = text.trim_end_matches('=').replace('+', "-");
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(text.replace('/', "_"));
    bytes.map_err(|_| format!("its `{name}` is not base64url"))
}

/// Returns the bytes of a number without leading zeros, which some issuers add or omit (RFC 7518, section 6).
fn number(name: &str, text: Option<&str>) -> Result<Vec<u8>, String> {
    let mut bytes = bytes(name, text)?;
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    bytes.drain(..zeros);
    Ok(bytes)
}

/// Returns the text in backticks, truncated and escaped, so that it cannot forge a log line.
pub(super) fn quoted(text: &str) -> String {
    let mut characters = text.chars();
    let start: String = characters
        .by_ref()
        .take(MAX_QUOTED)
        .flat_map(char::escape_debug)
        .collect();
    let rest = if characters.next().is_some() {
        "..."
    } else {
        ""
    };
    format!("`{start}{rest}`")
}
