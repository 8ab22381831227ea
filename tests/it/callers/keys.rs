//! Published keys of issuers: which of them verify tokens, and the reports about the others.

use std::{
    fs,
    path::Path,
    sync::{Arc, Mutex},
};

use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE, BASE64_URL_SAFE_NO_PAD as BASE64},
};
use futures_util::future::join_all;
use serde_json::{Value, json};
use useradmin::config;
use useradmin_testkit::{
    App, Process, Reply, SecureClient, Signer, Upstream, batch_request, batch_section,
    default_claims, wait_until,
};

use super::ISSUER;
use crate::authorization::upstream;

const EVERY_ALGORITHM: &str = r#"algorithms = ["RS256", "PS512", "ES256", "ES384", "EdDSA"]"#;

/// Returns a configuration with an issuer whose keys are at this `jwks_file` or `jwks_url`.
fn configuration(folder: &Path, url: &str, keys: &str) -> String {
    let batch = batch_section(folder, url);
    format!(
        r#"[server]
listen = "127.0.0.1:0"
admin_listen = ""
[[jwt_issuers]]
issuer = "{ISSUER}"
audience = "useradmin"
{keys}
[[callers]]
identity = "{ISSUER}#svc"
allow = [{{ rpc = "DeleteBatchNodeUser", targets = ["*"] }}]
{batch}"#
    )
}

fn decode_member(jwk: &Value, member: &str) -> Vec<u8> {
    BASE64.decode(jwk[member].as_str().unwrap()).unwrap()
}

/// Adds leading zeros to these members of a key.
fn prepend_zeros(jwk: &mut Value, members: &[&str], count: usize) {
    for member in members {
        let bytes = [vec![0; count], decode_member(jwk, member)].concat();
        jwk[member] = json!(BASE64.encode(bytes));
    }
}

/// Returns a key with a coordinate that starts with a zero byte, which is omitted.
fn key_with_stripped_zero(algorithm: &'static str, member: &str) -> (Signer, Value) {
    loop {
        let signer = Signer::new("key", algorithm);
        let mut jwk = signer.jwk();
        if let Some(rest) = decode_member(&jwk, member).strip_prefix(&[0]) {
            jwk[member] = json!(BASE64.encode(rest));
            return (signer, jwk);
        }
    }
}

fn modified_key(algorithm: &'static str, change: impl FnOnce(&mut Value)) -> (Signer, Value) {
    let signer = Signer::new("key", algorithm);
    let mut jwk = signer.jwk();
    change(&mut jwk);
    (signer, jwk)
}

fn usable_keys() -> Vec<(&'static str, (Signer, Value))> {
    let pad = |jwk: &mut Value| {
        for member in ["n", "e", "x", "y"] {
            if jwk[member].is_string() {
                jwk[member] = json!(BASE64_URL_SAFE.encode(decode_member(jwk, member)));
            }
        }
    };
    vec![
        (
            "n-zero",
            modified_key("RS256", |k| prepend_zeros(k, &["n"], 1)),
        ),
        (
            "n-zeros",
            modified_key("PS512", |k| prepend_zeros(k, &["n"], 9)),
        ),
        (
            "e-zero",
            modified_key("RS256", |k| k["e"] = json!("AAEAAQ")),
        ),
        (
            "e-zeros",
            modified_key("RS256", |k| prepend_zeros(k, &["n", "e"], 8)),
        ),
        ("x-short", key_with_stripped_zero("ES256", "x")),
        ("y-short", key_with_stripped_zero("ES256", "y")),
        ("x-short-384", key_with_stripped_zero("ES384", "x")),
        ("y-short-384", key_with_stripped_zero("ES384", "y")),
        (
            "xy-zero",
            modified_key("ES256", |k| prepend_zeros(k, &["x", "y"], 1)),
        ),
        (
            "xy-zeros-384",
            modified_key("ES384", |k| prepend_zeros(k, &["x", "y"], 18)),
        ),
        ("rsa-padded", modified_key("RS256", pad)),
        ("ec-padded", modified_key("ES256", pad)),
        ("ed-padded", modified_key("EdDSA", pad)),
        (
            "ed-standard",
            modified_key("EdDSA", |k| {
                k["x"] = json!(BASE64_STANDARD.encode(decode_member(k, "x")));
            }),
        ),
        ("ed", modified_key("EdDSA", |_| ())),
        (
            "pinned",
            modified_key("ES384", |k| k["alg"] = json!("ES384")),
        ),
        ("no-use", modified_key("ES256", |k| k["use"] = Value::Null)),
        (
            "ops",
            modified_key("ES256", |k| k["key_ops"] = json!(["sign", "verify"])),
        ),
        (
            "unknown-member",
            modified_key("ES256", |k| k["x5t#S256"] = json!([1])),
        ),
    ]
}

