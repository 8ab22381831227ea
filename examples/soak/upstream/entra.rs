//! The token endpoint, which issues short-lived tokens and can revoke them.

use std::{
    collections::HashMap,
    sync::Mutex,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use serde_json::json;
use uuid::Uuid;

use super::{Kind, Reply, Request, Service};

/// The client secret that the endpoint accepts.
pub const SECRET: &str = "secret-of-the-soak";
/// Additional time for which an expired token is accepted, because it may expire while a request is sent.
const LEEWAY: Duration = Duration::from_secs(2);

/// The token endpoint with the tokens that it issued and their expiry times.
pub struct Entra {
    lifetime: Duration,
    tokens: Mutex<HashMap<String, Instant>>,
}

impl Entra {
    /// Creates a token endpoint whose tokens expire after `life`.
    pub fn new(lifetime: Duration) -> Self {
        Self {
            lifetime,
            tokens: Mutex::default(),
        }
    }

    pub fn accepts(&self, token: &str) -> bool {
        let tokens = self.tokens.lock().unwrap();
        let expiry = tokens.get(token);
        expiry.is_some_and(|expiry| Instant::now() < *expiry + LEEWAY)
    }

    /// Revokes all tokens.
    pub fn revoke(&self) {
        self.tokens.lock().unwrap().clear();
    }

    fn token(&self, clock_offset: i64) -> Reply {
        let token = Uuid::new_v4().to_string();
        let mut tokens = self.tokens.lock().unwrap();
        tokens.insert(token.clone(), Instant::now() + self.lifetime);
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let now = since.as_secs().checked_add_signed(clock_offset).unwrap();
        let lifetime = self.lifetime.as_secs();
        let document = json!({
            "token_type": "Bearer", "expires_in": lifetime, "ext_expires_in": lifetime,
            "not_before": now.to_string(), "expires_on": (now + lifetime).to_string(), "access_token": token,
        });
        Reply::json(200, &document.to_string())
    }
}

impl Service for Entra {
    fn kind(&self, _: &Request) -> Kind {
        Kind::Logon
    }

    fn handle(&self, request: &Request, carry_out: bool, clock_offset: i64) -> Reply {
        if !carry_out {
            return Reply::empty(500);
        }
        if request.path() != "/tenant/oauth2/v2.0/token" {
            return Reply::empty(404);
        }
        let pairs = url::form_urlencoded::parse(request.body.as_bytes());
        let form: HashMap<_, _> = pairs.collect();
        let has = |key: &str, value: &str| form.get(key).is_some_and(|found| found == value);
        let valid = has("grant_type", "client_credentials")
            && has("client_id", "client")
            && has("client_secret", SECRET);
        if valid {
            return self.token(clock_offset);
        }
        Reply::json(
            401,
            &json!({"error": "invalid_client", "error_description": "AADSTS7000215"}).to_string(),
        )
    }
}
