//! The Azure Batch service: `GET` a node or a pool, `DELETE` a user of a node, in five versions of the API.
//!
//! This module defines the order of the checks. The checks, the state of the account and the format of responses are in
//! submodules.

mod auth;
mod checks;
mod codes;
mod fixtures;
mod formatter;
mod query;
mod reply;
mod shared_key;
mod state;

use std::sync::Arc;

use axum::Router;
use axum::extract::{self, Request};
use axum::response::Response;
use http::Method;
use serde::Serialize;
use serde_json::{Map, Value, json};

use self::auth::Gate;
use self::checks::Target;
use self::fixtures::{Node, POOL_USER, SILENT};
use self::reply::{Exchange, Fault};
use self::state::State;
use crate::credentials::Credentials;
use crate::entra::Tokens;
use crate::net::{Counters, Incoming, increment};

/// State of the simulated Batch account.
pub(super) struct Batch {
    gate: Gate,
    state: State,
    counters: Arc<Counters>,
}

pub(super) fn router(
    credentials: Arc<Credentials>,
    tokens: Arc<Tokens>,
    counters: Arc<Counters>,
) -> Router {
    let batch = Batch {
        gate: Gate::new(credentials, tokens),
        state: State::default(),
        counters,
    };
    Router::new().fallback(handle).with_state(Arc::new(batch))
}

async fn handle(extract::State(batch): extract::State<Arc<Batch>>, request: Request) -> Response {
    increment(&batch.counters.batch_requests);
    if request.method() == Method::DELETE {
        increment(&batch.counters.batch_deletes);
    }
    let call = Incoming::read(request).await;
    let exchange = Exchange::new(&call);
    match batch.serve(&call, &exchange) {
        Ok(Some(response)) => response,
        Ok(None) => std::future::pending().await,
        Err(fault) => exchange.fault(&fault),
    }
}

impl Batch {
    /// Validates a request and executes it. Returns `None` if the request must not receive a response.
    fn serve(&self, call: &Incoming, exchange: &Exchange) -> Result<Option<Response>, Fault> {
        if call.header("host").is_none_or(str::is_empty) {
            return Err(Fault::new("HostInformationNotPresent"));
        }
        let target = checks::target(call)?;
        query::check(call, &target)?;
        checks::headers(call)?;
        self.gate.check(call)?;
        if call.has_body() {
            let too_large = call.body.is_none();
            return Err(Fault::new(if too_large {
                "RequestBodyTooLarge"
            } else {
                "InvalidRequestBody"
            }));
        }
        match target {
            Target::Pool { pool } => {
                let pool = state::pool(&pool)?;
                Ok(Some(exchange.document(&pool_document(
                    call,
                    &exchange.origin,
                    pool.id,
                ))))
            }
            Target::Node { pool, node } => {
                let node = state::node(&pool, &node)?;
                let document = node_document(call, &exchange.origin, &pool, node);
                Ok(Some(exchange.document(&document)))
            }
            Target::User { pool, node, user } => {
                let responses = user != SILENT;
                self.state.delete_user(&pool, &node, &user)?;
                Ok(responses.then(|| exchange.empty()))
            }
        }
    }
}

/// The JSON document of a node or a pool.
#[derive(Serialize)]
struct ResourceDocument {
    #[serde(rename = "odata.metadata")]
    metadata: String,
    #[serde(flatten)]
    properties: Map<String, Value>,
}

fn pool_document(call: &Incoming, origin: &str, id: &str) -> ResourceDocument {
    let all = json!({
        "id": id,
        "url": format!("{origin}/pools/{id}"),
        "state": "active",
        "allocationState": "steady",
        "vmSize": "standard_d1_v2",
        "userAccounts": [{ "name": POOL_USER, "elevationLevel": "nonadmin" }],
    });
    selected(call, format!("{origin}/$metadata#pools/@Element"), all)
}

fn node_document(call: &Incoming, origin: &str, pool: &str, node: &Node) -> ResourceDocument {
    let started = "2024-11-20T17:40:02.1538311Z";
    let running = u8::from(node.state == "running");
    let all = json!({
        "id": node.id,
        "url": format!("{origin}/pools/{pool}/nodes/{}", node.id),
        "state": node.state,
        "schedulingState": "enabled",
        "stateTransitionTime": started,
        "lastBootTime": started,
        "allocationTime": "2024-11-20T17:38:11.4470562Z",
        "ipAddress": "10.0.0.4",
        "affinityId": format!("TVM:{}", node.id),
        "vmSize": "standard_d1_v2",
        "totalTasksRun": running,
        "runningTasksCount": running,
        "runningTaskSlotsCount": running,
        "totalTasksSucceeded": 0,
        "isDedicated": node.state != "preempted",
        "nodeAgentInfo": { "version": "1.12.2.0", "lastUpdateTime": started },
    });
    selected(call, format!("{origin}/$metadata#nodes/@Element"), all)
}

/// Returns a document with these properties. If the request has the parameter `$select`, it contains only the
/// selected ones.
fn selected(call: &Incoming, metadata: String, all: Value) -> ResourceDocument {
    let mut properties = if let Value::Object(all) = all {
        all
    } else {
        Map::new()
    };
    let mut pairs = call.query_pairs().into_iter().flatten();
    if let Some((_, expected)) = pairs.find(|(name, _)| name.eq_ignore_ascii_case("$select")) {
        properties.retain(|name, _| expected.split(',').any(|item| item.trim() == name));
    }
    ResourceDocument {
        metadata,
        properties,
    }
}
