//! `DeleteBatchNodeUser`.

use super::{
    call_context::new_id,
    rpc::{Found, Parsed, Rpc, User},
    validate::Checked,
};
use crate::{
    proto::{DeleteBatchNodeUserRequest, DeleteBatchNodeUserResponse, DeleteOutcome},
    upstream::{
        azure_batch::{AzureBatch, NodeUser},
        target::Conclusion,
    },
};

/// The rpc.
pub struct DeleteBatchNodeUser;

impl Rpc for DeleteBatchNodeUser {
    const NAME: &'static str = "DeleteBatchNodeUser";
    type Request = DeleteBatchNodeUserRequest;
    type Response = DeleteBatchNodeUserResponse;
    type Platform = AzureBatch;

    fn alias(request: &Self::Request) -> &str {
        &request.account
    }

    fn parse(request: Self::Request, checked: &mut Checked) -> Parsed<NodeUser> {
        checked.pool_id("pool_id", &request.pool_id);
        checked.node_id("node_id", &request.node_id);
        checked.user_name("user_name", &request.user_name);
        checked.client_request_id("client_request_id", &request.client_request_id);
        let callers_id = !request.client_request_id.is_empty();
        let client_request_id = if callers_id {
            request.client_request_id
        } else {
            new_id()
        };
        Parsed {
            shown: request.user_name.clone(),
            name: Some(request.user_name.clone()),
            pool: Some(request.pool_id.clone()),
            validate_only: request.validate_only,
            allow_missing: request.allow_missing,
            client_request_id: client_request_id.clone(),
            user: NodeUser {
                pool_id: request.pool_id,
                node_id: request.node_id,
                user_name: request.user_name,
                client_request_id,
                callers_id,
            },
        }
    }

    fn response(
        outcome: DeleteOutcome,
        user: User<Self>,
        conclusion: Conclusion<Found<Self>>,
    ) -> Self::Response {
        DeleteBatchNodeUserResponse {
            outcome: outcome.into(),
            request_id: conclusion.upstream_request_id,
            client_request_id: user.client_request_id,
            attempts: conclusion.attempts.count(),
        }
    }
}
