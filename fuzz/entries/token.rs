//! Key sets of an issuer, and tokens that it may have signed.

use std::{
    cell::LazyCell,
    sync::{Arc, LazyLock},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use bytes::Bytes;
use jsonwebtoken::Algorithm;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};
use useradmin::{
    access::token::{Issuers, KeySource},
    config::{Jwks, JwtIssuer},
    identity::Identity,
    jwks::{ALGORITHMS, KeySet},
};

const ISSUER: &str = "https://issuer.example";
const AUDIENCE: &str = "useradmin";

static KEY_PAIR: LazyLock<Ed25519KeyPair> = LazyLock::new(|| {
    Ed25519KeyPair::from_seed_unchecked(&[7; 32]).expect("any 32 bytes are a seed")
});

thread_local! {
    static ISSUERS: LazyCell<(Runtime, Issuers)> = LazyCell::new(issuers);
}

/// Checks a JSON Web Key Set.
pub fn jwks(bytes: &[u8]) {
    let Ok(keys) = KeySet::parse(bytes) else {
        return;
    };
    let document: Value = serde_json::from_slice(bytes).expect("a key set is JSON");
    let list = document["keys"].as_array().expect("it has a list");
    let found = |id, algorithm| keys.find(id, algorithm).count();
    for shared in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
        assert_eq!(found(None, shared), 0, "a shared secret");
    }
    let max_keys = ALGORITHMS
        .iter()
        .map(|(_, algorithm)| found(None, *algorithm))
        .max();
    let max_keys = max_keys.unwrap_or_default();
    assert!(max_keys <= list.len(), "{max_keys} of {}", list.len());
    assert_eq!(max_keys == 0, keys.is_empty());
    assert_eq!(KeySet::parse_usable(bytes).is_ok(), !keys.is_empty());
    assert!(!keys.contains_id(None));
    for id in list.iter().filter_map(|key| key["kid"].as_str()) {
        for (_, algorithm) in ALGORITHMS {
            assert!(found(Some(id), algorithm) <= found(None, algorithm));
        }
    }
}

/// Checks a token, or, after a `!`, the JSON of header and claims on two lines, which the issuer then signs.
pub fn token(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let Some(parts) = text.strip_prefix('!') else {
        assert!(verify(text).is_none(), "nobody has signed {text}");
        return;
    };
    let (header, claims) = parts.split_once('\n').unwrap_or((parts, ""));
    let signed = format!("{}.{}", BASE64.encode(header), BASE64.encode(claims));
    let signature = BASE64.encode(KEY_PAIR.sign(signed.as_bytes()));
    if let Some(identity) = verify(&format!("{signed}.{signature}")) {
        let header = serde_json::from_str(header).expect("a header can be read");
        let claims = serde_json::from_str(claims).expect("claims can be read");
        check(&identity, &header, &claims);
    }
}

/// The relevant members of a header. Others may have values that no JSON library can represent, such as very large
/// numbers.
#[derive(Deserialize)]
struct Header {
    alg: Value,
    #[serde(default)]
    crit: Value,
}

/// The relevant members of the claims.
#[derive(Debug, Deserialize)]
struct Claims {
    iss: Value,
    aud: Value,
    sub: String,
    exp: f64,
    nbf: Option<f64>,
}

/// Asserts that the configured issuer has signed this token for this audience, and that the token is valid now.
fn check(identity: &Identity, header: &Header, claims: &Claims) {
    assert_eq!(header.alg, "EdDSA");
    assert!(header.crit.is_null(), "{}", header.crit);
    let expected_identity = Identity::Token {
        issuer: ISSUER.to_owned(),
        subject: claims.sub.clone(),
    };
    assert_eq!(*identity, expected_identity);
    assert!(!claims.sub.is_empty() && identity.to_string().len() <= 256);
    assert!(!claims.sub.contains(char::is_control), "{claims:?}");
    let contains = |claim: &Value, expected: &str| match claim {
        Value::Array(list) => list.iter().any(|item| item == expected),
        one => one == expected,
    };
    assert!(contains(&claims.iss, ISSUER), "{claims:?}");
    assert!(contains(&claims.aud, AUDIENCE), "{claims:?}");
    // One minute of clock skew, and one second for the time since the verification.
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.unwrap_or_default().as_secs_f64();
    assert!(claims.exp > now - 62.0, "{claims:?}");
    let is_active = claims.nbf.is_none_or(|not_before| not_before < now + 62.0);
    assert!(is_active, "{claims:?}");
}

fn verify(token: &str) -> Option<Identity> {
    ISSUERS.with(|held| {
        let (runtime, issuers) = &**held;
        runtime.block_on(issuers.verify(token, Duration::ZERO)).ok()
    })
}

/// Creates one issuer whose keys have been read.
fn issuers() -> (Runtime, Issuers) {
    let public = BASE64.encode(KEY_PAIR.public_key());
    let key = json!({ "kty": "OKP", "crv": "Ed25519", "kid": "key-1", "x": public });
    let keys = Bytes::from(json!({ "keys": [key] }).to_string());
    let settings = JwtIssuer {
        issuer: ISSUER.to_owned(),
        audience: AUDIENCE.to_owned(),
        algorithms: ALGORITHMS.map(|(_, algorithm)| algorithm).to_vec(),
        jwks: Jwks::File("nowhere".into()),
    };
    let runtime = Builder::new_current_thread().enable_time().build();
    let runtime = runtime.expect("a runtime");
    let issuers = runtime.block_on(async {
        let source = |_: &JwtIssuer| {
            let keys = keys.clone();
            Ok(KeySource::Url(Arc::new(move || {
                let keys = keys.clone();
                Box::pin(async move { Ok(keys) })
            })))
        };
        let issuers = Issuers::new(&[settings], None, source, &Arc::default());
        let issuers = issuers.expect("keys can be read");
        // The first call waits for the first read of the keys.
        let _unknown = issuers.verify("e30.e30.e30", Duration::from_secs(5)).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
        issuers
    });
    (runtime, issuers)
}
