//! The two requests: delete a user of a node, and read the node.

use std::{pin::pin, time::SystemTime};

use super::{
    credential::{Credential, Used},
    entra::TokenSource,
    verdict::{failure, node, not_from_azure},
    wire,
};
use crate::{
    client_tls::Trust,
    config,
    error::{Failure, Repeat},
    metrics::{Requests, TargetState},
    proto::{DeleteOutcome, ErrorReason},
    upstream::{
        Concluded, absence, aside,
        attempt::{Ledger, Limits, Tries},
        breaker::Pass,
        client::{self, Client, Request},
        guards::Guards,
        hidden::Hidden,
        http::{Answer, NoAnswer},
        let_in,
        observed::Operation,
        path,
        trusted::{Alpn, Change},
    },
};
use http::{
    HeaderName, HeaderValue, Method, StatusCode,
    header::{ACCEPT, AUTHORIZATION},
    uri::PathAndQuery,
};

const API_VERSION: &str = "2023-11-01.18.0";
const MEDIA_TYPE: &str = "application/json; odata=minimalmetadata";
/// The service's own budget when `timeout` is left out; more cannot be asked for.
const SERVER_TIMEOUT_SECONDS: u64 = 30;

const DELETE_USER: Operation = Operation {
    name: "delete_user",
    route: Some("/pools/{poolId}/nodes/{nodeId}/users/{userName}"),
    traced: true,
};
const READ_NODE: Operation = Operation {
    name: "read_node",
    route: Some("/pools/{poolId}/nodes/{nodeId}"),
    traced: true,
};

/// The user of a node, and how the call is to be known.
#[derive(Clone, Debug)]
pub struct NodeUser {
    /// Pool.
    pub pool_id: String,
    /// Node.
    pub node_id: String,
    /// User.
    pub user_name: String,
    /// `client-request-id`, the same on every attempt.
    pub client_request_id: String,
    /// Did the caller choose it?
    pub callers_id: bool,
}

/// What to do.
#[derive(Clone, Copy, Debug)]
pub enum Action {
    /// `DELETE {url}/pools/{poolId}/nodes/{nodeId}/users/{userName}`.
    Delete {
        /// Is a user that is not there a success?
        allow_missing: bool,
    },
    /// `GET {url}/pools/{poolId}/nodes/{nodeId}`, for `validate_only`: the users cannot be listed.
    CheckNode,
}

/// What a call that succeeded tells.
#[derive(Clone, Debug)]
pub struct Done {
    /// What happened.
    pub outcome: DeleteOutcome,
    /// The service's `request-id`.
    pub request_id: String,
}

impl Done {
    /// As this answer tells, without what is `hidden`.
    pub(super) fn new(outcome: DeleteOutcome, answer: &Answer, hidden: &Hidden<'_>) -> Self {
        Self {
            outcome,
            request_id: wire::request_id(answer, hidden).unwrap_or_default(),
        }
    }
}

/// A configured account.
pub struct BatchAccount {
    client: Client,
    /// The one that asks for tokens.
    authority: Option<aside::Client>,
    credential: Credential,
    guards: Guards,
}

impl BatchAccount {
    /// Ready to be called; nothing is sent yet.
    pub fn new(config: config::BatchAccount, numbers: &Requests) -> Result<Self, String> {
        let alpn: Alpn = &[b"h2", b"http/1.1"];
        let (url, roots) = (&config.url, &config.roots);
        let client = Client::new(url, Trust::More, roots, alpn, numbers.clone())?;
        let mut asks = None;
        let credential = Credential::new(config.credential, numbers, |entra| {
            let authority = TokenSource::authority(entra).ok_or("no authority")?;
            let client = aside::Client::new(&authority, roots, numbers.clone())?;
            asks = Some(client.clone());
            Ok(client)
        })?;
        Ok(Self {
            client,
            authority: asks,
            credential,
            guards: Guards::new(&config.url, config.bulkhead),
        })
    }

    /// Ready to trust what the file of authorities holds by now, for the account and for its authority.
    pub fn trust(&self, roots: &config::Roots) -> Result<Vec<Change>, String> {
        let authority = self.authority.as_ref();
        let authority = authority.map(|client| client.trust(roots)).transpose()?;
        let changes = [self.client.trust(roots)?, authority.flatten()];
        Ok(changes.into_iter().flatten().collect())
    }

    /// As it is now.
    pub fn state(&self) -> TargetState {
        self.guards.state(self.credential.state())
    }

    /// Cancels a token request in progress.
    pub async fn close(&self) {
        self.credential.close().await;
    }

    /// Carries a call to its end.
    pub async fn call(&self, user: &NodeUser, action: Action, limits: &Limits) -> Concluded<Done> {
        let mut ledger = Ledger::default();
        let result = match self.guards.breaker.admit() {
            Ok(mut pass) => {
                self.guards.budget.call();
                self.attempts(user, action, &mut ledger, &mut pass, limits)
                    .await
            }
            Err(failure) => Err(failure),
        };
        Concluded { result, ledger }
    }

    async fn attempts(
        &self,
        user: &NodeUser,
        action: Action,
        ledger: &mut Ledger,
        pass: &mut Pass<'_>,
        limits: &Limits,
    ) -> Result<Done, Failure> {
        let mut tries = Tries::new(limits, &self.guards.budget);
        loop {
            let done = match action {
                Action::Delete { allow_missing } => {
                    self.delete_once(user, allow_missing, ledger, pass, limits)
                        .await
                }
                Action::CheckNode => self.read_once(user, ledger, pass, limits).await,
            };
            match done {
                Ok(done) => return Ok(done),
                Err(failure) => tries.again(ledger, failure).await?,
            }
        }
    }

