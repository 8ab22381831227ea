//! An Azure Batch account that authenticates requests with tokens or with its shared key.

use std::sync::Arc;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::json;
use sha2::Sha256;
use uuid::Uuid;

use super::{Kind, Reply, Request, Service, Upstream, Users, entra::Entra};

const ACCOUNT: &str = "render";

/// A Batch account.
pub struct Batch {
    /// The token endpoint. If it is `None`, requests must be signed with the shared key.
    tokens: Option<Arc<Upstream<Entra>>>,
    pub users: Users,
}

impl Batch {
    pub fn new(tokens: Option<Arc<Upstream<Entra>>>) -> Self {
        Self {
            tokens,
            users: Users::default(),
        }
    }

    /// Returns the shared key of the account, encoded in base64.
    pub fn key() -> String {
        BASE64_STANDARD.encode("key of the soak")
    }

    fn authorizes(&self, request: &Request) -> bool {
        let header = request.header("authorization").unwrap_or_default();
        match &self.tokens {
            Some(tokens) => header
                .strip_prefix("Bearer ")
                .is_some_and(|token| tokens.accepts(token)),
            None => signature(request)
                .is_some_and(|signature| header == format!("SharedKey {ACCOUNT}:{signature}")),
        }
    }
}

/// Returns the expected signature of a request without a body.
fn signature(request: &Request) -> Option<String> {
    let date = request.header("ocp-date")?;
    let mut text = format!("{}{}ocp-date:{date}\n", request.method, "\n".repeat(12));
    text.extend(["/", ACCOUNT, request.path()]);
    let pairs = url::form_urlencoded::parse(request.query().as_bytes());
    let mut pairs: Vec<_> = pairs.collect();
    pairs.sort();
    for (name, value) in pairs {
        text.extend(["\n", &name, ":", &value]);
    }
    let mut mac = Hmac::<Sha256>::new_from_slice(b"key of the soak").ok()?;
    mac.update(text.as_bytes());
    Some(BASE64_STANDARD.encode(mac.finalize().into_bytes()))
}

fn error_reply(status: u16, code: &str) -> Reply {
    let document = json!({"code": code, "message": {"lang": "en-US", "value": "Words."}});
    Reply::json(status, &document.to_string())
}

fn requested_user(request: &Request) -> Option<u32> {
    let name = request
        .path()
        .strip_prefix("/pools/pool-1/nodes/node-1/users/u")?;
    name.parse().ok()
}

impl Service for Batch {
    fn kind(&self, _: &Request) -> Kind {
        Kind::Delete
    }

    fn handle(&self, request: &Request, carry_out: bool, _: i64) -> Reply {
        let Some(requested_user) = requested_user(request).filter(|_| request.method == "DELETE")
        else {
            return error_reply(400, "InvalidUri");
        };
        let authorized = self.authorizes(request);
        let existed = self.users.delete(requested_user, authorized && carry_out);
        let reply = match (authorized, existed) {
            (false, _) => error_reply(401, "AuthenticationFailed"),
            (true, false) => error_reply(404, "NodeUserNotFound"),
            (true, true) => Reply::empty(200),
        };
        let echo = request.header("client-request-id").unwrap_or_default();
        reply
            .with_header("request-id", &Uuid::new_v4().to_string())
            .with_header("client-request-id", echo)
    }
}
