//! The requests to an HMC: find a user, delete the user, and read the user again.

use std::sync::Arc;

use http::{HeaderName, HeaderValue, StatusCode};

use super::{
    account::Account,
    classify::{error_facts, not_understood},
    credential::{SESSION, Session, SessionSource, X_API_SESSION},
    names::{NAMES, UserRef, same_name},
    rules::{LOGON_RULES, RULES},
    session_watch::{SessionWatch, is_doubtful},
    wire::{self, HmcUser, UserKind},
};
use crate::{
    caller_token::CallerToken,
    config::Hmc,
    error::{Failure, resource::ResourceNames, rule::Rule},
    metrics::CredentialState,
    proto::ErrorReason as R,
    upstream::{
        call_limits::CallLimits,
        classify::{self, ErrorFacts},
        client::{Alpn, HTTP_1, Request},
        credential_cache::{CredentialCache, Lease},
        instrument::Operation,
        path,
        platform::{
            Call, Order, OutgoingRequest, Platform, Purpose, ReceivedResponse, TargetInputs,
        },
        retry_budget::RetryBudget,
    },
};

const X_AUDIT_ID: HeaderName = HeaderName::from_static("x-audit-id");
/// Number of characters of the `X-Audit-Id` header that the HMC uses.
const MAX_AUDIT_ID: usize = 64;

const DELETE_USER: Operation = Operation::new("delete_user", "/api/users/{user-id}");
const READ_USER: Operation = Operation::new("read_user", "/api/users/{user-id}");
const LIST_USERS: Operation = Operation::new("list_users", "/api/console/users");

pub struct IbmHmc {
    sessions: CredentialCache<Session, SessionSource>,
    watch: SessionWatch,
}

impl Platform for IbmHmc {
    const NAMES: &'static ResourceNames = &NAMES;
    const RULES: &'static [Rule] = RULES;
    const OTHER_RULES: &'static [(&'static str, &'static [Rule])] = &[("logon", LOGON_RULES)];
    const ALPN: Alpn = HTTP_1;
    const READS_USER: bool = true;
    /// The HMC issues the sessions, by a logon request.
    const ISSUES_CREDENTIALS: bool = true;

    type Settings = Hmc;
    type User = UserRef;
    type UserFacts = HmcUser;
    type Credential = Arc<Lease<Session>>;

    fn new(target: TargetInputs<'_, Self>) -> Result<Self, String> {
        let config = target.config;
        let others = target.others.into_iter();
        let accounts: Vec<_> = others.map(|other| &other.sessions.source.account).collect();
        let account = Account::for_target(config, &accounts, target.audit, target.database);
        let (settings, metrics) = (config.own.clone(), target.requests.clone());
        let source = SessionSource::new(settings, target.client, account, metrics);
        Ok(Self {
            sessions: CredentialCache::new(source),
            watch: SessionWatch::default(),
        })
    }

    fn facts_from_request(user: &UserRef) -> HmcUser {
        let (id, name) = match user {
            UserRef::Id(id) => (id.clone(), String::new()),
            UserRef::Name(name) => (String::new(), name.clone()),
        };
        HmcUser {
            id,
            name,
            ..HmcUser::default()
        }
    }

    /// The user is always read, because the response and the audit record state both ID and name.
    fn reads_first(_order: &Order<UserRef>) -> bool {
        true
    }

    fn read(&self, call: &Call<'_, Self>) -> Result<OutgoingRequest, Failure> {
        match &call.order.user {
            UserRef::Id(id) => {
                OutgoingRequest::new(&READ_USER, &["api", "users", id], "", StatusCode::OK)
            }
            UserRef::Name(name) => {
                let query = format!("name={}", path::encode(&wire::name_filter(name)));
                let segments = ["api", "console", "users"];
                OutgoingRequest::new(&LIST_USERS, &segments, &query, StatusCode::OK)
            }
        }
    }

    fn parse_facts(&self, received: &ReceivedResponse<'_, Self>) -> Result<HmcUser, Failure> {
        let (response, session) = (received.response, received.credential.value.text());
        let known = received.found;
        let found = if received.operation.name == LIST_USERS.name {
            wire::users(response, session).map(|list| named(list, &known.name))
        } else {
            let user = wire::user(response, &known.id, session);
            user.and_then(|user| known.with_details(user)).map(Ok)
        };
        found.unwrap_or_else(|| Err(not_understood(response)))
    }

    fn lacks_details(found: &HmcUser) -> bool {
        found.details.is_none()
    }

    fn read_details(&self, call: &Call<'_, Self>) -> Result<OutgoingRequest, Failure> {
        let segments = ["api", "users", &call.found.id];
        OutgoingRequest::new(&READ_USER, &segments, "", StatusCode::OK)
    }

    fn name<'a>(_order: &'a Order<UserRef>, found: &'a HmcUser) -> &'a str {
        &found.name
    }

