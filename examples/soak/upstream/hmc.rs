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
            return refusal(403, 0);
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
        let session = session.ok_or_else(|| refusal(403, 4))?;
        let known = self.sessions.lock().unwrap().contains(session);
        known.then_some(()).ok_or_else(|| refusal(403, 5))
    }

    fn read(&self, request: &Request) -> Option<Reply> {
        let id = request.path().strip_prefix("/api/users/id-")?;
        let user = id.parse().ok().filter(|user| self.users.is_there(*user))?;
        Some(Reply::json(200, &description(user).to_string()))
    }

    /// Returns the users that match the name filter. The names in the load contain only letters and digits, so the
    /// filter is equal to the name.
    fn list(&self, request: &Request) -> Option<Reply> {
        let name = request.query().strip_prefix("name=u")?;
        let user = name.parse().ok()?;
        let found = self.users.is_there(user).then(|| description(user));
        let found: Vec<Value> = found.into_iter().collect();
        Some(Reply::json(200, &json!({"users": found}).to_string()))
    }

    fn delete(&self, request: &Request, write_to: bool) -> Option<Reply> {
        let id = request.path().strip_prefix("/api/users/id-")?;
        let refused = self.session(request).err();
        let write_to = write_to && refused.is_none();
        let was_there = self.users.delete(id.parse().ok()?, write_to);
        let handle = || was_there.then(|| Reply::empty(204));
        refused.or_else(handle)
    }
}

fn description(user: u32) -> Value {
    json!({
        "object-uri": format!("/api/users/id-{user}"), "object-id": format!("id-{user}"), "class": "user",
        "name": format!("u{user}"), "type": "standard",
    })
}

fn refusal(status: u16, reason: u32) -> Reply {
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

    fn handle(&self, request: &Request, write_to: bool, _: i64) -> Reply {
        match (request.method.as_str(), request.path()) {
            ("POST", "/api/sessions") if write_to => return self.logon(request),
            ("DELETE", path) if path.starts_with("/api/users/") => {
                let handle = self.delete(request, write_to);
                return handle.unwrap_or_else(|| refusal(404, 1));
            }
            _ => {}
        }
        if let Err(refusal) = self.session(request) {
            return refusal;
        }
        let handle = match (request.method.as_str(), request.path()) {
            ("DELETE", "/api/sessions/this-session") => {
                let session = request.header("x-api-session").unwrap_or_default();
                self.sessions.lock().unwrap().remove(session);
                Some(Reply::empty(204))
            }
            ("GET", "/api/console/users") => self.list(request),
            ("GET", _) => self.read(request),
            _ => None,
        };
        handle.unwrap_or_else(|| refusal(404, 1))
    }

    fn conflict(&self) -> Reply {
        refusal(409, 2)
    }
}
