//! The requests of one call to an HMC: find the user, delete it.

use std::{pin::pin, sync::Arc};

use super::{
    credential::{SESSION, Session, SessionSource},
    logon_guard::LogonGuard,
    rules::RULES,
    same_name,
    session_watch::{Kind, SessionWatch, is_doubtful},
    verdict::{failure, not_understood},
    wire::{self, HmcUser},
};
use crate::{
    client_tls::Trust,
    config::{self, secret::Secret},
    error::{Failure, Repeat},
    metrics::{CredentialState, Requests, TargetState},
    proto::ErrorReason,
    upstream::{
        attempt::{Ledger, Limits, Tries},
        breaker::Pass,
        client::{self, Client, Request},
        guards::Guards,
        hidden::Hidden,
        http::{Answer, NoAnswer},
        let_in,
        observed::Operation,
        path,
        renewable::{Lease, Renewable},
        trusted::{Alpn, Change},
    },
};
use http::{HeaderValue, Method, StatusCode, header::ACCEPT, uri::PathAndQuery};

const USER: &str = "/api/users/{user-id}";
const DELETE_USER: Operation = Operation {
    name: "delete_user",
    route: Some(USER),
    traced: true,
};
const READ_USER: Operation = Operation {
    name: "read_user",
    route: Some(USER),
    traced: true,
};
const LIST_USERS: Operation = Operation {
    name: "list_users",
    route: Some("/api/console/users"),
    traced: true,
};

/// How a request names a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserRef {
    /// By object ID.
    Id(String),
    /// By name, in any case.
    Name(String),
}

/// A configured HMC.
pub struct Hmc {
    alias: String,
    userid: String,
    client: Client,
    sessions: Renewable<Session, SessionSource>,
    watch: SessionWatch,
    guards: Guards,
}

impl Hmc {
    /// Creates the client of the HMC with this alias, which logs on as `guard` allows it. Nothing is sent yet.
    pub fn new(
        alias: &str,
        config: config::Hmc,
        guard: Arc<LogonGuard>,
        numbers: &Requests,
    ) -> Result<Self, String> {
        let alpn: Alpn = &[b"http/1.1"];
        let client = Client::new(
            &config.url,
            Trust::Only,
            &config.roots,
            alpn,
            numbers.clone(),
        )?;
        let source = SessionSource::new(&config, client.clone(), guard, numbers.clone());
        Ok(Self {
            alias: alias.to_owned(),
            guards: Guards::new(&config.url, config.bulkhead),
            userid: config.userid,
            client,
            sessions: Renewable::new(source),
            watch: SessionWatch::default(),
        })
    }

    /// As it is now.
    pub fn state(&self) -> TargetState {
        let session = self.sessions.age().map(|(age, left)| CredentialState {
            kind: SESSION,
            age,
            left,
        });
        self.guards.state(session)
    }

    /// Ready to trust what the file of authorities holds by now.
    pub fn trust(&self, roots: &config::Roots) -> Result<Option<Change>, String> {
        self.client.trust(roots)
    }

    /// Is this the user that the service logs on with?
    #[must_use]
    pub fn is_own(&self, name: &str) -> bool {
        same_name(&self.userid, name) || self.userid.to_lowercase() == name.to_lowercase()
    }

    /// Begins a call, unless the breaker is open.
    pub fn call(&self, audit_id: HeaderValue, limits: Limits) -> Result<Call<'_>, Failure> {
        let pass = self.guards.breaker.admit()?;
        self.guards.budget.call();
        Ok(Call {
            hmc: self,
            pass,
            audit_id,
            limits,
            ledger: Ledger::default(),
        })
    }

    /// Ends the session, if there is one.
    pub async fn close(&self) {
        if let Some(session) = self.sessions.take().await {
            self.sessions.source().logoff(&session.value).await;
        }
    }
}

/// One call.
pub struct Call<'a> {
    hmc: &'a Hmc,
    pass: Pass<'a>,
    audit_id: HeaderValue,
    limits: Limits,
    /// The book of its DELETEs.
    pub ledger: Ledger,
}

