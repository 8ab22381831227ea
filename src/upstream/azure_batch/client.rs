//! The requests to Azure Batch: delete a user of a node, read the node, and read its pool.

use std::{sync::Arc, time::SystemTime};

use http::{HeaderName, HeaderValue, StatusCode, header::AUTHORIZATION};

use super::{
    classify::{error_facts, unexpected_success},
    credential::{Credential, TokenOrKey},
    names::{NAMES, NodeFacts, NodeUser},
    rules::{API_VERSION, RULES},
    wire,
};
use crate::{
    caller_token::CallerToken,
    config::{self, ApiVersion, BatchAccount},
    error::{Failure, UpstreamResponse, resource::ResourceNames, rule::Rule},
    metrics::CredentialState,
    proto::ErrorReason,
    upstream::{
        call_limits::CallLimits,
        classify::ErrorFacts,
        client::{Change, Request, sensitive_header},
        instrument::Operation,
        platform::{
            Call, CredentialCheck, Order, OutgoingRequest, Platform, ReceivedResponse, TargetInputs,
        },
        redact::Secrets,
        response::Response,
        retry_budget::RetryBudget,
    },
};

/// Seconds until Azure Batch ends a request by default, and the maximum of the time limit.
const SERVER_TIMEOUT_SECONDS: u64 = 30;

const RETURN_CLIENT_REQUEST_ID: HeaderName = HeaderName::from_static("return-client-request-id");
const OCP_DATE: HeaderName = HeaderName::from_static("ocp-date");

const DELETE_USER: Operation = Operation::new(
    "delete_user",
    "/pools/{poolId}/nodes/{nodeId}/users/{userName}",
);
const READ_NODE: Operation = Operation::new("read_node", "/pools/{poolId}/nodes/{nodeId}");
const READ_POOL: Operation = Operation::new("read_pool", "/pools/{poolId}");

/// Returns the state of the node. Fails if the response describes another node than `node_id`, or one whose users cannot be deleted: this is possible
/// "only when it is in the idle or running state" ("Compute Node - Delete User").
pub fn check_node(
    response: &Response,
    node_id: &str,
    version: &ApiVersion,
    secrets: &Secrets,
) -> Result<String, Failure> {
    let node = response.json();
    let id = node["id"].as_str();
    if id.is_some_and(|id| !id.eq_ignore_ascii_case(node_id)) {
        let why = "it describes another node";
        return Err(unexpected_success(response, why, secrets));
    }
    let Some(state) = node["state"].as_str() else {
        return Err(unexpected_success(
            response,
            "the node has no state",
            secrets,
        ));
    };
    let reason = match state {
        "idle" | "running" => return Ok(state.to_owned()),
        "unusable" => ErrorReason::NodeUnusable,
        _ => ErrorReason::NodeNotReady,
    };
    let mut context = format!("the node is {}", secrets.redact(state));
    if !version.has_node_state(state) {
        context += ", a state that is not documented for api-version ";
        context += version.name;
    }
    Err(Failure {
        upstream_response: Some(Box::new(UpstreamResponse {
            http_status: response.status,
            request_id: wire::request_id(response, secrets),
            ..UpstreamResponse::default()
        })),
        ..Failure::new(reason, context)
    })
}

pub struct AzureBatch {
    api_version: &'static ApiVersion,
    credential: Credential,
}

impl Platform for AzureBatch {
    const NAMES: &'static ResourceNames = &NAMES;
    const RULES: &'static [Rule] = RULES;
    const ACCEPT: &'static str = "application/json; odata=minimalmetadata";

    type Settings = BatchAccount;
    type User = NodeUser;
    type UserFacts = NodeFacts;
    type Credential = TokenOrKey;

    fn new(target: TargetInputs<'_, Self>) -> Result<Self, String> {
        let config = target.config;
        let credential = Credential::new(&config.own.credential, &config.roots, target.requests)?;
        Ok(Self {
            api_version: config.own.api_version,
            credential,
        })
    }

    /// Azure Batch has no request that reads a user. To validate an order, the server reads the node.
    fn reads_first(order: &Order<NodeUser>) -> bool {
        order.validate_only
    }

    fn read(&self, call: &Call<'_, Self>) -> Result<OutgoingRequest, Failure> {
        let user = &call.order.user;
        let segments = ["pools", &user.pool_id, "nodes", &user.node_id];
        let query = query(self.api_version, call.limits);
        OutgoingRequest::new(&READ_NODE, &segments, &query, StatusCode::OK)
    }

    fn parse_facts(&self, received: &ReceivedResponse<'_, Self>) -> Result<NodeFacts, Failure> {
        self.check_deleted(received)?;
        let user = &received.order.user;
        let (response, secrets) = (received.response, &received.secrets);
        let mut found = received.found.clone();
        if received.operation.name == READ_POOL.name {
            let defined = wire::pool_defines_user(response, &user.pool_id, &user.user_name);
            let why = "it does not describe the pool";
            let defined = defined.ok_or_else(|| unexpected_success(response, why, secrets))?;
            found.defined_by_pool = Some(defined);
        } else {
            found.state = check_node(response, &user.node_id, self.api_version, secrets)?;
        }
        Ok(found)
    }

