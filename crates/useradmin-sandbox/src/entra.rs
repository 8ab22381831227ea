//! The Microsoft Entra token endpoint, `POST /{tenant}/oauth2/v2.0/token`, with the grants of client credentials and
//! on-behalf-of.
//!
//! The module also stores the tokens that it issued, because the simulated Batch service validates them. Otherwise it
//! does not depend on Batch.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use http::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use super::credentials::{Credentials, text};
use super::net::{Counters, Incoming, form_pairs, increment, lock, now, response, set};
use super::on_behalf_of::{self, OAuthError};

/// The scope that both grants support. It contains a double slash, because the accepted audience ends with a slash.
const SCOPE: &str = "https://batch.core.windows.net//.default";
/// Lifetime of an access token.
const LIFETIME: Duration = Duration::from_secs(3_599);

/// The issued access tokens and their expiry times.
#[derive(Default)]
pub(super) struct Tokens(Mutex<HashMap<String, SystemTime>>);

impl Tokens {
    /// Returns the expiry time of a token, which may be in the past, or `None` if the token is unknown.
    pub(super) fn expiry(&self, token: &str) -> Option<SystemTime> {
        lock(&self.0).get(token).copied()
    }

    pub(super) fn expire_all(&self) {
        let now = SystemTime::now();
        lock(&self.0).values_mut().for_each(|expiry| *expiry = now);
    }

    fn issue(&self) -> String {
        let now = SystemTime::now();
        let token = format!("{}.{}.{}", text::<2>(), text::<6>(), text::<4>());
        let mut tokens = lock(&self.0);
        tokens.retain(|_, expiry| *expiry + LIFETIME > now);
        tokens.insert(token.clone(), now + LIFETIME);
        token
    }
}

/// State of the simulated token endpoint.
pub(super) struct Entra {
    pub(super) credentials: Arc<Credentials>,
    pub(super) tokens: Arc<Tokens>,
    pub(super) counters: Arc<Counters>,
}

pub(super) fn router(entra: Arc<Entra>) -> Router {
    Router::new().fallback(handle).with_state(entra)
}

async fn handle(State(entra): State<Arc<Entra>>, request: Request) -> Response {
    increment(&entra.counters.token_requests);
    let call = Incoming::read(request).await;
    let segments = call.segments().unwrap_or_default();
    let parts: Vec<&str> = segments.iter().map(String::as_str).collect();
    let [tenant, "oauth2", "v2.0", "token"] = parts.as_slice() else {
        return response(404, "");
    };
    let mut reply = match entra.token(&call, tenant) {
        Ok(body) => response(200, body.to_string()),
        Err(error) => error_response(&call, &error),
    };
    set(
        &mut reply,
        "content-type",
        "application/json; charset=utf-8",
    );
    set(&mut reply, "cache-control", "no-store, no-cache");
    set(&mut reply, "pragma", "no-cache");
    set(&mut reply, "expires", "-1");
    set(&mut reply, "x-content-type-options", "nosniff");
    set(&mut reply, "x-ms-request-id", &Uuid::new_v4().to_string());
    reply
}

impl Entra {
    /// Validates a token request and issues a token. The checks run in the order of the real endpoint: parameters,
    /// tenant, application, scope, secret, assertion.
    fn token(&self, call: &Incoming, tenant: &str) -> Result<Value, OAuthError> {
        if call.method != Method::POST {
            let text = format!(
                "The endpoint only accepts POST, OPTIONS requests. Received a {} request.",
                call.method
            );
            return Err((400, "invalid_request", 900_561, text));
        }
        let form = form_of(call);
        let grant = required(&form, "grant_type")?;
        let is_on_behalf_of = grant == on_behalf_of::GRANT_TYPE;
        if !is_on_behalf_of && grant != "client_credentials" {
            let text = format!("The app requested an unsupported grant type '{grant}'.");
            return Err((400, "unsupported_grant_type", 70_003, text));
        }
        let client = required(&form, "client_id")?;
        let scope = required(&form, "scope")?;
        self.check_names(tenant, client)?;
        if !is_on_behalf_of || scope != on_behalf_of::SCOPE {
            check_scope(scope, tenant)?;
        }
        self.check_secret(&form, client)?;
        if is_on_behalf_of {
            on_behalf_of::check(
                required(&form, "requested_token_use")?,
                required(&form, "assertion")?,
            )?;
        }
        let seconds = LIFETIME.as_secs();
        let token = self.tokens.issue();
        Ok(
            json!({"token_type": "Bearer", "expires_in": seconds, "ext_expires_in": seconds, "access_token": token}),
        )
    }

