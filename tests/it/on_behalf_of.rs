//! Accounts that are called under the identities of callers: the exchange of the caller's token, refused callers, and
//! that neither the token of a caller nor the identity of the service is ever sent to Azure Batch.

mod cache;
mod callers;
mod configuration;
mod exchange;
mod isolation;
mod refusals;
mod sandbox;

use std::{collections::BTreeMap, fs, path::Path};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use useradmin::proto::DeleteBatchNodeUserResponse;
use useradmin_testkit::{
    CallFailure, ReceivedRequest, Reply, Upstream, batch_deleted, batch_request,
    canary::CLIENT_SECRET, default_claims, now, write_secret,
};

use crate::callers::{ISSUER, SecureServer};

const ENDPOINT: &str = "/tenant-1/oauth2/v2.0/token";
/// The callers of every server: users, an application and a certificate.
const CALLERS: [&str; 5] = [
    "https://login.corp.example#alice",
    "https://login.corp.example#bob",
    "https://login.corp.example#carol",
    "https://login.corp.example#daemon",
    "spiffe://corp/offboarding",
];

type Form = BTreeMap<String, String>;

/// A request for an exchange, as the token endpoint receives it.
struct Exchange {
    /// Number of the request, counted from 1.
    number: usize,
    form: Form,
    /// Claims of the caller's token.
    claims: Value,
}

impl Exchange {
    fn subject(&self) -> &str {
        self.claims["sub"].as_str().unwrap()
    }
}

/// Returns the fields of a form.
fn form(request: &ReceivedRequest) -> Form {
    let fields = url::form_urlencoded::parse(request.body.as_bytes()).into_owned();
    let fields: Vec<_> = fields.collect();
    let form: Form = fields.iter().cloned().collect();
    assert_eq!(form.len(), fields.len(), "a field occurs twice");
    form
}

/// Checks a token request against the protocol (Microsoft identity platform, "OAuth 2.0 On-Behalf-Of flow", "First case"
/// and "Second case"), and returns the claims of the assertion. Returns the error of Microsoft Entra otherwise.
fn check_protocol(request: &ReceivedRequest) -> Result<Value, Reply> {
    let form = form(request);
    let field = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
    let refuse = |error, code| Err(refusal(400, error, code));
    if request.header("content-type") != Some("application/x-www-form-urlencoded") {
        return refuse("invalid_request", 900_144);
    }
    if field("grant_type") != "urn:ietf:params:oauth:grant-type:jwt-bearer" {
        return refuse("unsupported_grant_type", 70_003);
    }
    if field("requested_token_use") != "on_behalf_of" || field("scope").is_empty() {
        return refuse("invalid_request", 900_144);
    }
    let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
    let is_client = match form.get("client_secret") {
        Some(secret) => secret == CLIENT_SECRET && !form.contains_key("client_assertion"),
        None => field("client_assertion_type") == kind && !field("client_assertion").is_empty(),
    };
    if field("client_id") != "client-1" || !is_client {
        return refuse("invalid_client", 7_000_215);
    }
    let payload = field("assertion").split('.').nth(1).unwrap_or_default();
    let claims = BASE64_URL_SAFE_NO_PAD.decode(payload).unwrap_or_default();
    let claims: Value = serde_json::from_slice(&claims).unwrap_or_default();
    if claims["aud"] != "useradmin" {
        return refuse("invalid_grant", 500_131);
    }
    Ok(claims)
}

/// Returns an error of Microsoft Entra.
fn refusal(status: u16, error: &str, code: u32) -> Reply {
    refusal_with(status, error, code, &Value::Null)
}

/// Returns an error of Microsoft Entra with this value of `claims`.
fn refusal_with(status: u16, error: &str, code: u32, claims: &Value) -> Reply {
    let mut body = json!({
        "error": error, "error_description": format!("AADSTS{code}: no. Trace ID: 1"), "error_codes": [code],
    });
    if !claims.is_null() {
        body["claims"] = claims.clone();
    }
    Reply::json(status, &body.to_string())
}

/// Returns the token that a person gets with the exchange of this number.
fn issued(subject: &str, number: usize) -> String {
    format!("kanari-token-of-{subject}-{number}")
}

/// Returns the response with a token for the person.
fn issue(exchange: &Exchange) -> Reply {
    let token = issued(exchange.subject(), exchange.number);
    let body = json!({ "token_type": "Bearer", "expires_in": 3599, "access_token": token });
    Reply::json(200, &body.to_string())
}

