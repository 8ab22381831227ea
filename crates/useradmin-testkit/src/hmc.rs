//! Responses of an HMC according to the documentation of the vendor, and a test environment of the server and a
//! scripted HMC.

use std::{
    collections::HashMap,
    fmt,
    time::{Duration, Instant},
};

use serde_json::{Map, Value, json};
use tonic::{Code, Request};
use useradmin::proto::DeleteHmcUserRequest;

use crate::{App, Failed, Reply, Seen, Upstream, canary::SESSION, hmc_section};

/// The operation that a request to an HMC performs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    Logon,
    Logoff,
    Read,
    List,
    Delete,
    /// Any other request.
    Other,
}

impl Step {
    pub fn of(request: &Seen) -> Self {
        match (request.method.as_str(), request.target.as_str()) {
            ("POST", "/api/sessions") => Self::Logon,
            ("DELETE", "/api/sessions/this-session") => Self::Logoff,
            ("GET", target) if target.starts_with("/api/users/") => Self::Read,
            ("GET", target) if target.starts_with("/api/console/users?") => Self::List,
            ("DELETE", target) if target.starts_with("/api/users/") => Self::Delete,
            _ => Self::Other,
        }
    }
}

/// One reply in a table.
#[derive(Clone, Debug)]
pub enum Say {
    /// The response of a healthy HMC.
    Usual,
    /// The standard error body with this status and reason.
    Hmc(u16, u32),
    /// An HTML page, as a proxy sends it.
    Html(u16),
    /// A response without a body.
    Empty(u16),
    /// A JSON body, and a description of it.
    Json(u16, &'static str, &'static str),
    /// The standard error body with reason 1, modified; and a description of the change.
    Bent(u16, &'static str, fn(Value) -> Value),
    /// The standard error body with `Retry-After`.
    Later(u16, u32, &'static str),
    /// A reply that is created from the request, and a description of it.
    Made(u16, &'static str, fn(&Seen) -> Reply),
    /// The connection is closed without a response.
    Reset,
    /// No response is sent.
    Hang,
}

impl Say {
    pub fn reply(&self, request: &Seen) -> Reply {
        match self {
            Self::Usual => usual(request, 1),
            Self::Hmc(status, reason) => refusal(request, *status, *reason),
            Self::Html(status) => Reply::html(*status),
            Self::Empty(status) => Reply::empty(*status),
            Self::Json(status, _, text) => Reply::json(*status, text),
            Self::Bent(status, _, bend) => {
                let document = bend(document(request, *status, 1));
                Reply::json(*status, &document.to_string())
            }
            Self::Later(status, reason, after) => {
                refusal(request, *status, *reason).with("Retry-After", after)
            }
            Self::Made(_, _, make) => make(request),
            Self::Reset => Reply::Close,
            Self::Hang => Reply::Hang,
        }
    }

    /// Returns the status code, and the reason if the body is an error document.
    pub fn told(&self) -> Option<(u16, Option<u32>)> {
        match self {
            Self::Usual | Self::Reset | Self::Hang => None,
            Self::Hmc(status, reason) | Self::Later(status, reason, _) => {
                Some((*status, Some(*reason)))
            }
            Self::Html(status)
            | Self::Empty(status)
            | Self::Json(status, ..)
            | Self::Bent(status, ..)
            | Self::Made(status, ..) => Some((*status, None)),
        }
    }
}

impl fmt::Display for Say {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hmc(status, reason) => write!(f, "{status}/{reason}"),
            Self::Html(status) => write!(f, "{status} HTML"),
            Self::Empty(status) => write!(f, "{status} empty"),
            Self::Json(status, what, _)
            | Self::Bent(status, what, _)
            | Self::Made(status, what, _) => write!(f, "{status} {what}"),
            Self::Later(status, reason, after) => {
                write!(f, "{status}/{reason} Retry-After: {after}")
            }
            Self::Usual | Self::Reset | Self::Hang => write!(f, "{self:?}"),
        }
    }
}

/// Returns the standard error body with all its fields. Like a real HMC, it echoes the request including its secrets.
fn document(request: &Seen, status: u16, reason: u32) -> Value {
    let headers = request.headers.iter();
    let headers: Map<String, Value> = headers
        .map(|(name, value)| (name.clone(), json!(value)))
        .collect();
    let body: Value = serde_json::from_str(&request.body).unwrap_or_default();
    json!({
        "http-status": status,
        "reason": reason,
        "message": format!("The words of the HMC for {status}/{reason}."),
        "request-method": request.method,
        "request-uri": request.target,
        "request-query-parms": [],
        "request-headers": headers,
        "request-authenticated-as": "svc-useradmin",
        "request-body": body,
        "request-body-as-string": null,
        "request-body-as-string-partial": null,
        "stack": "java.lang.IllegalStateException: 10.1.2.3",
        "error-details": {"secret": "error-details"},
    })
}

pub fn refusal(request: &Seen, status: u16, reason: u32) -> Reply {
    let document = document(request, status, reason);
    Reply::json(status, &document.to_string())
}

/// Returns the response of a healthy HMC with one user `alice` whose object ID is `id-1`. The nth logon creates session
/// n.
pub fn usual(request: &Seen, nth: usize) -> Reply {
    let user = json!({
        "object-uri": "/api/users/id-1", "object-id": "id-1", "parent": "/api/console", "class": "user",
        "name": "alice", "type": "standard", "disabled": false, "authentication-type": "local",
    });
    let document = match Step::of(request) {
        Step::Logon => json!({
            "api-session": format!("{SESSION}{nth}"), "notification-topic": "svc.1",
            "job-notification-topic": "svc.1job", "api-major-version": 4, "api-minor-version": 10,
            "password-expires": 87, "session-credential": format!("{SESSION}credential-1"),
        }),
        Step::Read if request.target == "/api/users/id-1" => user,
        Step::List => json!({
            "users": [{"object-uri": "/api/users/id-1", "name": "alice", "type": "standard"}],
        }),
        Step::Logoff | Step::Delete => return Reply::empty(204),
        Step::Read | Step::Other => return refusal(request, 404, 1),
    };
    Reply::json(200, &document.to_string())
}

/// The server and its only HMC, `hmc`.
pub struct Console {
    pub app: App,
    pub upstream: Upstream,
}

impl Console {
    pub async fn start(script: impl FnMut(&Seen) -> Reply + Send + 'static) -> Self {
        Self::with("", script).await
    }