    async fn delete_once(
        &self,
        user: &NodeUser,
        allow_missing: bool,
        ledger: &mut Ledger,
        pass: &mut Pass<'_>,
        limits: &Limits,
    ) -> Result<Done, Failure> {
        let _place = self.guards.bulkhead.enter(limits).await?;
        let proof = self.credential.obtain(limits).await?;
        let segments = [
            "pools",
            &user.pool_id,
            "nodes",
            &user.node_id,
            "users",
            &user.user_name,
        ];
        let path = path::build(&segments, &query(limits))?;
        let mut request = request(Method::DELETE, path, user)?;
        let shown = self.authorize(&mut request, &proof)?;
        let hidden = proof.hidden(&shown);

        ledger.begin(limits)?;
        let done = StatusCode::OK;
        let sending = self.client.send(&DELETE_USER, request, Some(done), limits);
        let sent = pass.over(pin!(sending)).await;
        let failure = match sent {
            Ok(answer) if answer.status == done => {
                match wire::check_ids(&answer, &user.client_request_id) {
                    Ok(()) => {
                        proof.accepted();
                        return Ok(Done::new(DeleteOutcome::Deleted, &answer, &hidden));
                    }
                    Err(why) => not_from_azure(&answer, why, &hidden),
                }
            }
            Ok(answer) => {
                let failure = self.judge(&answer, user, &proof, &hidden, ledger);
                if failure.reason == ErrorReason::UserNotFound
                    && let Some(outcome) = absence(ledger, allow_missing)
                {
                    return Ok(Done::new(outcome, &answer, &hidden));
                }
                failure
            }
            Err(no_answer) => no_answer.of_delete(),
        };
        ledger.settle(&failure);
        Err(failure)
    }

    async fn read_once(
        &self,
        user: &NodeUser,
        ledger: &mut Ledger,
        pass: &mut Pass<'_>,
        limits: &Limits,
    ) -> Result<Done, Failure> {
        let _place = self.guards.bulkhead.enter(limits).await?;
        let proof = self.credential.obtain(limits).await?;
        let segments = ["pools", &user.pool_id, "nodes", &user.node_id];
        let path = path::build(&segments, &query(limits))?;
        let mut request = request(Method::GET, path, user)?;
        let shown = self.authorize(&mut request, &proof)?;
        let hidden = proof.hidden(&shown);
        limits.check("reading the node")?;
        let sending = self.client.send(&READ_NODE, request, None, limits);
        let answer = pass.over(pin!(sending)).await.map_err(NoAnswer::of_read)?;
        if answer.status == StatusCode::OK {
            wire::check_ids(&answer, &user.client_request_id)
                .map_err(|why| not_from_azure(&answer, why, &hidden).of_a_read())?;
            proof.accepted();
            return node(&answer, &user.node_id, &hidden);
        }
        let failure = self.judge(&answer, user, &proof, &hidden, ledger);
        Err(failure.of_a_read())
    }

    /// Returns what stands in the request now.
    fn authorize(&self, request: &mut Request, proof: &Used) -> Result<HeaderValue, Failure> {
        let date = httpdate::fmt_http_date(SystemTime::now());
        let value = self.credential.authorization(
            proof,
            request.method().as_str(),
            request.uri(),
            &date,
        )?;
        let headers = request.headers_mut();
        headers.insert(HeaderName::from_static("ocp-date"), header(&date)?);
        headers.insert(AUTHORIZATION, value.clone());
        Ok(value)
    }

    /// An answer that is not the success, as a failure.
    fn judge(
        &self,
        answer: &Answer,
        user: &NodeUser,
        proof: &Used,
        hidden: &Hidden<'_>,
        ledger: &mut Ledger,
    ) -> Failure {
        // A refusal stands on its document alone; a wrong ID is only logged.
        let _logged = wire::check_ids(answer, &user.client_request_id);
        let mut failure = failure(answer, user, hidden);
        if let_in(&failure) {
            proof.accepted();
        }
        if failure.repeat == Repeat::Renew
            && !(ledger.may_renew() && self.credential.refuse(proof, &self.guards.budget))
        {
            failure.repeat = Repeat::Never;
        }
        failure
    }
}

fn request(method: Method, path: PathAndQuery, user: &NodeUser) -> Result<Request, Failure> {
    let mut request = client::request(method, path);
    let headers = request.headers_mut();
    headers.insert(ACCEPT, HeaderValue::from_static(MEDIA_TYPE));
    headers.insert(wire::CLIENT_REQUEST_ID, header(&user.client_request_id)?);
    headers.insert("return-client-request-id", HeaderValue::from_static("true"));
    Ok(request)
}

fn header(text: &str) -> Result<HeaderValue, Failure> {
    HeaderValue::from_str(text).map_err(|_| Failure::internal("a header that is no header"))
}

/// `timeout` tells the service to stop no later than the caller; the document's first form of the URI leaves it out.
fn query(limits: &Limits) -> String {
    let seconds = limits.deadline.remaining().as_secs();
    if seconds >= SERVER_TIMEOUT_SECONDS {
        format!("api-version={API_VERSION}")
    } else {
        format!("timeout={}&api-version={API_VERSION}", seconds.max(1))
    }
}