/// Returns the section of the account `batch`, whose token endpoint is on the same upstream.
fn account(folder: &Path, url: &str) -> String {
    write_secret(&folder.join("client.secret"), CLIENT_SECRET);
    write_secret(&folder.join("batch.key"), "c2VjcmV0");
    fs::write(
        folder.join("federated.jwt"),
        "\u{feff}kanari-assertion-1\r\n",
    )
    .unwrap();
    format!(
        r#"
[batch_accounts.batch]
url = "{url}"
protected_users = ["root"]
[batch_accounts.batch.credential]
kind = "on_behalf_of"
tenant_id = "tenant-1"
client_id = "client-1"
secret_file = "client.secret"
authority = "{url}"
"#
    )
}

fn callers(identities: impl IntoIterator<Item = String>) -> String {
    let sections = identities.into_iter().map(|identity| {
        format!(
            "[[callers]]\nidentity = \"{identity}\"\n\
             allow = [{{ rpc = \"DeleteBatchNodeUser\", targets = [\"*\"] }}]\n"
        )
    });
    sections.collect()
}

/// Starts an upstream whose token endpoint and account respond in this way. The token endpoint itself refuses requests
/// that do not follow the protocol.
async fn upstream(
    exchange: impl Fn(&Exchange) -> Reply + Send + 'static,
    batch: impl Fn(&ReceivedRequest) -> Reply + Send + 'static,
) -> Upstream {
    let mut number = 0;
    Upstream::start(move |request| {
        if request.target != ENDPOINT {
            return batch(request);
        }
        number += 1;
        match check_protocol(request) {
            Ok(claims) => exchange(&Exchange {
                number,
                form: form(request),
                claims,
            }),
            Err(refusal) => refusal,
        }
    })
    .await
}

/// Starts a server with the account `batch`.
async fn start(
    exchange: impl Fn(&Exchange) -> Reply + Send + 'static,
    batch: impl Fn(&ReceivedRequest) -> Reply + Send + 'static,
) -> SecureServer {
    start_with(exchange, batch, |account| account).await
}

/// Starts a server like [`start`], with changed sections of the account.
async fn start_with(
    exchange: impl Fn(&Exchange) -> Reply + Send + 'static,
    batch: impl Fn(&ReceivedRequest) -> Reply + Send + 'static,
    change: impl FnOnce(String) -> String,
) -> SecureServer {
    let sections = |folder: &Path, url: &str| {
        change(account(folder, url)) + &callers(CALLERS.map(str::to_owned))
    };
    SecureServer::start(upstream(exchange, batch).await, sections, "").await
}

/// Returns the claims of the token of a user, for this service.
fn user_claims(subject: &str) -> Value {
    let mut claims = default_claims(ISSUER, subject);
    claims["scp"] = json!("access_as_user");
    claims["oid"] = json!(format!("object-of-{subject}"));
    claims
}

impl SecureServer {
    fn user_token(&self, subject: &str) -> String {
        self.signer.token(&user_claims(subject))
    }

    /// Deletes the user `jdoe` with this token and no certificate.
    async fn delete(&self, token: &str) -> Result<DeleteBatchNodeUserResponse, CallFailure> {
        self.delete_user(token, "jdoe").await
    }

    async fn delete_user(
        &self,
        token: &str,
        user: &str,
    ) -> Result<DeleteBatchNodeUserResponse, CallFailure> {
        let client = self.client(None).with_token(token);
        client.delete_batch_node_user(batch_request(user)).await
    }

    /// Returns the forms that the token endpoint has received.
    fn exchanges(&self) -> Vec<Form> {
        let requests = self.upstream.requests("POST", ENDPOINT);
        requests.iter().map(form).collect()
    }

    /// Returns the `Authorization` headers that the account has received.
    fn authorizations(&self) -> Vec<String> {
        let mut requests = self.upstream.received();
        requests.retain(|request| request.target != ENDPOINT);
        let value = |request: &ReceivedRequest| request.header("authorization").unwrap().to_owned();
        requests.iter().map(value).collect()
    }
}

/// Returns records of a deletion under the identity of a caller.
pub async fn audit_records() -> Vec<Value> {
    let mut server = start(issue, |_| batch_deleted()).await;
    let token = server.user_token("alice");
    server.delete(&token).await.unwrap();
    server.app.drain().await;
    server.app.audit()
}

/// Returns a token that has expired 30 seconds ago, which the server still accepts because clocks differ.
fn expired(server: &SecureServer, subject: &str) -> String {
    let mut claims = user_claims(subject);
    claims["exp"] = json!(now() - 30);
    server.signer.token(&claims)
}
