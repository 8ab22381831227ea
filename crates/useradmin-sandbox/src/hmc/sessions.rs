//! Logon, logoff and sessions of the Web Services API, with their limits, timeouts and lockout.
//!
//! Only the user of the sandbox's credentials can log on. Any other user ID is refused like a wrong password.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::reply::ErrorReply;
use crate::credentials::{Credentials, token};
use crate::net::{Incoming, lock};

/// Simulated value of the user property `max-web-services-api-sessions`: the maximum number of open sessions.
pub(super) const MAX_SESSIONS: usize = 100;
/// Simulated value of `max-failed-logins`: the number of consecutive failures after which the user is disabled.
pub(super) const MAX_FAILED_LOGINS: u32 = 3;
/// Simulated value of `disable-delay`: how long the user stays disabled, in minutes.
pub(super) const DISABLE_DELAY_MINUTES: u64 = 1;
/// Simulated value of `web-services-api-session-idle-timeout`, in minutes.
pub(super) const IDLE_MINUTES: u64 = 360;
/// Maximum lifetime of a session, in minutes.
const LIFETIME_MINUTES: u64 = 600;
/// Fields that the body of a logon request may contain.
const FIELDS: [&str; 3] = ["userid", "password", "new-password"];

/// The open sessions of the API user, and the state of its logons.
pub(super) struct Sessions {
    userid: String,
    state: Mutex<State>,
}

struct State {
    password: String,
    live: HashMap<String, Session>,
    logons: u32,
    failures: u32,
    disabled_until: Option<Instant>,
}

struct Session {
    created: Instant,
    last_used: Instant,
}

impl State {
    fn drop_dead_sessions(&mut self, now: Instant) {
        let age = |since: Instant| now.duration_since(since);
        self.live.retain(|_, session| {
            age(session.created) < minutes(LIFETIME_MINUTES)
                && age(session.last_used) < minutes(IDLE_MINUTES)
        });
    }

    fn is_disabled(&self, now: Instant) -> bool {
        self.disabled_until.is_some_and(|until| now < until)
    }

    fn authenticate(&mut self, password: &str, now: Instant) -> Result<(), ErrorReply> {
        if self.is_disabled(now) {
            return Err(logon_failed());
        }
        if password == self.password {
            self.failures = 0;
            return Ok(());
        }
        self.failures += 1;
        if self.failures >= MAX_FAILED_LOGINS {
            self.failures = 0;
            self.disabled_until = Some(now + minutes(DISABLE_DELAY_MINUTES));
        }
        Err(logon_failed())
    }
}

impl Sessions {
    pub(super) fn new(credentials: &Credentials) -> Self {
        let state = State {
            password: credentials.hmc_password.clone(),
            live: HashMap::new(),
            logons: 0,
            failures: 0,
            disabled_until: None,
        };
        Self {
            userid: credentials.hmc_userid.clone(),
            state: Mutex::new(state),
        }
    }

    pub(super) fn open(&self) -> usize {
        let mut state = lock(&self.state);
        state.drop_dead_sessions(Instant::now());
        state.live.len()
    }

    pub(super) fn expire_all(&self) {
        lock(&self.state).live.clear();
    }

    /// Returns whether the logon is blocked after too many wrong passwords.
    pub(super) fn is_disabled(&self) -> bool {
        lock(&self.state).is_disabled(Instant::now())
    }

    /// Returns the user that owns the session of the request, and resets the idle time of the session. Fails if the
    /// request has no valid session.
    pub(super) fn check(&self, call: &Incoming) -> Result<&str, ErrorReply> {
        let Some(id) = call.header("x-api-session").filter(|id| !id.is_empty()) else {
            return Err(ErrorReply::new(
                403,
                4,
                "No session id was provided (must login).",
            ));
        };
        let now = Instant::now();
        let mut state = lock(&self.state);
        state.drop_dead_sessions(now);
        let Some(session) = state.live.get_mut(id) else {
            return Err(ErrorReply::new(
                403,
                5,
                "The session id provided is not valid or has expired.",
            ));
        };
        session.last_used = now;
        Ok(&self.userid)
    }

    pub(super) fn logoff(&self, call: &Incoming) {
        if let Some(id) = call.header("x-api-session") {
            lock(&self.state).live.remove(id);
        }
    }

    pub(super) fn logon(&self, call: &Incoming) -> Result<Value, ErrorReply> {
        let fields = logon_fields(call)?;
        let userid = required(&fields, "userid")?;
        let password = required(&fields, "password")?;
        let now = Instant::now();
        let mut state = lock(&self.state);
        state.drop_dead_sessions(now);
        if !userid.eq_ignore_ascii_case(&self.userid) {
            return Err(logon_failed());
        }
        state.authenticate(password, now)?;
        if state.live.len() >= MAX_SESSIONS {
            return Err(ErrorReply::new(
                400,
                13,
                "The maximum number of API sessions for this user has been reached.",
            ));
        }
        if fields.contains_key("new-password") {
            required(&fields, "new-password")?.clone_into(&mut state.password);
        }
        state.logons += 1;
        let id = token(50);
        state.live.insert(
            id.clone(),
            Session {
                created: now,
                last_used: now,
            },
        );
        let topic = format!("{}.{}", self.userid, state.logons);
        Ok(json!({
            "api-session": id,
            "notification-topic": topic,
            "job-notification-topic": format!("{topic}job"),
            "api-major-version": 4,
            "api-minor-version": 10,
            "password-expires": 87,
            "session-credential": token(48),
        }))
    }
}

/// Returns the refusal of a logon. It does not reveal whether the user ID or the password was wrong, or whether the
/// user is disabled.
fn logon_failed() -> ErrorReply {
    ErrorReply::new(
        403,
        0,
        "The logon failed: the user ID or the password is not valid, or the user is disabled.",
    )
}

fn logon_fields(call: &Incoming) -> Result<Map<String, Value>, ErrorReply> {
    let Some(body) = call.body.as_ref() else {
        return Err(ErrorReply::new(413, 0, "The request body is too large."));
    };
    if body.is_empty() {
        return Err(ErrorReply::new(400, 3, "A request body is required."));
    }
    let Some(content_type) = call.header("content-type") else {
        return Err(ErrorReply::new(
            400,
            2,
            "The Content-Type header is required with a request body.",
        ));
    };
    let kind = content_type.split(';').next().unwrap_or_default().trim();
    if !kind.eq_ignore_ascii_case("application/json") {
        return Err(ErrorReply::new(
            415,
            0,
            "The Content-Type of the request is not supported.",
        ));
    }
    let Ok(value) = serde_json::from_slice::<Value>(body) else {
        return Err(ErrorReply::new(
            400,
            9,
            "The request body is not well-formed JSON.",
        ));
    };
    let Value::Object(fields) = value else {
        return Err(ErrorReply::new(
            400,
            7,
            "The request body is not a JSON object.",
        ));
    };
    match fields.keys().find(|name| !FIELDS.contains(&name.as_str())) {
        Some(name) => Err(ErrorReply::new(
            400,
            6,
            format!("The request body has the unrecognized field '{name}'."),
        )),
        None => Ok(fields),
    }
}

fn required<'a>(fields: &'a Map<String, Value>, name: &str) -> Result<&'a str, ErrorReply> {
    let value = fields
        .get(name)
        .ok_or_else(|| ErrorReply::new(400, 5, format!("The field '{name}' is required.")))?;
    value
        .as_str()
        .ok_or_else(|| ErrorReply::new(400, 7, format!("The field '{name}' is not a string.")))
}

fn minutes(count: u64) -> Duration {
    Duration::from_secs(count * 60)
}