    fn identifiers(found: &HmcUser) -> Vec<(&'static str, String)> {
        let pairs = [("user_id", &found.id), ("user_name", &found.name)];
        let known = pairs.into_iter().filter(|(_, value)| !value.is_empty());
        known.map(|(key, value)| (key, value.clone())).collect()
    }

    fn is_own_user(&self, name: &str) -> bool {
        let userid = &self.sessions.source.settings.userid;
        same_name(userid, name) || userid.to_lowercase() == name.to_lowercase()
    }

    /// Fails for pattern-based users. The HMC reports other obstacles only in its response to the deletion.
    fn validate(found: &HmcUser) -> Result<(), Failure> {
        if found.kind == Some(UserKind::PatternBased) {
            return Err(Failure::new(R::PatternBasedUser, "the user's type"));
        }
        Ok(())
    }

    fn delete(&self, call: &Call<'_, Self>) -> Result<OutgoingRequest, Failure> {
        let segments = ["api", "users", &call.found.id];
        OutgoingRequest::new(&DELETE_USER, &segments, "", StatusCode::NO_CONTENT)
    }

    fn error_facts(received: &ReceivedResponse<'_, Self>) -> ErrorFacts {
        let mut facts = error_facts(received.response, &received.secrets);
        // "Delete User", HTTP status and reason codes.
        let is_delete = received.operation.name == DELETE_USER.name;
        let (status, code) = (received.response.status, facts.code.as_deref());
        if is_delete && status == 403 && code == Some("1") {
            facts.missing_task = received.found.kind.and_then(UserKind::required_task);
        }
        facts
    }

    fn classify(received: &ReceivedResponse<'_, Self>) -> Failure {
        let facts = Self::error_facts(received);
        let failure = classify::failure(&NAMES, RULES, received.response, facts);
        // A 404 for the list of users does not mean that the user is missing.
        if received.operation.name == LIST_USERS.name && failure.reason == R::UserNotFound {
            let reason = R::UpstreamResourceNotFound;
            return Failure { reason, ..failure };
        }
        failure
    }

    async fn credential(
        &self,
        _caller: Option<&Arc<CallerToken>>,
        limits: &CallLimits,
    ) -> Result<Self::Credential, Failure> {
        self.sessions.get(limits).await
    }

    fn add_headers(
        &self,
        request: &mut Request,
        session: &Self::Credential,
        order: &Order<UserRef>,
    ) -> Result<(), Failure> {
        let headers = request.headers_mut();
        headers.insert(X_API_SESSION, session.value.header());
        headers.insert(X_AUDIT_ID, audit_id(&order.request_id, &order.caller));
        Ok(())
    }

    /// Replaces the session after several responses that may mean that it is no longer valid. The next call logs on
    /// again; this call keeps its response.
    fn record_response(
        &self,
        purpose: Purpose,
        session: &Self::Credential,
        failure: Option<&Failure>,
        budget: &RetryBudget,
    ) {
        if failure.is_some_and(is_doubtful) {
            if self.watch.doubtful(purpose) && self.sessions.discard_doubtful(session, budget) {
                self.watch.replaced(purpose);
                let target = &*self.sessions.source.metrics.target().target;
                tracing::warn!(
                    target,
                    "session discarded after repeated doubtful responses"
                );
            }
        } else if failure.is_none_or(classify::reached_authorization) {
            session.accepted();
            self.watch.accepted(purpose);
        }
    }

    fn renew(&self, session: &Self::Credential, budget: &RetryBudget) -> bool {
        self.sessions.discard_refused(session, budget)
    }

    fn credential_state(&self) -> Option<CredentialState> {
        self.sessions.state(SESSION)
    }

    /// Ends the session, if there is one.
    async fn close(&self) {
        if let Some(session) = self.sessions.take().await {
            self.sessions.source.logoff(&session.value).await;
        }
    }
}

/// Returns the only user of the list with this name. Fails if there is none, or more than one.
fn named(listed: Vec<HmcUser>, name: &str) -> Result<HmcUser, Failure> {
    let mut same = listed
        .into_iter()
        .filter(|user| same_name(&user.name, name));
    match (same.next(), same.next()) {
        (Some(user), None) => Ok(user),
        (None, _) => Err(Failure::new(R::UserNotFound, "no user has this name")),
        (Some(_), Some(_)) => Err(Failure::new(
            R::AmbiguousUserName,
            "several users have this name",
        )),
    }
}

/// Returns the value of `X-Audit-Id`: this server's ID of the call and the caller, for the HMC's own audit log.
fn audit_id(request_id: &str, caller: &str) -> HeaderValue {
    let mut text = [request_id, " ", caller].concat().into_bytes();
    text.retain(|b| b.is_ascii_graphic() || *b == b' ');
    text.truncate(MAX_AUDIT_ID);
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("useradmin"))
}
