//! Sessions of an HMC: one logon for all calls that need a session, a limit on refused logons, and a logoff when the
//! session is replaced or the server stops.

use std::{sync::Arc, time::Duration};

use http::{
    HeaderName, HeaderValue, Method,
    header::{ACCEPT, CONTENT_TYPE},
};
use opentelemetry::context::FutureExt as _;
use serde_json::json;
use tokio::{sync::oneshot, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{
    account::Account, classify::error_facts, logon_guard::LogonResult, names::NAMES,
    rules::LOGON_RULES, wire,
};
use crate::{
    config::{
        self,
        secret::{Secret, unprintable},
    },
    error::Failure,
    metrics::RequestMetrics,
    proto::ErrorReason,
    upstream::{
        classify,
        client::{self, Client, Request, sensitive_header},
        credential_cache::{CredentialSource, Lease, ObtainFuture},
        deadline::Deadline,
        instrument::Operation,
        path,
        platform::RequestCredential,
        redact::Secrets,
        response::RequestError,
    },
};

/// Shortest timeout of a logon whose password may be wrong. A slow HMC may count the password as wrong although its
/// response arrives after the timeout.
const MIN_LOGON_TIMEOUT: Duration = Duration::from_secs(20);
/// Name of this kind of credential in the metrics.
pub const SESSION: &str = "session";
pub const X_API_SESSION: HeaderName = HeaderName::from_static("x-api-session");
const LOGON: Operation = Operation::new("logon", "/api/sessions");
const LOGOFF: Operation = Operation::new("logoff", "/api/sessions/this-session");
const LOGOFF_TIMEOUT: Duration = Duration::from_secs(2);

pub struct Session {
    id: HeaderValue,
    /// The password that opened the session.
    password: Secret,
}

unprintable!(Session, Lease<Session>);

impl Session {
    fn new(id: &str, password: &Secret) -> Result<Self, Failure> {
        Ok(Self {
            id: sensitive_header(id)?,
            password: password.clone(),
        })
    }

    /// Returns the value of the `X-API-Session` header. It may only be sent to the HMC.
    pub fn header(&self) -> HeaderValue {
        self.id.clone()
    }

    /// Returns the session ID, which must never be returned to a caller.
    pub fn text(&self) -> &str {
        self.id.to_str().unwrap_or_default()
    }
}

impl RequestCredential for Arc<Lease<Session>> {
    fn secrets<'a>(&'a self, _authorization: Option<&'a HeaderValue>) -> Secrets<'a> {
        Secrets::new([self.value.text(), self.value.password.expose()])
    }

    fn accepted(&self) {
        Lease::accepted(self);
    }
}

pub struct SessionSource {
    pub settings: config::Hmc,
    client: Client,
    pub metrics: RequestMetrics,
    pub account: Account,
}

impl SessionSource {
    /// Creates a source that logs on when the guard of the account allows it. Nothing is sent yet.
    pub fn new(
        settings: config::Hmc,
        client: Client,
        account: Account,
        metrics: RequestMetrics,
    ) -> Self {
        metrics.init_renewal_counters(SESSION);
        Self {
            settings,
            client,
            metrics,
            account,
        }
    }

    /// Logs on. Notifies `begun` when the guard allows the logon, and does not wait for this after `abandoned`.
    async fn logon(
        &self,
        begun: oneshot::Sender<()>,
        abandoned: &CancellationToken,
    ) -> Result<Lease<Session>, Failure> {
        let (guard, password) = (Arc::clone(&self.account.guard), &self.settings.password);
        let limit = self.longest_logon();
        let logon = guard.begin_logon(password, limit, abandoned).await?;
        let _abandoned = begun.send(());
        let logged_on = self.send_logon(logon.password()).await;
        let result = match &logged_on {
            Ok(_) => LogonResult::Accepted,
            Err(failure) if is_refusal(failure) => LogonResult::Refused,
            Err(_) => LogonResult::Failed,
        };
        logon.end(result).await;
        logged_on
    }

    /// Returns the time limit of the request, which is longer than calls wait if the password was accepted before.
    fn longest_logon(&self) -> Duration {
        self.settings.logon_timeout.max(MIN_LOGON_TIMEOUT)
    }

    /// Returns how long calls wait for the logon. This is longer for a password that may be wrong, because it must not
    /// be sent again before the HMC has had time to refuse it.
    fn logon_timeout(&self) -> Duration {
        if self.password_was_accepted() {
            self.settings.logon_timeout
        } else {
            self.longest_logon()
        }
    }

    async fn send_logon(&self, password: &Secret) -> Result<Lease<Session>, Failure> {
        let request = self.logon_request(password)?;
        let limits = Deadline::after(self.longest_logon()).into();
        let response = self
            .client
            .send(&LOGON, request, None, &limits)
            .await
            .map_err(|error| match error {
                // The deadline is that of the logon, not of a caller: the HMC did not answer.
                RequestError::TimedOut | RequestError::NotConnected => {
                    RequestError::Cut("no answer to the logon".into()).into_read_failure()
                }
                other => other.into_read_failure(),
            })?;
        let session = wire::session(&response);
        if response.status == 200
            && let Some(session) = &session
        {
            if let Some(days) = wire::password_expires(&response).filter(|days| *days <= 14) {
                let target = &*self.metrics.target().target;
                tracing::warn!(target, days, "HMC password expires soon");
            }
            return Ok(Lease::new(Session::new(session, password)?, None));
        }
        if let Some(partial) = &session {
            self.logoff(&Session::new(partial, password)?).await;
        }
        let secrets = Secrets::new([password.expose()]);
        let facts = error_facts(&response, &secrets);
        Err(classify::failure(&NAMES, LOGON_RULES, &response, facts).for_read())
    }

    /// Returns whether the configured password is the password that the HMC accepted last.
    fn password_was_accepted(&self) -> bool {
        let password = self.settings.password.read();
        password.is_ok_and(|password| self.account.guard.was_accepted(&password))
    }

    fn logon_request(&self, password: &Secret) -> Result<Request, Failure> {
        let path = path::build(&["api", "sessions"], "")?;
        let body = json!({ "userid": self.settings.userid, "password": password.expose() });
        let mut request = client::request(Method::POST, path);
        let json = HeaderValue::from_static("application/json");
        request.headers_mut().insert(ACCEPT, json.clone());
        request.headers_mut().insert(CONTENT_TYPE, json);
        *request.body_mut() = body.to_string().into();
        Ok(request)
    }

    /// Ends a session by a logoff request. Errors are ignored.
    pub async fn logoff(&self, session: &Session) {
        let Ok(path) = path::build(&["api", "sessions", "this-session"], "") else {
            return;
        };
        let mut request = client::request(Method::DELETE, path);
        request
            .headers_mut()
            .insert(X_API_SESSION, session.header());
        let limits = Deadline::after(LOGOFF_TIMEOUT).into();
        let sent = self.client.send(&LOGOFF, request, None, &limits);
        if timeout(LOGOFF_TIMEOUT, sent).await.is_err() {
            let target = &*self.metrics.target().target;
            tracing::debug!(target, "session logoff failed");
        }
    }
}

impl CredentialSource<Session> for SessionSource {
    fn obtain(self: Arc<Self>) -> ObtainFuture<Session> {
        Box::pin(async move {
            // The logon runs in a separate task and continues if no call waits for it any more, because the HMC
            // counts its password and opens its session.
            let abandoned = CancellationToken::new();
            let _abandon = abandoned.clone().drop_guard();
            let (begun, may_begin) = oneshot::channel();
            let (tell, told) = oneshot::channel();
            let source = Arc::clone(&self);
            let logon = async move {
                let logged_on = source.logon(begun, &abandoned).await;
                if let Err(Ok(late)) = tell.send(logged_on) {
                    source.logoff(&late.value).await;
                }
            };
            tokio::spawn(logon.with_current_context());
            // The logons of other servers do not count for the time limit of this one.
            let _failed_before = may_begin.await;
            let cut_off = |_| Err(Failure::internal("a logon was cut off"));
            match timeout(self.logon_timeout(), told).await {
                Ok(told) => told.unwrap_or_else(cut_off),
                Err(_) => Err(self.timeout_failure()),
            }
        })
    }

    fn on_renewal_finished(&self, failure: Option<&Failure>) {
        self.metrics.record_renewal(SESSION, failure.is_none());
    }

    fn timeout(&self) -> Duration {
        self.logon_timeout() + self.account.guard.max_wait(self.longest_logon())
    }

    /// Refused logons cause no pause: the guard limits them, and a changed password must be used at once.
    fn pauses_after(&self, failure: &Failure) -> bool {
        !is_refusal(failure)
    }

    fn retire(self: Arc<Self>, old: Arc<Lease<Session>>) {
        tokio::spawn(async move { self.logoff(&old.value).await });
    }
}

/// Returns whether the HMC counts or may count the failed logon as one with a wrong password. This is the case if the
/// logon was refused, or if its response has the status 200 but no session.
fn is_refusal(failure: &Failure) -> bool {
    let status = failure
        .upstream_response
        .as_deref()
        .map(|response| response.http_status);
    failure.reason == ErrorReason::UpstreamCredentialsRejected || status == Some(200)
}
