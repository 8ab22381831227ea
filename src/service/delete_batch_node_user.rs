//! `DeleteBatchNodeUser`.

use super::{
    call_context::new_id,
    operation::RequestFields,
    rpc::{Rpc, User, UserFacts},
    validate::Validation,
};
use crate::{
    audit::Case,
    proto::{
        BatchNodeUserValidation, DeleteBatchNodeUserRequest, DeleteBatchNodeUserResponse,
        DeleteOutcome,
    },
    upstream::{
        azure_batch::{AzureBatch, NodeUser},
        run::RunReport,
    },
};

pub struct DeleteBatchNodeUser;

impl Rpc for DeleteBatchNodeUser {
    const NAME: &'static str = "DeleteBatchNodeUser";
    type Request = DeleteBatchNodeUserRequest;
    type Response = DeleteBatchNodeUserResponse;
    type Platform = AzureBatch;

    fn alias(request: &Self::Request) -> &str {
        &request.account
    }

    fn parse(request: Self::Request, validation: &mut Validation) -> (NodeUser, RequestFields) {
        validation.pool_id("pool_id", &request.pool_id);
        validation.node_id("node_id", &request.node_id);
        validation.user_name("user_name", &request.user_name);
        validation.client_request_id("client_request_id", &request.client_request_id);
        let id_is_from_caller = !request.client_request_id.is_empty();
        let client_request_id = if id_is_from_caller {
            request.client_request_id
        } else {
            new_id()
        };
        let fields = RequestFields {
            user: request.user_name.clone(),
            is_name: true,
            pool: Some(request.pool_id.clone()),
            validate_only: request.validate_only,
            allow_missing: request.allow_missing,
            client_request_id: client_request_id.clone(),
        };
        let user = NodeUser {
            pool_id: request.pool_id,
            node_id: request.node_id,
            user_name: request.user_name,
            client_request_id,
            id_is_from_caller,
        };
        (user, fields)
    }

    fn recorded_user(_case: &Case) -> Option<User<Self>> {
        None
    }

    fn response(
        outcome: DeleteOutcome,
        user: User<Self>,
        report: RunReport<UserFacts<Self>>,
    ) -> Self::Response {
        DeleteBatchNodeUserResponse {
            outcome: outcome.into(),
            request_id: report.upstream_request_id,
            client_request_id: user.client_request_id,
            attempts: report.attempts.count(),
            validation: (outcome == DeleteOutcome::Validated).then_some(BatchNodeUserValidation {
                node_state: report.found.state,
                defined_by_pool: report.found.defined_by_pool,
            }),
        }
    }
}
