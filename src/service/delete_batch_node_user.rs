//! `DeleteBatchNodeUser`: what is particular to it.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::{
    Shared,
    call::{Finished, Subject, Trace, Work},
    meta::{CallMeta, new_id},
    pipeline,
    targets::AZURE_BATCH,
    validate::Checked,
};
use crate::{
    error::Failure,
    proto::{DeleteBatchNodeUserRequest, DeleteBatchNodeUserResponse},
    upstream::{
        attempt::Ledger,
        azure_batch::{Action, NodeUser},
    },
};

/// Handles a call.
pub async fn handle(
    shared: Arc<Shared>,
    request: Request<DeleteBatchNodeUserRequest>,
) -> Result<Response<DeleteBatchNodeUserResponse>, Status> {
    let meta = CallMeta::of_read(request.extensions());
    let mut request = request.into_inner();
    let mut subject = subject(&shared, &request);
    let callers_id = !request.client_request_id.is_empty();
    if !callers_id {
        request.client_request_id = new_id();
    }
    subject
        .client_request_id
        .clone_from(&request.client_request_id);
    let account = shared.targets.batch_accounts.get(&subject.target);
    let exists = account.is_some();
    let protected = account.is_some_and(|account| account.protects(&request.user_name));
    pipeline::run(shared, meta, subject, exists, protected, move |work| {
        delete(work, request, callers_id)
    })
    .await
}

fn subject(shared: &Shared, request: &DeleteBatchNodeUserRequest) -> Subject {
    let mut checked = Checked::default();
    let aliases = shared.targets.batch_accounts.keys();
    let target = checked.alias("account", &request.account, aliases);
    checked.pool_id("pool_id", &request.pool_id);
    checked.node_id("node_id", &request.node_id);
    checked.user_name("user_name", &request.user_name);
    checked.client_request_id("client_request_id", &request.client_request_id);
    Subject {
        rpc: "DeleteBatchNodeUser",
        upstream: AZURE_BATCH,
        target,
        alias_is_ours: request.account.is_empty(),
        pool: Some(request.pool_id.clone()),
        user: request.user_name.clone(),
        checked,
        validate_only: request.validate_only,
        client_request_id: String::new(),
    }
}

async fn delete(
    work: Work,
    request: DeleteBatchNodeUserRequest,
    callers_id: bool,
) -> Finished<DeleteBatchNodeUserResponse> {
    let Some(account) = work.shared.targets.batch_accounts.get(&work.target) else {
        return Finished {
            result: Err(Failure::internal("the target has gone")),
            ledger: Ledger::default(),
            learned: Vec::new(),
            trace: Trace::default(),
        };
    };
    let user = NodeUser {
        pool_id: request.pool_id,
        node_id: request.node_id,
        user_name: request.user_name,
        client_request_id: request.client_request_id,
        callers_id,
    };
    let action = if request.validate_only {
        Action::CheckNode
    } else {
        Action::Delete {
            allow_missing: request.allow_missing,
        }
    };
    let concluded = account.upstream.call(&user, action, &work.limits).await;
    let attempts = concluded.ledger.attempts();
    let trace = Trace {
        client_request_id: user.client_request_id.clone(),
        upstream_request_id: match &concluded.result {
            Ok(done) => done.request_id.clone(),
            Err(failure) => failure.upstream_request_id().to_owned(),
        },
    };
    let result = concluded.result.map(|done| {
        let response = DeleteBatchNodeUserResponse {
            outcome: done.outcome.into(),
            request_id: done.request_id,
            client_request_id: user.client_request_id,
            attempts,
        };
        (response, done.outcome)
    });
    Finished {
        result,
        ledger: concluded.ledger,
        learned: Vec::new(),
        trace,
    }
}
