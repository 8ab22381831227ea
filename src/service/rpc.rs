//! The trait that each rpc implements, and the handler of all rpcs.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use tonic::{Request, Response, Status};

use super::{
    Shared,
    call_context::CallContext,
    operation::{DeleteRequest, Finished, Operation, RequestFields},
    validate::Validation,
};
use crate::{
    audit::Case,
    error::Failure,
    proto::{DeleteOutcome, ErrorReason},
    upstream::{
        call_limits::CallLimits,
        platform::{Order, Platform},
        registry::{Registered, Targets},
        run::RunReport,
        target::Target,
    },
};

/// Name of the caller in the upstream's own log if the user of a recorded call is read.
const RECONCILIATION: &str = "reconciliation";

/// The user to delete, as the request of the rpc identifies it.
pub type User<R> = <<R as Rpc>::Platform as Platform>::User;
/// The facts that were read about the user from the rpc's platform.
pub type UserFacts<R> = <<R as Rpc>::Platform as Platform>::UserFacts;

/// An rpc that deletes users of one platform.
pub trait Rpc: Sized + 'static {
    /// Name of the rpc in the proto file.
    const NAME: &'static str;
    type Request: Send + 'static;
    type Response: Send + 'static;
    type Platform: Registered;

    /// Returns the alias of the target, which may be empty.
    fn alias(request: &Self::Request) -> &str;

    /// Checks the other fields. Returns the user, and the fields for the pipeline.
    fn parse(request: Self::Request, validation: &mut Validation) -> (User<Self>, RequestFields);

    /// Returns the user of a recorded call, or `None` if the record does not identify it. Called only if the platform
    /// reads users.
    fn recorded_user(case: &Case) -> Option<User<Self>>;

    /// Returns the response of a call that succeeded.
    fn response(
        outcome: DeleteOutcome,
        user: User<Self>,
        report: RunReport<UserFacts<Self>>,
    ) -> Self::Response;
}

pub(super) fn handle<R: Rpc>(
    shared: Arc<Shared>,
    request: Request<R::Request>,
) -> BoxFuture<'static, Result<Response<R::Response>, Status>> {
    let call = CallContext::of(request.extensions());
    let request = request.into_inner();
    let names = R::Platform::NAMES;
    let group = R::Platform::group(&shared.targets);
    let mut validation = Validation::default();
    let alias = R::alias(&request);
    let alias_omitted = alias.is_empty();
    let alias = validation.alias(names.alias_key(), alias, group.aliases());
    let (user, fields) = R::parse(request, &mut validation);
    let target = group.get(&alias).cloned();
    let acts_for_caller = target
        .as_ref()
        .is_some_and(|target| target.platform.acts_for_caller());
    let token = call.user_token().ok().filter(|_| acts_for_caller);
    // Boxed, because the futures of the call are moved with it.
    let order = Box::new(Order {
        user,
        validate_only: fields.validate_only,
        allow_missing: fields.allow_missing,
        request_id: Arc::clone(&call.request_id),
        caller: call.caller_name(),
        caller_token: token.cloned(),
    });
    let protects = |target: &Arc<Target<_>>| fields.is_name && target.protects(&fields.user);
    let request = DeleteRequest {
        rpc: R::NAME,
        names,
        alias,
        alias_omitted,
        outcomes: target.as_ref().map(|target| target.outcomes.clone()),
        acts_for_caller,
        protected: target.as_ref().is_some_and(protects),
        fields,
        validation,
    };
    let operation = Operation::new(shared, call, request);
    let work = target.map(|target| move |limits| delete::<R>(target, order, limits));
    operation.run(work)
}

/// Runs an order on its target, and returns the result for the pipeline.
async fn delete<R: Rpc>(
    target: Arc<Target<R::Platform>>,
    order: Box<Order<User<R>>>,
    limits: CallLimits,
) -> Finished<R::Response> {
    let (result, report) = target.run(&order, &limits).await;
    Finished {
        user_name: R::Platform::name(&order, &report.found).to_owned(),
        attempts: report.attempts.clone(),
        identifiers: R::Platform::identifiers(&report.found),
        upstream_request_id: report.upstream_request_id.clone(),
        result: result.map(|outcome| (R::response(outcome, order.user, report), outcome)),
    }
}

/// Reads the user of a recorded call, as a call with `validate_only` does.
pub(super) async fn read_user<R: Rpc>(
    targets: &Targets,
    case: &Case,
    limits: &CallLimits,
) -> Result<DeleteOutcome, Failure> {
    let target = R::Platform::group(targets).get(case.target());
    let target = target.ok_or_else(|| Failure::new(ErrorReason::UnknownTarget, "alias"))?;
    let user = R::recorded_user(case);
    let unidentified = || Failure::new(ErrorReason::InvalidRequest, "a record without a user");
    let order = Order {
        user: user.ok_or_else(unidentified)?,
        validate_only: true,
        allow_missing: false,
        request_id: case.request_id().into(),
        caller: RECONCILIATION.into(),
        // No caller waits. A target that is called under the identities of callers is therefore not read.
        caller_token: None,
    };
    target.run(&order, limits).await.0
}