impl Call<'_> {
    /// Reads the user that the request names, so that the answer and the record say who was deleted.
    pub async fn find(&mut self, user: &UserRef) -> Result<HmcUser, Failure> {
        let limits = self.limits.clone();
        let mut tries = Tries::new(&limits, &self.hmc.guards.budget);
        loop {
            let found = match user {
                UserRef::Id(id) => self.read_by_id(id).await,
                UserRef::Name(name) => self.read_by_name(name).await,
            };
            match found {
                Ok(user) => return Ok(user),
                Err(failure) => tries.again(&mut self.ledger, failure).await?,
            }
        }
    }

    async fn read_by_id(&mut self, id: &str) -> Result<HmcUser, Failure> {
        let path = path::build(&["api", "users", id], "")?;
        let understand = |answer: &Answer, session: &str| wire::user(answer, id, session);
        self.read(&READ_USER, path, understand).await
    }

    async fn read_by_name(&mut self, name: &str) -> Result<HmcUser, Failure> {
        let filter = path::encode(&wire::name_filter(name));
        let path = path::build(&["api", "console", "users"], &format!("name={filter}"))?;
        let listed = self.read(&LIST_USERS, path, wire::users).await;
        let listed = listed.map_err(of_the_list)?;
        let mut same = listed
            .into_iter()
            .filter(|user| same_name(&user.name, name));
        match (same.next(), same.next()) {
            (Some(user), None) => Ok(user),
            (None, _) => Err(Failure::new(
                ErrorReason::UserNotFound,
                "no user has this name",
            )),
            (Some(_), Some(_)) => Err(Failure::new(
                ErrorReason::AmbiguousUserName,
                "several users have this name",
            )),
        }
    }

    /// Sends a request that reads, and returns what `understand` makes of the answer and of the session's ID.
    async fn read<T>(
        &mut self,
        operation: &'static Operation,
        path: PathAndQuery,
        understand: impl FnOnce(&Answer, &str) -> Option<T>,
    ) -> Result<T, Failure> {
        let _place = self.hmc.guards.bulkhead.enter(&self.limits).await?;
        let session = self.session().await?;
        let request = self.request(Method::GET, path, &session);
        self.limits.check("reading the user")?;
        let sending = self.hmc.client.send(operation, request, None, &self.limits);
        let sent = self.pass.over(pin!(sending)).await;
        let answer = sent.map_err(NoAnswer::of_read)?;
        if answer.status != 200 {
            return Err(self.judge(Kind::Read, &answer, &session).of_a_read());
        }
        let understood = understand(&answer, session.value.text());
        match &understood {
            Some(_) => self.accepted(Kind::Read, &session),
            None => self.doubtful(Kind::Read, &session),
        }
        understood.ok_or_else(|| not_understood(&answer))
    }

    /// Deletes the user: `DELETE /api/users/{user-id}`. A user who is no longer there is a `USER_NOT_FOUND`.
    pub async fn delete(&mut self, user: &HmcUser) -> Result<(), Failure> {
        let limits = self.limits.clone();
        let mut tries = Tries::new(&limits, &self.hmc.guards.budget);
        while let Err(failure) = self.delete_once(&user.id).await {
            tries.again(&mut self.ledger, failure).await?;
        }
        Ok(())
    }

    async fn delete_once(&mut self, id: &str) -> Result<(), Failure> {
        let _place = self.hmc.guards.bulkhead.enter(&self.limits).await?;
        let session = self.session().await?;
        let path = path::build(&["api", "users", id], "")?;
        let request = self.request(Method::DELETE, path, &session);
        self.ledger.begin(&self.limits)?;
        let done = Some(StatusCode::NO_CONTENT);
        let sending = self
            .hmc
            .client
            .send(&DELETE_USER, request, done, &self.limits);
        let sent = self.pass.over(pin!(sending)).await;
        let failure = match sent {
            Ok(answer) if answer.status == StatusCode::NO_CONTENT => {
                self.accepted(Kind::Delete, &session);
                return Ok(());
            }
            Ok(answer) => self.judge(Kind::Delete, &answer, &session),
            Err(no_answer) => no_answer.of_delete(),
        };
        self.ledger.settle(&failure);
        Err(failure)
    }

    async fn session(&mut self) -> Result<Arc<Lease<Session>>, Failure> {
        let session = self.hmc.sessions.get(&self.limits).await;
        // The logon is a request to the HMC, too.
        if let Err(failure) = &session {
            self.pass.note_failure(failure);
        }
        session
    }

    fn request(&self, method: Method, path: PathAndQuery, session: &Lease<Session>) -> Request {
        let mut request = client::request(method, path);
        let headers = request.headers_mut();
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        headers.insert("x-api-session", session.value.header());
        headers.insert("x-audit-id", self.audit_id.clone());
        request
    }

    /// Records an answer that shows that the session is valid.
    fn accepted(&self, kind: Kind, session: &Lease<Session>) {
        session.accepted();
        self.hmc.watch.accepted(kind);
    }

    /// Records an answer that may come from a session that is no longer valid. After several of them, the next call
    /// logs on again; this one keeps its answer.
    fn doubtful(&self, kind: Kind, session: &Arc<Lease<Session>>) {
        let hmc = self.hmc;
        if hmc.watch.doubtful(kind) && hmc.sessions.replace(session, &hmc.guards.budget) {
            hmc.watch.replaced(kind);
            tracing::warn!(hmc = hmc.alias, "session replaced after repeated refusals");
        }
    }

    /// Returns the failure for an answer that is not the success.
    fn judge(&mut self, kind: Kind, answer: &Answer, session: &Arc<Lease<Session>>) -> Failure {
        let password = self.hmc.sessions.source().password();
        let password = password.as_ref().map(Secret::expose);
        let hidden = Hidden::new([session.value.text()].into_iter().chain(password));
        let mut failure = failure(RULES, answer, &hidden);
        if is_doubtful(&failure) {
            self.doubtful(kind, session);
        } else if let_in(&failure) {
            self.accepted(kind, session);
        }
        let hmc = self.hmc;
        if failure.repeat == Repeat::Renew
            && !(self.ledger.may_renew() && hmc.sessions.refuse(session, &hmc.guards.budget))
        {
            failure.repeat = Repeat::Never;
        }
        failure
    }
}

/// The list is no user: that the HMC does not have it says nothing about anybody.
fn of_the_list(failure: Failure) -> Failure {
    let reason = match failure.reason {
        ErrorReason::UserNotFound => ErrorReason::UpstreamResourceNotFound,
        other => other,
    };
    Failure { reason, ..failure }
}
