//! The IBM Z HMC Web Services API: sessions, the list of users, `GET` and `DELETE` of one user.
//!
//! This module routes requests and defines the order of the checks. Sessions, users, the name filter and the format of
//! responses are in submodules.

mod name_filter;
mod reply;
mod sessions;
mod users;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use http::Method;
use serde_json::json;

use self::name_filter::NameFilter;
use self::reply::ErrorReply;
use self::sessions::Sessions;
use self::users::Users;
use crate::credentials::Credentials;
use crate::net::{Counters, Incoming, increment};

const USER_TYPES: [&str; 4] = ["standard", "template", "pattern-based", "system-defined"];

/// State of the simulated HMC.
pub(super) struct Hmc {
    sessions: Sessions,
    users: Users,
    counters: Arc<Counters>,
}

/// The operation that the URI and the method of a request identify.
enum Operation {
    Version,
    Logon,
    Logoff,
    ListUsers,
    GetUser(String),
    DeleteUser(String),
}

pub(super) fn router(hmc: Arc<Hmc>) -> Router {
    Router::new().fallback(handle).with_state(hmc)
}

async fn handle(State(hmc): State<Arc<Hmc>>, request: Request) -> Response {
    increment(&hmc.counters.hmc_requests);
    let call = Incoming::read(request).await;
    let session = hmc.sessions.check(&call);
    let user = session.as_ref().ok().copied();
    match hmc.serve(&call, session) {
        Ok(response) => response,
        Err(error) => reply::error_response(&call, user, &error),
    }
}

impl Hmc {
    pub(super) fn new(credentials: &Credentials, counters: Arc<Counters>) -> Self {
        Self {
            sessions: Sessions::new(credentials),
            users: Users::default(),
            counters,
        }
    }

    pub(super) fn open_sessions(&self) -> usize {
        self.sessions.open()
    }

    pub(super) fn expire_sessions(&self) {
        self.sessions.expire_all();
    }

    /// Validates a request and executes it. The checks run in the order of the vendor's document: URI, method, headers,
    /// session, query, body.
    fn serve(
        &self,
        call: &Incoming,
        session: Result<&str, ErrorReply>,
    ) -> Result<Response, ErrorReply> {
        let operation = operation(call)?;
        self.count(&operation);
        check_headers(call)?;
        let user = match operation {
            Operation::Version | Operation::Logon => "",
            _ => session?,
        };
        if !matches!(operation, Operation::ListUsers) && !call.query.is_empty() {
            return Err(ErrorReply::new(
                400,
                1,
                "The request URI has a query parameter that the operation does not know.",
            ));
        }
        if !matches!(operation, Operation::Logon) && call.has_body() {
            return Err(ErrorReply::new(
                400,
                4,
                "The request has a body, but the operation allows none.",
            ));
        }
        self.perform(call, operation, user)
    }

    /// Executes the operation of a valid request. `user` is the owner of the session, or empty for operations without
    /// a session.
    fn perform(
        &self,
        call: &Incoming,
        operation: Operation,
        user: &str,
    ) -> Result<Response, ErrorReply> {
        match operation {
            Operation::Version => Ok(reply::document(&json!({
                "api-major-version": 4, "api-minor-version": 10, "hmc-name": "SANDBOX", "hmc-version": "2.16.0",
            }))),
            Operation::Logon => Ok(reply::document(&self.sessions.logon(call)?)),
            Operation::Logoff => {
                self.sessions.logoff(call);
                Ok(reply::no_content())
            }
            Operation::ListUsers => self.list(call),
            Operation::GetUser(id) => {
                let found = self.users.get(&id)?;
                Ok(reply::document(&found.document(
                    found.is_named(user) && self.sessions.is_disabled(),
                )))
            }
            Operation::DeleteUser(id) => self.users.delete(&id).map(|()| reply::no_content()),
        }
    }

    fn count(&self, operation: &Operation) {
        match operation {
            Operation::Logon => increment(&self.counters.hmc_logons),
            Operation::Logoff => increment(&self.counters.hmc_logoffs),
            Operation::DeleteUser(_) => increment(&self.counters.hmc_deletes),
            Operation::Version | Operation::ListUsers | Operation::GetUser(_) => {}
        }
    }

    fn list(&self, call: &Incoming) -> Result<Response, ErrorReply> {
        let bad_value = |name: &str| {
            ErrorReply::new(
                400,
                14,
                format!("The query parameter '{name}' has a bad value."),
            )
        };
        let pairs = call
            .query_pairs()
            .ok_or_else(|| ErrorReply::new(400, 14, "The query string is malformed."))?;
        let (mut names, mut types) = (Vec::new(), Vec::new());
        for (name, value) in pairs {
            match name.as_str() {
                "name" => names.push(NameFilter::parse(&value).ok_or_else(|| bad_value("name"))?),
                "type" if USER_TYPES.contains(&value.as_str()) => types.push(value),
                "type" => return Err(bad_value("type")),
                _ => {
                    return Err(ErrorReply::new(
                        400,
                        1,
                        format!("The query parameter '{name}' is not supported."),
                    ));
                }
            }
        }
        Ok(reply::document(&self.users.list(&names, &types)))
    }
}

fn operation(call: &Incoming) -> Result<Operation, ErrorReply> {
    let segments = call.segments().unwrap_or_default();
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let is = |method: Method| call.method == method;
    match segments.as_slice() {
        ["api", "version"] if is(Method::GET) => Ok(Operation::Version),
        ["api", "sessions"] if is(Method::POST) => Ok(Operation::Logon),
        ["api", "sessions", "this-session"] if is(Method::DELETE) => Ok(Operation::Logoff),
        ["api", "console", "users"] if is(Method::GET) => Ok(Operation::ListUsers),
        ["api", "users", id] if !id.is_empty() && is(Method::GET) => {
            Ok(Operation::GetUser((*id).to_owned()))
        }
        ["api", "users", id] if !id.is_empty() && is(Method::DELETE) => {
            Ok(Operation::DeleteUser((*id).to_owned()))
        }
        ["api", "version" | "sessions"]
        | ["api", "sessions", "this-session"]
        | ["api", "console", "users"] => Err(ErrorReply::new(
            405,
            1,
            "The HTTP method is not valid for the request URI.",
        )),
        ["api", "users", id] if !id.is_empty() => Err(ErrorReply::new(
            405,
            1,
            "The HTTP method is not valid for the request URI.",
        )),
        _ => Err(ErrorReply::new(
            404,
            1,
            "The request URI does not designate an existing resource.",
        )),
    }
}

fn check_headers(call: &Incoming) -> Result<(), ErrorReply> {
    if call.header("host").is_none_or(str::is_empty) {
        return Err(ErrorReply::new(400, 2, "The Host header is required."));
    }
    let Some(accept) = call.header("accept") else {
        return Ok(());
    };
    let kinds = accept
        .split(',')
        .map(|range| range.split(';').next().unwrap_or_default().trim());
    if kinds
        .into_iter()
        .any(|kind| matches!(kind, "*/*" | "application/*" | "application/json"))
    {
        return Ok(());
    }
    Err(ErrorReply::new(
        406,
        0,
        "The Accept header excludes application/json.",
    ))
}
