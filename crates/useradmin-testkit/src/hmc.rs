//! Responses of an HMC according to the vendor's documentation, and a test environment with a server and a scripted
//! HMC.

use std::{
    collections::HashMap,
    fmt,
    time::{Duration, Instant},
};

use serde_json::{Map, Value, json};
use tonic::{Code, Request};
use useradmin::proto::DeleteHmcUserRequest;

use crate::{App, CallFailure, ReceivedRequest, Reply, Upstream, canary::SESSION, hmc_section};

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
    pub fn of(request: &ReceivedRequest) -> Self {
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

/// A scripted reply of an HMC, for tables of test cases.
#[derive(Clone, Debug)]
pub enum ScriptedReply {
    /// The response of a healthy HMC.
    Default,
    /// The standard error body with this status and reason.
    Hmc(u16, u32),
    /// An HTML page, as a proxy sends it.
    Html(u16),
    /// A response without a body.
    Empty(u16),
    /// A description of the case, and a JSON body.
    Json(u16, &'static str, &'static str),
    /// A description of the change, and the function that changes the standard error body with reason 1.
    Modified(u16, &'static str, fn(Value) -> Value),
    /// The standard error body with `Retry-After`.
    RetryAfter(u16, u32, &'static str),
    /// A description of the reply, and the function that creates it from the request.
    Custom(u16, &'static str, fn(&ReceivedRequest) -> Reply),
    /// The connection is closed without a response.
    Reset,
    /// No response is sent.
    Hang,
}

impl ScriptedReply {
    pub fn reply(&self, request: &ReceivedRequest) -> Reply {
        match self {
            Self::Default => default_reply(request, 1),
            Self::Hmc(status, reason) => error_reply(request, *status, *reason),
            Self::Html(status) => Reply::html(*status),
            Self::Empty(status) => Reply::empty(*status),
            Self::Json(status, _, text) => Reply::json(*status, text),
            Self::Modified(status, _, modify) => {
                let document = modify(document(request, *status, 1));
                Reply::json(*status, &document.to_string())
            }
            Self::RetryAfter(status, reason, after) => {
                error_reply(request, *status, *reason).with_header("Retry-After", after)
            }
            Self::Custom(_, _, make) => make(request),
            Self::Reset => Reply::Close,
            Self::Hang => Reply::Hang,
        }
    }

    /// Returns the status code, and the reason if the body is an error document. Returns `None` for a default reply
    /// and without a response.
    pub fn status_and_reason(&self) -> Option<(u16, Option<u32>)> {
        match self {
            Self::Default | Self::Reset | Self::Hang => None,
            Self::Hmc(status, reason) | Self::RetryAfter(status, reason, _) => {
                Some((*status, Some(*reason)))
            }
            Self::Html(status)
            | Self::Empty(status)
            | Self::Json(status, ..)
            | Self::Modified(status, ..)
            | Self::Custom(status, ..) => Some((*status, None)),
        }
    }
}

impl fmt::Display for ScriptedReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hmc(status, reason) => write!(f, "{status}/{reason}"),
            Self::Html(status) => write!(f, "{status} HTML"),
            Self::Empty(status) => write!(f, "{status} empty"),
            Self::Json(status, case, _)
            | Self::Modified(status, case, _)
            | Self::Custom(status, case, _) => write!(f, "{status} {case}"),
            Self::RetryAfter(status, reason, after) => {
                write!(f, "{status}/{reason} Retry-After: {after}")
            }
            Self::Default | Self::Reset | Self::Hang => write!(f, "{self:?}"),
        }
    }
}

/// Returns the standard error body with all its fields. Like a real HMC, it echoes the request, including its
/// secrets.
fn document(request: &ReceivedRequest, status: u16, reason: u32) -> Value {
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

pub fn error_reply(request: &ReceivedRequest, status: u16, reason: u32) -> Reply {
    let document = document(request, status, reason);
    Reply::json(status, &document.to_string())
}

/// Returns the response of a healthy HMC with one user `alice` whose object ID is `id-1`. The nth logon creates session
/// n.
pub fn default_reply(request: &ReceivedRequest, nth: usize) -> Reply {
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
        Step::Read | Step::Other => return error_reply(request, 404, 1),
    };
    Reply::json(200, &document.to_string())
}

/// The server and its only HMC, `hmc`.
pub struct HmcSetup {
    pub app: App,
    pub upstream: Upstream,
}

impl HmcSetup {
    pub async fn start(script: impl FnMut(&ReceivedRequest) -> Reply + Send + 'static) -> Self {
        Self::with("", script).await
    }

    /// Starts a server with additional keys in `[hmcs.hmc]`.
    pub async fn with(
        keys: &str,
        script: impl FnMut(&ReceivedRequest) -> Reply + Send + 'static,
    ) -> Self {
        let upstream = Upstream::start(script).await;
        let folder = App::folder();
        // These tests do not depend on durability, and syncing every record would slow them down.
        let section = hmc_section(&folder, &upstream.url);
        let sections = format!("[audit]\nsync = false\n{section}{keys}");
        let app = App::start_in(folder, &sections).await;
        Self { app, upstream }
    }

    /// Starts a server whose HMC sends the nth reply in the list of a step to the nth request of that step, and then
    /// repeats the last reply. Other steps receive the default reply.
    pub async fn with_replies(replies: Vec<(Step, Vec<ScriptedReply>)>) -> Self {
        let mut counts: HashMap<Step, usize> = HashMap::new();
        Self::start(move |request| {
            let step = Step::of(request);
            let nth = counts.entry(step).or_default();
            *nth += 1;
            match replies.iter().find(|(of, _)| *of == step) {
                Some((_, replies)) => match &replies[(*nth).min(replies.len()) - 1] {
                    ScriptedReply::Default => default_reply(request, *nth),
                    other => other.reply(request),
                },
                None => default_reply(request, *nth),
            }
        })
        .await
    }

    /// Returns the requests of one step in the order of their arrival.
    pub fn requests_of(&self, step: Step) -> Vec<ReceivedRequest> {
        let mut requests = self.upstream.received();
        requests.retain(|request| Step::of(request) == step);
        requests
    }

    pub fn count(&self, step: Step) -> usize {
        self.requests_of(step).len()
    }

    /// Makes a call and returns its failure. Panics if the call succeeds.
    pub async fn fail(
        &self,
        request: impl tonic::IntoRequest<DeleteHmcUserRequest>,
    ) -> CallFailure {
        let response = self.app.client().delete_hmc_user(request).await;
        CallFailure::from(response.unwrap_err())
    }

    /// Makes a call that must fail before its deadline, and returns the failure and the duration of the call. Repeats
    /// the call up to five times, because a busy machine may be late occasionally.
    pub async fn fail_in_time(
        &self,
        request: DeleteHmcUserRequest,
        milliseconds: u64,
    ) -> (CallFailure, Duration) {
        for _ in 0..5 {
            let started = Instant::now();
            let request_with_timeout = with_timeout(request.clone(), milliseconds);
            let status = self
                .app
                .client()
                .delete_hmc_user(request_with_timeout)
                .await
                .unwrap_err();
            let elapsed = started.elapsed();
            // The client cancels the call itself at the deadline.
            if status.code() != Code::Cancelled && elapsed < Duration::from_millis(milliseconds) {
                return (CallFailure::from(status), elapsed);
            }
        }
        panic!("no response before the deadline");
    }

    /// Asserts that no DELETE was sent and that the failure reports this.
    #[track_caller]
    pub fn assert_not_sent(&self, failed: &CallFailure) {
        assert_eq!(self.count(Step::Delete), 0, "{failed:?}");
        assert_eq!(
            (
                failed.metadata_value("attempts"),
                failed.metadata_value("outcome")
            ),
            ("0", "not_sent")
        );
    }
}

/// Returns a request with a deadline.
pub fn with_timeout(
    request: DeleteHmcUserRequest,
    milliseconds: u64,
) -> Request<DeleteHmcUserRequest> {
    let mut request = Request::new(request);
    request.set_timeout(Duration::from_millis(milliseconds));
    request
}