    fn lacks_details(found: &NodeFacts) -> bool {
        found.defined_by_pool.is_none()
    }

    /// Reads the users that the pool defines, since Azure Batch creates them on every node of the pool.
    fn read_details(&self, call: &Call<'_, Self>) -> Result<OutgoingRequest, Failure> {
        let segments = ["pools", &call.order.user.pool_id];
        let query = query(self.api_version, call.limits);
        let query = ["$select=id,userAccounts&", &query].concat();
        OutgoingRequest::new(&READ_POOL, &segments, &query, StatusCode::OK)
    }

    fn name<'a>(order: &'a Order<NodeUser>, _found: &'a NodeFacts) -> &'a str {
        &order.user.user_name
    }

    fn delete(&self, call: &Call<'_, Self>) -> Result<OutgoingRequest, Failure> {
        let NodeUser {
            pool_id,
            node_id,
            user_name,
            ..
        } = &call.order.user;
        let segments = ["pools", pool_id, "nodes", node_id, "users", user_name];
        let query = query(self.api_version, call.limits);
        OutgoingRequest::new(&DELETE_USER, &segments, &query, StatusCode::OK)
    }

    fn check_deleted(&self, received: &ReceivedResponse<'_, Self>) -> Result<(), Failure> {
        let (response, user) = (received.response, &received.order.user);
        wire::check_ids(response, &user.client_request_id)
            .map_err(|why| unexpected_success(response, why, &received.secrets))
    }

    fn request_id(response: &Response, secrets: &Secrets) -> Option<String> {
        wire::request_id(response, secrets)
    }

    fn error_facts(received: &ReceivedResponse<'_, Self>) -> ErrorFacts {
        let (response, user) = (received.response, &received.order.user);
        // An error document is valid even with the IDs of another response.
        let _logged = wire::check_ids(response, &user.client_request_id);
        error_facts(response, user, &received.secrets)
    }

    fn acts_for_caller(&self) -> bool {
        self.credential.acts_for_caller()
    }

    async fn credential(
        &self,
        caller: Option<&Arc<CallerToken>>,
        limits: &CallLimits,
    ) -> Result<TokenOrKey, Failure> {
        self.credential.obtain(caller, limits).await
    }

    async fn check_credential(&self, limits: &CallLimits) -> Result<CredentialCheck, Failure> {
        if self.acts_for_caller() {
            return Ok(CredentialCheck::NotChecked(
                "a token is only obtained with the token of a caller",
            ));
        }
        Ok(match self.credential(None, limits).await? {
            TokenOrKey::Token(_) | TokenOrKey::CallersToken(..) => CredentialCheck::Accepted,
            TokenOrKey::Key(_) => CredentialCheck::NotChecked(
                "a shared key is only checked by requests to the account",
            ),
        })
    }

    fn add_headers(
        &self,
        request: &mut Request,
        credential: &TokenOrKey,
        order: &Order<NodeUser>,
    ) -> Result<(), Failure> {
        let date = httpdate::fmt_http_date(SystemTime::now());
        let authorization = self.credential.authorization(
            credential,
            request.method().as_str(),
            request.uri(),
            &date,
        )?;
        let id = sensitive_header(&order.user.client_request_id)?;
        let headers = request.headers_mut();
        headers.insert(wire::CLIENT_REQUEST_ID, id);
        headers.insert(RETURN_CLIENT_REQUEST_ID, HeaderValue::from_static("true"));
        headers.insert(OCP_DATE, sensitive_header(&date)?);
        headers.insert(AUTHORIZATION, authorization);
        Ok(())
    }

    fn renew(&self, credential: &TokenOrKey, budget: &RetryBudget) -> bool {
        self.credential.refuse(credential, budget)
    }

    fn api_version(&self) -> Option<&'static str> {
        Some(self.api_version.name)
    }

    fn credential_state(&self) -> Option<CredentialState> {
        self.credential.state()
    }

    fn prepare_roots(&self, roots: &config::Roots) -> Result<Vec<Change>, String> {
        Ok(self.credential.prepare_roots(roots)?.into_iter().collect())
    }

    /// Cancels a token request in progress.
    async fn close(&self) {
        self.credential.close().await;
    }
}

/// Returns the query of a request. The time limit makes Azure Batch stop before the deadline of the call. It is left
/// out if the default of Azure Batch is sufficient, as in the first form of the URI in the document.
fn query(version: &ApiVersion, limits: &CallLimits) -> String {
    let ApiVersion {
        name,
        timeout_parameter,
        ..
    } = version;
    let seconds = limits.deadline.remaining().as_secs();
    if seconds >= SERVER_TIMEOUT_SECONDS {
        return [API_VERSION, "=", name].concat();
    }
    let seconds = seconds.max(1).to_string();
    [
        timeout_parameter,
        "=",
        &seconds,
        "&",
        API_VERSION,
        "=",
        name,
    ]
    .concat()
}
