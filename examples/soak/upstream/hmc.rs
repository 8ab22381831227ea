//! An HMC with sessions and users.

use std::{
    collections::HashSet,
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use serde_json::{Value, json};
use uuid::Uuid;

use super::{Kind, Reply, Request, Service, Users};

/// The password that the HMC accepts.
pub const PASSWORD: &str = "password-of-the-soak";

/// A simulated HMC.
#[derive(Default)]
pub struct Hmc {
    sessions: Mutex<HashSet<String>>,
    logons: AtomicU32,
    pub users: Users,
}

impl Hmc {
    /// Expires all sessions.
    pub fn expire(&self) {
        self.sessions.lock().unwrap().clear();
    }

    /// Returns the number of successful logons.
    pub fn logons(&self) -> u32 {
        self.logons.load(Ordering::Relaxed)
    }

    fn logon(&self, request: &Request) -> Reply {
        let body: Value = serde_json::from_str(&request.body).unwrap_or_default();
        if body != json!({"userid": "svc-soak", "password": PASSWORD}) {
            return error_reply(403, 0);
        }
        let session = Uuid::new_v4().to_string();
        self.sessions.lock().unwrap().insert(session.clone());
        self.logons.fetch_add(1, Ordering::Relaxed);
        let document = json!({
            "api-session": session, "notification-topic": "soak.1", "api-major-version": 4,
            "api-minor-version": 10, "password-expires": -1,
        });
        Reply::json(200, &document.to_string())
    }

    /// Checks the session of a request. Returns the error response if it has no valid one.
    fn session(&self, request: &Request) -> Result<(), Reply> {
        let session = request.header("x-api-session");
        let session = session.ok_or_else(|| error_reply(403, 4))?;
        let is_valid = self.sessions.lock().unwrap().contains(session);
        is_valid.then_some(()).ok_or_else(|| error_reply(403, 5))
    }

    fn read_user(&self, request: &Request) -> Option<Reply> {
        let id = request.path().strip_prefix("/api/users/id-")?;
        let user = id.parse().ok().filter(|user| self.users.exists(*user))?;
        Some(Reply::json(200, &user_document(user).to_string()))
    }

    /// Returns the users that match the name filter. The names in the load contain only letters and digits, so the
    /// filter is equal to the name.
    fn list_users(&self, request: &Request) -> Option<Reply> {
        let name = request.query().strip_prefix("name=u")?;
        let user = name.parse().ok()?;
        let found = self.users.exists(user).then(|| user_document(user));
        let found: Vec<Value> = found.into_iter().collect();
        Some(Reply::json(200, &json!({"users": found}).to_string()))
    }

    fn delete(&self, request: &Request, carry_out: bool) -> Option<Reply> {
        let id = request.path().strip_prefix("/api/users/id-")?;
        let error_reply = self.session(request).err();
        let carry_out = carry_out && error_reply.is_none();
        let existed = self.users.delete(id.parse().ok()?, carry_out);
        let reply = || existed.then(|| Reply::empty(204));
        error_reply.or_else(reply)
    }
}

fn user_document(user: u32) -> Value {
    json!({
        "object-uri": format!("/api/users/id-{user}"), "object-id": format!("id-{user}"), "class": "user",
        "name": format!("u{user}"), "type": "standard",
    })
}

fn error_reply(status: u16, reason: u32) -> Reply {
    let document = json!({"http-status": status, "reason": reason, "message": "Words."});
    Reply::json(status, &document.to_string())
}

impl Service for Hmc {
    fn kind(&self, request: &Request) -> Kind {
        match (request.method.as_str(), request.path()) {
            ("POST", "/api/sessions") => Kind::Logon,
            ("DELETE", path) if path.starts_with("/api/users/") => Kind::Delete,
            _ => Kind::Other,
        }
    }

    fn handle(&self, request: &Request, carry_out: bool, _: i64) -> Reply {
        match (request.method.as_str(), request.path()) {
            ("POST", "/api/sessions") if carry_out => return self.logon(request),
            ("DELETE", path) if path.starts_with("/api/users/") => {
                let reply = self.delete(request, carry_out);
                return reply.unwrap_or_else(|| error_reply(404, 1));
            }
            _ => {}
        }
        if let Err(error_reply) = self.session(request) {
            return error_reply;
        }
        let reply = match (request.method.as_str(), request.path()) {
            ("DELETE", "/api/sessions/this-session") => {
                let session = request.header("x-api-session").unwrap_or_default();
                self.sessions.lock().unwrap().remove(session);
                Some(Reply::empty(204))
            }
            ("GET", "/api/console/users") => self.list_users(request),
            ("GET", _) => self.read_user(request),
            _ => None,
        };
        reply.unwrap_or_else(|| error_reply(404, 1))
    }

    fn conflict(&self) -> Reply {
        error_reply(409, 2)
    }
}
