//! The trait of an rpc, and the handler of all of them.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::{
    Shared,
    call_context::CallContext,
    operation::{Admitted, DeleteRequest, Finished, UpstreamIds},
    pipeline,
    validate::Checked,
};
use crate::{
    error::Failure,
    proto::DeleteOutcome,
    upstream::{
        platform::{Order, Platform},
        registry::Registered,
        target::Conclusion,
    },
};

/// A request whose fields have been read.
pub struct Parsed<U> {
    pub user: U,
    /// The user as the request names it, for the records.
    pub shown: String,
    /// The user's name, if the request has it.
    pub name: Option<String>,
    /// The pool, if the platform has pools.
    pub pool: Option<String>,
    /// Whether the request is only checked, and nothing is deleted.
    pub validate_only: bool,
    /// Whether a missing user is a success.
    pub allow_missing: bool,
    /// `client-request-id` that is sent, or an empty string if the platform has none.
    pub client_request_id: String,
}

pub type User<R> = <<R as Rpc>::Platform as Platform>::User;
/// The type for a user that the rpc's platform has found.
pub type Found<R> = <<R as Rpc>::Platform as Platform>::Found;

pub trait Rpc: 'static {
    /// Its name in the proto file.
    const NAME: &'static str;
    type Request: Send + 'static;
    type Response: Send + 'static;
    /// The platform that it deletes users of.
    type Platform: Registered;

    /// Returns the alias of the target, which may be empty.
    fn alias(request: &Self::Request) -> &str;

    /// Checks and reads the other fields.
    fn parse(request: Self::Request, checked: &mut Checked) -> Parsed<User<Self>>
    where
        Self: Sized;

    /// Returns the response of a call that succeeded.
    fn response(
        outcome: DeleteOutcome,
        user: User<Self>,
        conclusion: Conclusion<Found<Self>>,
    ) -> Self::Response
    where
        Self: Sized;
}

pub async fn handle<R: Rpc>(
    shared: Arc<Shared>,
    request: Request<R::Request>,
) -> Result<Response<R::Response>, Status> {
    let call = CallContext::message_received(request.extensions());
    let request = request.into_inner();
    let names = R::Platform::NAMES;
    let group = R::Platform::group(&shared.targets);
    let mut checked = Checked::default();
    let alias = R::alias(&request);
    let alias_is_ours = alias.is_empty();
    let alias = checked.alias(names.alias_key(), alias, group.aliases());
    let target = group.get(&alias).cloned();
    let parsed = R::parse(request, &mut checked);
    let protected = match (&target, &parsed.name) {
        (Some(target), Some(name)) => target.protects(name),
        _ => false,
    };
    let request = DeleteRequest {
        rpc: R::NAME,
        names,
        alias,
        alias_is_ours,
        pool: parsed.pool.clone(),
        user: parsed.shown.clone(),
        checked,
        validate_only: parsed.validate_only,
        protected,
        client_request_id: parsed.client_request_id.clone(),
    };
    let work = target.map(|target| {
        move |work: Admitted| async move {
            let order = Order {
                user: parsed.user,
                validate_only: parsed.validate_only,
                allow_missing: parsed.allow_missing,
                request_id: work.request_id,
                caller: work.caller,
            };
            let (result, conclusion) = target.run(&order, &work.limits).await;
            finish::<R>(order, parsed.client_request_id, result, conclusion)
        }
    });
    pipeline::run(shared, call, request, work).await
}

fn finish<R: Rpc>(
    order: Order<User<R>>,
    client_request_id: String,
    result: Result<DeleteOutcome, Failure>,
    conclusion: Conclusion<Found<R>>,
) -> Finished<R::Response> {
    let upstream_ids = UpstreamIds {
        client_request_id,
        upstream_request_id: conclusion.upstream_request_id.clone(),
    };
    let user_name = R::Platform::name(&order, &conclusion.found).to_owned();
    let attempts = conclusion.attempts.clone();
    let identifiers = R::Platform::identifiers(&conclusion.found);
    let result = result.map(|outcome| (R::response(outcome, order.user, conclusion), outcome));
    Finished {
        result,
        user_name,
        attempts,
        identifiers,
        upstream_ids,
    }
}