/// Returns keys that cannot verify a signature, and a part of the reported cause.
#[rustfmt::skip]
fn unusable_keys() -> Vec<(&'static str, (Signer, Value), &'static str)> {
    let number = |bytes: &[u8]| json!(BASE64.encode(bytes));
    let truncate = |jwk: &mut Value, member: &str, length: usize| jwk[member] = number(&decode_member(jwk, member)[..length]);
    // RFC 8032, section 5.1.3: no x exists for this y.
    let invalid_point = [&[2][..], &[0; 31]].concat();
    vec![
        ("rsa-1024", modified_key("RS256", |k| k["n"] = number(&[0xC1; 128])), "an RSA key of 1024 bits"),
        ("rsa-1024-zeros", modified_key("RS256", |k| k["n"] = number(&[vec![0; 128], vec![0xC1; 128]].concat())), "an RSA key of 1024 bits"),
        ("rsa-2040", modified_key("RS256", |k| k["n"] = number(&[0xC1; 255])), "an RSA key of 2040 bits"),
        ("rsa-8200", modified_key("RS256", |k| k["n"] = number(&[0xC1; 1025])), "an RSA key of 8200 bits"),
        ("rsa-empty", modified_key("RS256", |k| k["n"] = json!("")), "an RSA key of 0 bits"),
        ("rsa-zero", modified_key("RS256", |k| k["n"] = number(&[0; 256])), "an RSA key of 0 bits"),
        ("rsa-even", modified_key("RS256", |k| k["n"] = number(&[0xC2; 256])), "`n` is even"),
        ("e-one", modified_key("RS256", |k| k["e"] = json!("AQ")), "`e` is not supported"),
        ("e-even", modified_key("RS256", |k| k["e"] = json!("AQAA")), "`e` is not supported"),
        ("e-large", modified_key("RS256", |k| k["e"] = number(&[2, 0, 0, 0, 1])), "`e` is not supported"),
        ("e-huge", modified_key("RS256", |k| k["e"] = number(&[1; 16])), "`e` is not supported"),
        ("e-empty", modified_key("RS256", |k| k["e"] = json!("")), "`e` is not supported"),
        ("e-missing", modified_key("RS256", |k| k["e"] = Value::Null), "`e` is missing"),
        ("n-missing", modified_key("RS256", |k| { k["n"] = Value::Null; k["x5c"] = json!(["MIIB"]); }), "`n` is missing"),
        ("n-text", modified_key("RS256", |k| k["n"] = json!("not base64 at all")), "`n` is not base64url"),
        ("n-list", modified_key("RS256", |k| k["n"] = json!([1])), "wrong type"),
        ("oaep", modified_key("RS256", |k| k["alg"] = json!("RSA-OAEP")), "`alg` `RSA-OAEP`"),
        ("curve-alg", modified_key("RS256", |k| k["alg"] = json!("ES256")), "`alg` `ES256`"),
        ("other-curve-alg", modified_key("ES256", |k| k["alg"] = json!("ES384")), "`alg` `ES384`"),
        ("encryption", modified_key("ES256", |k| k["use"] = json!("enc")), "`use` is `enc`"),
        ("operations", modified_key("ES256", |k| k["key_ops"] = json!(["deriveKey"])), "`key_ops` lack `verify`"),
        ("no-operations", modified_key("ES256", |k| k["key_ops"] = json!([])), "`key_ops` lack `verify`"),
        ("p-521", modified_key("ES256", |k| k["crv"] = json!("P-521")), "the curve `P-521`"),
        ("k-256", modified_key("ES256", |k| k["crv"] = json!("secp256k1")), "the curve `secp256k1`"),
        ("no-curve", modified_key("ES256", |k| k["crv"] = Value::Null), "`crv` is missing"),
        ("other-curve", modified_key("ES384", |k| k["crv"] = json!("P-256")), "longer than 32 bytes"),
        ("off-curve", modified_key("ES256", |k| k["y"] = k["x"].clone()), "not a point"),
        ("off-curve-384", modified_key("ES384", |k| k["y"] = k["x"].clone()), "not a point"),
        ("larger-than-prime", modified_key("ES256", |k| k["x"] = number(&[0xFF; 32])), "not a point"),
        ("x-cut", modified_key("ES256", |k| truncate(k, "x", 31)), "not a point"),
        ("x-empty", modified_key("ES256", |k| k["x"] = json!("")), "not a point"),
        ("y-missing", modified_key("ES256", |k| k["y"] = Value::Null), "`y` is missing"),
        ("ed448", modified_key("EdDSA", |k| k["crv"] = json!("Ed448")), "the curve `Ed448`"),
        ("x25519", modified_key("EdDSA", |k| k["crv"] = json!("X25519")), "the curve `X25519`"),
        ("ed-cut", modified_key("EdDSA", |k| truncate(k, "x", 31)), "`x` does not have 32 bytes"),
        ("ed-long", modified_key("EdDSA", |k| prepend_zeros(k, &["x"], 1)), "`x` does not have 32 bytes"),
        ("ed-no-point", modified_key("EdDSA", |k| k["x"] = number(&invalid_point)), "not a point"),
        ("shared", modified_key("ES256", |k| { k["kty"] = json!("oct"); k["k"] = json!("AAAA"); }), "the key type `oct`"),
        ("post-quantum", modified_key("ES256", |k| k["kty"] = json!("AKP")), "the key type `AKP`"),
        ("no-type", modified_key("ES256", |k| k["kty"] = Value::Null), "`kty` is missing"),
    ]
}

