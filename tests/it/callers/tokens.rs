//! Tokens: all kinds of invalid tokens, and the sources of the keys.

use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use futures_util::future::join_all;
use serde_json::{Value, json};
use tonic::Code;
use useradmin_testkit::{
    App, Reply, SecureClient, Signer, Upstream, batch_request, batch_section, default_claims, now,
};

use super::{ISSUER, SecureServer};
use crate::authorization::upstream;

const EVERYTHING: &str = r#"
[[callers]]
identity = "https://login.corp.example#svc"
allow = [{ rpc = "DeleteBatchNodeUser", targets = ["*"] }]
"#;

async fn start_server() -> SecureServer {
    let sections = |folder: &Path, url: &str| batch_section(folder, url) + EVERYTHING;
    SecureServer::start(upstream().await, sections, "").await
}

/// The name of the case, the change to the claims of a valid token, and the cause of the rejection, which is empty if
/// the token stays valid.
type Change = (&'static str, fn(&mut Value), &'static str);

fn remove_claim(claims: &mut Value, name: &str) {
    claims.as_object_mut().unwrap().remove(name);
}

#[rustfmt::skip]
const CLAIMS: &[Change] = &[
    ("nothing", |_| (), ""),
    ("audience in a list", |c| c["aud"] = json!(["x", "useradmin"]), ""),
    ("without nbf", |c| remove_claim(c, "nbf"), ""),
    ("expired within the leeway", |c| c["exp"] = json!(now() - 50), ""),
    ("not yet valid, within the leeway", |c| c["nbf"] = json!(now() + 50), ""),
    ("expired", |c| c["exp"] = json!(now() - 70), "token_expired"),
    ("not yet valid", |c| c["nbf"] = json!(now() + 70), "token_not_yet_valid"),
    ("wrong issuer", |c| c["iss"] = json!("https://evil.example"), "token_issuer_unknown"),
    ("issuer with a slash", |c| c["iss"] = json!(format!("{ISSUER}/")), "token_issuer_unknown"),
    ("issuer in a list", |c| c["iss"] = json!([ISSUER]), "token_malformed"),
    ("wrong audience", |c| c["aud"] = json!("somebody"), "token_audience_wrong"),
    ("wrong audiences", |c| c["aud"] = json!(["a", "b"]), "token_audience_wrong"),
    ("audience is a number", |c| c["aud"] = json!(7), "token_malformed"),
    ("no audience", |c| remove_claim(c, "aud"), "token_malformed"),
    ("no expiry", |c| remove_claim(c, "exp"), "token_malformed"),
    ("expiry is a text", |c| c["exp"] = json!("2999"), "token_malformed"),
    ("no issuer", |c| remove_claim(c, "iss"), "token_malformed"),
    ("no subject", |c| remove_claim(c, "sub"), "token_malformed"),
    ("empty subject", |c| c["sub"] = json!(""), "token_malformed"),
    ("subject with a line end", |c| c["sub"] = json!("svc\nx"), "token_malformed"),
    ("subject in a list", |c| c["sub"] = json!(["svc"]), "token_malformed"),
];

#[rustfmt::skip]
const HEADERS: &[Change] = &[
    ("without a key ID", |h| remove_claim(h, "kid"), ""),
    ("unknown key", |h| h["kid"] = json!("key-2"), "token_key_unknown"),
    ("algorithm not configured", |h| h["alg"] = json!("ES384"), "token_algorithm_refused"),
    ("shared secret", |h| h["alg"] = json!("HS256"), "token_algorithm_refused"),
    ("algorithm of another kind of key", |h| h["alg"] = json!("RS256"), "token_key_unknown"),
    ("none", |h| h["alg"] = json!("none"), "token_malformed"),
    ("None", |h| h["alg"] = json!("None"), "token_malformed"),
    ("no algorithm", |h| remove_claim(h, "alg"), "token_malformed"),
    ("critical extension", |h| h["crit"] = json!(["x"]), "token_malformed"),
];