    /// Starts a server with additional keys in `[hmcs.hmc]`.
    pub async fn with(keys: &str, script: impl FnMut(&Seen) -> Reply + Send + 'static) -> Self {
        let upstream = Upstream::start(script).await;
        let folder = App::folder();
        // These tests do not depend on durability, and syncing every record would slow them down.
        let section = hmc_section(&folder, &upstream.url);
        let sections = format!("[audit]\nsync = false\n{section}{keys}");
        let app = App::start_in(folder, &sections).await;
        Self { app, upstream }
    }

    /// Starts a server whose HMC sends the nth reply of a step to the nth request of that step, and repeats the last
    /// one.
    pub async fn saying(said: Vec<(Step, Vec<Say>)>) -> Self {
        let mut counts: HashMap<Step, usize> = HashMap::new();
        Self::start(move |request| {
            let step = Step::of(request);
            let nth = counts.entry(step).or_default();
            *nth += 1;
            match said.iter().find(|(of, _)| *of == step) {
                Some((_, says)) => match &says[(*nth).min(says.len()) - 1] {
                    Say::Usual => usual(request, *nth),
                    other => other.reply(request),
                },
                None => usual(request, *nth),
            }
        })
        .await
    }

    /// Returns the requests of one step in the order of their arrival.
    pub fn asked(&self, step: Step) -> Vec<Seen> {
        let mut seen = self.upstream.seen();
        seen.retain(|request| Step::of(request) == step);
        seen
    }

    pub fn count(&self, step: Step) -> usize {
        self.asked(step).len()
    }

    /// Makes a call and returns its failure. Panics if the call succeeds.
    pub async fn fail(&self, request: impl tonic::IntoRequest<DeleteHmcUserRequest>) -> Failed {
        let answer = self.app.client().delete_hmc_user(request).await;
        Failed::from(answer.unwrap_err())
    }

    /// Makes a call that must fail before its deadline. Retries, because a busy machine may be late occasionally.
    pub async fn fail_in_time(
        &self,
        request: DeleteHmcUserRequest,
        milliseconds: u64,
    ) -> (Failed, Duration) {
        for _ in 0..5 {
            let began = Instant::now();
            let timed = timed(request.clone(), milliseconds);
            let status = self.app.client().delete_hmc_user(timed).await.unwrap_err();
            let took = began.elapsed();
            // The client cancels the call itself at the deadline.
            if status.code() != Code::Cancelled && took < Duration::from_millis(milliseconds) {
                return (Failed::from(status), took);
            }
        }
        panic!("no answer before the deadline");
    }

    /// Asserts that no DELETE was sent and that the failure reports this.
    #[track_caller]
    pub fn expect_not_sent(&self, failed: &Failed) {
        assert_eq!(self.count(Step::Delete), 0, "{failed:?}");
        assert_eq!(
            (failed.meta("attempts"), failed.meta("outcome")),
            ("0", "not_sent")
        );
    }
}

/// Returns a request with a deadline.
pub fn timed(request: DeleteHmcUserRequest, milliseconds: u64) -> Request<DeleteHmcUserRequest> {
    let mut request = Request::new(request);
    request.set_timeout(Duration::from_millis(milliseconds));
    request
}