/// Returns the key with this ID.
fn with_key_id(id: &str, mut jwk: Value) -> Value {
    jwk["kid"] = json!(id);
    jwk
}

fn key_set(keys: &[Value]) -> String {
    json!({ "keys": keys }).to_string()
}

/// Makes a call with a token that names this key. Returns the cause of the rejection, or an empty text.
async fn call(address: std::net::SocketAddr, signer: &Signer, id: &str) -> String {
    let mut header = signer.header();
    header["kid"] = json!(id);
    let token = signer.token_with(&header, &default_claims(ISSUER, "svc"));
    let client = SecureClient::plain(address).with_token(&token);
    let response = client.delete_batch_node_user(batch_request("alice")).await;
    let cause = response
        .err()
        .map(|failure| failure.metadata_value("cause").to_owned());
    cause.unwrap_or_default()
}

#[tokio::test]
async fn each_key_verifies_tokens_or_is_ignored() {
    let (upstream, folder) = (upstream().await, App::folder());
    let (usable, unusable) = (usable_keys(), unusable_keys());
    let good = usable
        .iter()
        .map(|(id, (_, jwk))| with_key_id(id, jwk.clone()));
    let bad = unusable
        .iter()
        .map(|(id, (_, jwk), _)| with_key_id(id, jwk.clone()));
    let keys: Vec<_> = bad.chain(good).chain([Value::Null, json!({})]).collect();
    fs::write(folder.join("issuer.jwks"), key_set(&keys)).unwrap();
    let keys = format!("jwks_file = \"issuer.jwks\"\n{EVERY_ALGORITHM}");
    let text = configuration(&folder, &upstream.url, &keys);
    let app = App::start_with_text(folder, &text).await;
    for (id, (signer, _)) in &usable {
        assert_eq!(call(app.address, signer, id).await, "", "{id}");
    }
    // The calls are concurrent, because an unknown key causes at most one read of the file per second.
    let calls = unusable
        .iter()
        .map(async |(id, (signer, _), _)| (id, call(app.address, signer, id).await));
    for (id, cause) in join_all(calls).await {
        assert_eq!(cause, "token_key_unknown", "{id}");
    }
}