#[tokio::test]
async fn every_claim_is_checked() {
    let server = start_server().await;
    for (case, change, cause) in CLAIMS {
        let mut claims = default_claims(ISSUER, "svc");
        change(&mut claims);
        expect_cause(&server, case, &server.signer.token(&claims), cause).await;
    }
}

#[tokio::test]
async fn token_header_cannot_override_configuration() {
    let server = start_server().await;
    let claims = default_claims(ISSUER, "svc");
    for (case, change, cause) in HEADERS {
        let mut header = server.signer.header();
        change(&mut header);
        let token = server.signer.token_with(&header, &claims);
        expect_cause(&server, case, &token, cause).await;
    }
}

#[tokio::test]
async fn token_must_be_complete_and_signed_by_issuer() {
    let server = start_server().await;
    let valid_claims = default_claims(ISSUER, "svc");
    let other = Signer::es256("key-1");
    let unsigned = [r#"{"alg":"none"}"#, &valid_claims.to_string()].map(|part| BASE64.encode(part));
    let mut with_its_key = other.header();
    with_its_key["jwk"] = other.jwk();
    let valid_token = server.signer.token(&valid_claims);
    let (invalid, malformed) = ("token_signature_invalid", "token_malformed");
    for (case, token, cause) in [
        ("as it is", valid_token.clone(), ""),
        (
            "another key with the same ID",
            other.token(&valid_claims),
            invalid,
        ),
        (
            "its own key",
            other.token_with(&with_its_key, &valid_claims),
            invalid,
        ),
        (
            "cut",
            valid_token[..valid_token.len() - 2].to_owned(),
            invalid,
        ),
        ("unsigned", unsigned.join(".") + ".", malformed),
        (
            "two parts",
            valid_token.rsplit_once('.').unwrap().0.to_owned(),
            malformed,
        ),
        ("five parts", format!("{valid_token}.x.y"), malformed),
        ("not base64", "a.b.c".to_owned(), malformed),
        ("not a token", "hello".to_owned(), malformed),
        ("long", "x".repeat(6_000), malformed),
    ] {
        expect_cause(&server, case, &token, cause).await;
    }
}

async fn expect_cause(server: &SecureServer, name: &str, token: &str, cause: &str) {
    let requests_before = server.upstream.requests("DELETE", "/").len();
    let client = server.client(None).with_token(token);
    let response = client.delete_batch_node_user(batch_request("alice")).await;
    let deletes = server.upstream.requests("DELETE", "/").len() - requests_before;
    match response {
        Ok(_) => assert_eq!((cause, deletes), ("", 1), "{name}"),
        Err(failure) => {
            failure.expect(Code::Unauthenticated, "CALLER_UNAUTHENTICATED");
            assert_eq!(
                (failure.metadata_value("cause"), deletes),
                (cause, 0),
                "{name}"
            );
        }
    }
}

#[tokio::test]
async fn authorization_metadata_is_one_bearer_token() {
    let server = start_server().await;
    let token = server.signer.token(&default_claims(ISSUER, "svc"));
    for (value, cause) in [
        (format!("Bearer {token}"), ""),
        (format!("bearer  {token}"), ""),
        (format!("BEARER {token}"), ""),
        (token.clone(), "no_bearer_token"),
        ("Basic dXNlcjpwYXNz".to_owned(), "no_bearer_token"),
        ("Bearer".to_owned(), "no_bearer_token"),
        ("Bearer ".to_owned(), "token_malformed"),
        (format!("Bearer {token}, Bearer {token}"), "token_malformed"),
        (String::new(), "no_bearer_token"),
    ] {
        let client = server.client(None).with_authorization(&value);
        let response = client.delete_batch_node_user(batch_request("alice")).await;
        let actual = response
            .err()
            .map(|failure| failure.metadata_value("cause").to_owned());
        assert_eq!(actual.unwrap_or_default(), cause, "{value}");
    }
    let mut request = server
        .client(None)
        .with_token(&token)
        .request(batch_request("alice"));
    request
        .metadata_mut()
        .append("authorization", format!("Bearer {token}").parse().unwrap());
    let mut client =
        useradmin::proto::user_admin_client::UserAdminClient::new(server.client(None).channel());
    let status = client.delete_batch_node_user(request).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
}

#[tokio::test]
async fn all_configurable_algorithms_work() {
    for algorithm in [
        "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA",
    ] {
        let (upstream, folder) = (upstream().await, App::folder());
        let signer = Signer::new("key-1", algorithm);
        let issuer = super::issuer_section(&folder, &signer)
            .replace(r#""ES256", "RS256""#, &format!("{algorithm:?}"));
        let text = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\nadmin_listen = \"\"\n{issuer}{EVERYTHING}{}",
            batch_section(&folder, &upstream.url)
        );
        let app = App::start_with_text(folder, &text).await;
        let client = SecureClient::plain(app.address)
            .with_token(&signer.token(&default_claims(ISSUER, "svc")));
        let response = client.delete_batch_node_user(batch_request("alice")).await;
        assert!(response.is_ok(), "{algorithm} {response:?}");
        let untrusted = SecureClient::plain(app.address);
        let failure = untrusted
            .delete_batch_node_user(batch_request("alice"))
            .await
            .unwrap_err();
        assert_eq!(failure.metadata_value("cause"), "nothing_shown");
    }
}

/// Starts an issuer that serves this reply at the URL of its keys.
async fn issuer(keys: &Arc<Mutex<Reply>>) -> Upstream {
    let keys = Arc::clone(keys);
    Upstream::start(move |_| keys.lock().unwrap().clone()).await
}

fn configuration_with_jwks_url(issuer: &Upstream, upstream: &Upstream, folder: &Path) -> String {
    let (url, batch) = (&issuer.url, batch_section(folder, &upstream.url));
    format!(
        r#"
[server]
listen = "127.0.0.1:0"
admin_listen = ""
[[jwt_issuers]]
issuer = "{ISSUER}"
audience = "useradmin"
jwks_url = "{url}/keys?v=1"
{EVERYTHING}{batch}"#
    )
}

#[tokio::test]
async fn keys_are_fetched_once_and_again_for_unknown_key() {
    let (old, new) = (Signer::es256("old"), Signer::es256("new"));
    let keys = Arc::new(Mutex::new(Reply::json(200, &old.key_set())));
    let (issuer, upstream, folder) = (issuer(&keys).await, upstream().await, App::folder());
    let text = configuration_with_jwks_url(&issuer, &upstream, &folder);
    let app = App::start_with_text(folder, &text).await;
    let client = |signer: &Signer| {
        SecureClient::plain(app.address).with_token(&signer.token(&default_claims(ISSUER, "svc")))
    };
    let call = async |signer: &Signer| {
        let response = client(signer)
            .delete_batch_node_user(batch_request("alice"))
            .await;
        response
            .err()
            .map(|failure| failure.metadata_value("cause").to_owned())
            .unwrap_or_default()
    };
    // The first call may have to wait for the first reading of the keys.
    assert_eq!(call(&old).await, "");
    let requests_before = issuer.received().len();
    for _ in 0..5 {
        assert_eq!(call(&old).await, "");
    }
    assert_eq!(issuer.received().len(), requests_before);
    assert_eq!(issuer.received()[0].target, "/keys?v=1");
    // A new key is accepted at its first use, and the same reading removes the old key.
    *keys.lock().unwrap() = Reply::json(200, &new.key_set());
    assert_eq!(call(&new).await, "");
    assert_eq!(call(&old).await, "token_key_unknown");
    // A response that is not a key set does not replace the current one.
    for bad in [
        Reply::html(200),
        Reply::json(200, r#"{"keys":{}}"#),
        Reply::json(404, &old.key_set()),
        Reply::Close,
    ] {
        *keys.lock().unwrap() = bad;
        assert_eq!(call(&old).await, "token_key_unknown");
        assert_eq!(call(&new).await, "");
    }
    // Tokens with unknown keys neither cause a request to the issuer for each call ...
    let requests_before = issuer.received().len();
    let started = Instant::now();
    let invented: Vec<_> = (0..50)
        .map(|n| Signer::es256(&format!("invented-{n}")))
        .collect();
    let attack = join_all(invented.iter().map(&call));
    // ... nor prevent the use of a new key.
    let newest = Signer::es256("newest");
    *keys.lock().unwrap() = Reply::json(200, &newest.key_set());
    let (causes, cause) = tokio::join!(attack, call(&newest));
    assert_eq!(cause, "");
    assert!(
        causes.iter().all(|cause| cause == "token_key_unknown"),
        "{causes:?}"
    );
    let readings = u64::try_from(issuer.received().len() - requests_before).unwrap();
    assert!(readings <= 1 + started.elapsed().as_secs(), "{readings}");
}

#[tokio::test]
async fn issuer_keys_are_loaded_once_issuer_recovers() {
    let signer = Signer::es256("key-1");
    let keys = Arc::new(Mutex::new(Reply::Close));
    let (issuer, upstream, folder) = (issuer(&keys).await, upstream().await, App::folder());
    let app = App::start_with_text(
        folder.clone(),
        &configuration_with_jwks_url(&issuer, &upstream, &folder),
    )
    .await;
    let client =
        SecureClient::plain(app.address).with_token(&signer.token(&default_claims(ISSUER, "svc")));
    let failure = client
        .delete_batch_node_user(batch_request("alice"))
        .await
        .unwrap_err();
    assert_eq!(failure.metadata_value("cause"), "token_keys_unavailable");
    // A set of many keys, one of which has no ID.
    let mut key = signer.jwk();
    key.as_object_mut().unwrap().remove("kid");
    let padding =
        (0..400).map(|n| json!({"kty": "AKP", "kid": n.to_string(), "pub": "x".repeat(250)}));
    let set = json!({ "keys": padding.chain([key]).collect::<Vec<_>>() });
    *keys.lock().unwrap() = Reply::json(200, &set.to_string());
    let mut header = signer.header();
    remove_claim(&mut header, "kid");
    let token = signer.token_with(&header, &default_claims(ISSUER, "svc"));
    let client = client.with_token(&token);
    client
        .delete_batch_node_user(batch_request("alice"))
        .await
        .unwrap();
    // A key without an ID may have signed a token with one.
    let named =
        SecureClient::plain(app.address).with_token(&signer.token(&default_claims(ISSUER, "svc")));
    named
        .delete_batch_node_user(batch_request("alice"))
        .await
        .unwrap();
    // The key is replaced by another one without an ID, which only the signature can reveal.
    let next = Signer::es256("key-2");
    let mut key = next.jwk();
    remove_claim(&mut key, "kid");
    *keys.lock().unwrap() = Reply::json(200, &json!({ "keys": [key] }).to_string());
    let token = next.token_with(&header, &default_claims(ISSUER, "svc"));
    client
        .with_token(&token)
        .delete_batch_node_user(batch_request("alice"))
        .await
        .unwrap();
}

#[tokio::test]
async fn hung_issuer_delays_call_at_most_until_deadline() {
    let keys = Arc::new(Mutex::new(Reply::Hang));
    let (issuer, upstream, folder) = (issuer(&keys).await, upstream().await, App::folder());
    let text = configuration_with_jwks_url(&issuer, &upstream, &folder);
    let app = App::start_with_text(folder, &text).await;
    let client = SecureClient::plain(app.address);
    let signer = Signer::es256("key-1");
    let mut request = client
        .with_token(&signer.token(&default_claims(ISSUER, "svc")))
        .request(batch_request("alice"));
    request.set_timeout(Duration::from_millis(600));
    let mut client = useradmin::proto::user_admin_client::UserAdminClient::new(client.channel());
    let status = client.delete_batch_node_user(request).await.unwrap_err();
    // The deadline expires before the caller is authenticated.
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert!(upstream.received().is_empty());
}