    fn check_names(&self, tenant: &str, client: &str) -> Result<(), OAuthError> {
        if !tenant.eq_ignore_ascii_case(&self.credentials.tenant_id) {
            let text = format!(
                "Tenant '{tenant}' not found. Check to make sure you have the correct tenant ID and are signing into \
                 the correct cloud. Check with your subscription administrator, this may happen if there are no \
                 active subscriptions for the tenant."
            );
            return Err((400, "invalid_request", 90_002, text));
        }
        if !client.eq_ignore_ascii_case(&self.credentials.client_id) {
            let text = format!(
                "Application with identifier '{client}' was not found in the directory '{tenant}'. This can happen if \
                 the application has not been installed by the administrator of the tenant or consented to by any \
                 user in the tenant. You may have sent your authentication request to the wrong tenant."
            );
            return Err((400, "unauthorized_client", 700_016, text));
        }
        Ok(())
    }

    fn check_secret(&self, form: &HashMap<String, String>, client: &str) -> Result<(), OAuthError> {
        let Some(secret) = form
            .get("client_secret")
            .filter(|secret| !secret.is_empty())
        else {
            let text = "'client_assertion', 'client_secret' or 'request' is required for the 'client_credentials' \
                        grant type.";
            return Err((401, "invalid_client", 7_000_216, text.to_owned()));
        };
        if *secret == self.credentials.client_secret {
            return Ok(());
        }
        let text = format!(
            "Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, \
             not the client secret ID, for a secret added to app '{client}'."
        );
        Err((401, "invalid_client", 7_000_215, text))
    }
}

fn check_scope(scope: &str, tenant: &str) -> Result<(), OAuthError> {
    if scope == SCOPE {
        return Ok(());
    }
    let Some(resource) = scope.strip_suffix("/.default") else {
        let text = format!(
            "The provided value for scope {scope} is not valid. Client credential flows must have a scope value with \
             /.default suffixed to the resource identifier (application ID URI)."
        );
        return Err((400, "invalid_scope", 1_002_012, text));
    };
    let text = format!(
        "The resource principal named {resource} was not found in the tenant named {tenant}. This can happen if the \
         application has not been installed by the administrator of the tenant or consented to by any user in the \
         tenant. You might have sent your authentication request to the wrong tenant."
    );
    Err((400, "invalid_resource", 500_011, text))
}

/// Returns the fields of the form. If the body is not a form, returns no fields, so that the required parameters are
/// reported as missing.
fn form_of(call: &Incoming) -> HashMap<String, String> {
    let content_type = call
        .header("content-type")
        .unwrap_or_default()
        .to_ascii_lowercase();
    let is_form = content_type
        .split(';')
        .next()
        .is_some_and(|t| t.trim() == "application/x-www-form-urlencoded");
    let body = call
        .body
        .as_deref()
        .filter(|_| is_form)
        .and_then(|body| std::str::from_utf8(body).ok());
    body.and_then(form_pairs)
        .unwrap_or_default()
        .into_iter()
        .collect()
}

fn required<'a>(form: &'a HashMap<String, String>, name: &str) -> Result<&'a str, OAuthError> {
    form.get(name)
        .map(String::as_str)
        .filter(|value| !value.is_empty())
        .ok_or_else(|| {
            let text = format!("The request body must contain the following parameter: '{name}'.");
            (400, "invalid_request", 900_144, text)
        })
}

fn error_response(call: &Incoming, (status, error, number, text): &OAuthError) -> Response {
    let trace = Uuid::new_v4().to_string();
    let correlation = call
        .header("client-request-id")
        .map_or_else(|| Uuid::new_v4().to_string(), str::to_owned);
    let timestamp = now().replace('T', " ");
    let body = json!({
        "error": error,
        "error_description": format!(
            "AADSTS{number}: {text} Trace ID: {trace} Correlation ID: {correlation} Timestamp: {timestamp}"
        ),
        "error_codes": [number],
        "timestamp": timestamp,
        "trace_id": trace,
        "correlation_id": correlation,
        "error_uri": format!("https://login.microsoftonline.com/error?code={number}"),
    });
    response(*status, body.to_string())
}