#[test]
fn unusable_key_is_reported_with_cause() {
    let folder = App::folder();
    let keys = format!("jwks_file = \"issuer.jwks\"\n{EVERY_ALGORITHM}");
    let text = configuration(&folder, "http://127.0.0.1:1", &keys);
    let check = |keys: &[Value]| {
        fs::write(folder.join("issuer.jwks"), key_set(keys)).unwrap();
        let config = config::parse(&folder.join("useradmin.toml"), &text);
        let warnings = config.map(|config| config.source.warnings);
        let mut warnings = warnings.map_err(|errors| errors.brief())?;
        warnings.retain(|warning| warning.contains("`jwks_file`"));
        Ok::<_, String>(warnings)
    };
    let good = Signer::es256("good").jwk();
    for (id, (_, jwk), cause) in unusable_keys() {
        let key = with_key_id(id, jwk);
        let warnings = check(&[key.clone(), good.clone()]).unwrap();
        assert_eq!(warnings.len(), 1, "{id}: {warnings:?}");
        let prefix = ":7:13: warning: `jwks_file` has keys that are left out: ";
        for part in [prefix, &format!("`{id}`: "), cause] {
            assert!(warnings[0].contains(part), "{id}: {warnings:?}");
        }
        // If it is the only key, it is a fault.
        let error = check(&[key]).unwrap_err();
        let prefix = ":7:13: `jwks_file` holds no public key that can verify a signature: ";
        for part in [prefix, &format!("`{id}`: "), cause] {
            assert!(error.contains(part), "{id}: {error}");
        }
    }
    for (id, (_, jwk)) in usable_keys() {
        assert_eq!(check(&[with_key_id(id, jwk)]), Ok(Vec::new()), "{id}");
    }
    let warnings = check(&[good.clone(), json!(7), json!({ "kid": 7 })]).unwrap();
    assert!(
        warnings[0].contains(
            "key 2 without `kid`: a member has the wrong type; `7`: a member has the wrong type"
        ),
        "{warnings:?}"
    );
    let misleading = json!({ "kid": "a\nb\u{1B}[2J\u{202E}" });
    let misleading = check(&[good.clone(), misleading]).unwrap();
    assert!(
        misleading[0].contains(r"`a\nb\u{1b}[2J\u{202e}`: "),
        "{misleading:?}"
    );
    let long = check(&[
        good,
        json!({ "kid": "\u{FC}".repeat(1_000), "kty": "x".repeat(1_000) }),
    ])
    .unwrap();
    assert!(long[0].chars().count() < 400, "{long:?}");
    assert!(
        check(&[])
            .unwrap_err()
            .ends_with("holds no public key that can verify a signature")
    );
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn file_without_usable_key_is_rejected() {
    let folder = App::folder();
    for (algorithm, allowed, is_accepted) in [
        ("ES256", r#"["ES256"]"#, true),
        ("ES256", r#"["RS256", "ES384"]"#, false),
        ("RS256", r#"["PS256"]"#, true),
        ("RS256", r#"["EdDSA"]"#, false),
        ("EdDSA", r#"["RS256", "ES256"]"#, false),
    ] {
        fs::write(
            folder.join("issuer.jwks"),
            Signer::new("key", algorithm).key_set(),
        )
        .unwrap();
        let keys = format!("jwks_file = \"issuer.jwks\"\nalgorithms = {allowed}");
        let text = configuration(&folder, "http://127.0.0.1:1", &keys);
        let error = config::parse(&folder.join("useradmin.toml"), &text).err();
        let error = error.map(|errors| errors.brief()).unwrap_or_default();
        assert_eq!(
            error.is_empty(),
            is_accepted,
            "{algorithm} {allowed}: {error}"
        );
        assert_eq!(
            error.contains("no public key for one of the `algorithms`"),
            !is_accepted,
            "{error}"
        );
    }
    fs::remove_dir_all(folder).unwrap();
}

/// A key set replaces the previous keys of the issuer, even if it contains no usable key.
#[tokio::test]
async fn url_without_usable_keys_replaces_old_keys() {
    let signer = Signer::es256("key-1");
    let weak_key = with_key_id("small", unusable_keys().swap_remove(0).1.1);
    for (replacement, logged_cause) in [
        (key_set(&[]), ""),
        (key_set(&[weak_key]), "`small`: an RSA key of 1024 bits"),
    ] {
        let keys = Arc::new(Mutex::new(signer.key_set()));
        let current = Arc::clone(&keys);
        let issuer = Upstream::start(move |_| Reply::json(200, &current.lock().unwrap())).await;
        let (upstream, folder) = (upstream().await, App::folder());
        let text = configuration(
            &folder,
            &upstream.url,
            &format!("jwks_url = \"{}\"", issuer.url),
        );
        fs::write(folder.join("useradmin.toml"), text).unwrap();
        let server = Process::start(&folder);
        let address = server.address.parse().unwrap();
        assert_eq!(call(address, &signer, "key-1").await, "");
        *keys.lock().unwrap() = replacement;
        // An unknown key causes the set to be read again, as does the refresh interval.
        assert_eq!(call(address, &signer, "key-2").await, "token_key_unknown");
        assert_eq!(call(address, &signer, "key-1").await, "token_key_unknown");
        wait_until("a warning", async || {
            let message = "issuer has no usable key; its tokens are refused";
            !Process::log_records(&folder, message).is_empty()
        })
        .await;
        let skipped = Process::log_records(&folder, "issuer keys skipped");
        let is_reported = skipped
            .iter()
            .any(|line| line["keys"].as_str().unwrap().contains(logged_cause));
        assert_eq!(is_reported, !logged_cause.is_empty(), "{skipped:?}");
        // The issuer serves keys again.
        *keys.lock().unwrap() = signer.key_set();
        assert_eq!(call(address, &signer, "key-1").await, "");
        server.stop();
        fs::remove_dir_all(folder).unwrap();
    }
}
