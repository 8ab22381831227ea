//! Maps a response whose status is not that of success to a failure, by a platform's table of rules.

use std::sync::Arc;

use super::response::Response;
use crate::{
    error::{
        Effect, Failure, UpstreamResponse, Violation,
        document::ErrorDocument,
        resource::ResourceNames,
        rule::{RequestPart, Rule, first_match},
    },
    proto::ErrorReason,
};

/// The content of a response that callers may see.
#[derive(Default)]
pub struct ErrorFacts {
    /// Code of the error document. `None` if the body is not an error document of the platform.
    pub code: Option<String>,
    pub document: Option<Arc<dyn ErrorDocument>>,
    pub request_id: Option<String>,
    /// The task that the service's user on the upstream lacks, if that is the cause.
    pub missing_task: Option<&'static str>,
    /// Names of the request headers that the document complains about.
    pub headers: Vec<String>,
    /// Names of the query parameters that the document complains about.
    pub query_parameters: Vec<String>,
    /// Fields of the caller's request that the document complains about.
    pub violations: Vec<Violation>,
}

impl ErrorFacts {
    /// Creates the content of a response with this error document. `document` is `None` if the body is not one.
    pub fn of_document<D: ErrorDocument + 'static>(
        document: Option<D>,
        code: impl Fn(&D) -> String,
    ) -> Self {
        Self {
            code: document.as_ref().map(code),
            document: document.map(|document| Arc::new(document) as _),
            ..Self::default()
        }
    }
}

/// Returns the failure for a response, as the first matching row of the table defines it.
pub fn failure(
    names: &ResourceNames,
    table: &[Rule],
    response: &Response,
    facts: ErrorFacts,
) -> Failure {
    let (status, code) = (response.status, facts.code.as_deref());
    let headers = facts.headers.iter();
    let headers = headers.map(|name| RequestPart::Header(name));
    let parameters = facts.query_parameters.iter();
    let parameters = parameters.map(|name| RequestPart::QueryParameter(name));
    let parts: Vec<_> = headers.chain(parameters).collect();
    let Some(rule) = first_match(table, status, code, &parts) else {
        return Failure::internal("an answer without a rule");
    };
    let mut context = match code {
        Some(code) => format!("{} answered {status}/{code}", names.display_name),
        None => format!(
            "{} answered {status} without its document",
            names.display_name
        ),
    };
    if let Some(task) = facts.missing_task {
        context = format!("{context}: the service's user lacks the task {task}");
    }
    let refused = rule.reason == ErrorReason::UpstreamCredentialsRejected;
    // A wrong clock may have caused the refusal.
    let skew = (refused || matches!(status, 401 | 403)).then(|| response.clock_skew());
    let failure = Failure {
        alternate: rule.alternate,
        repeat: rule.repeat,
        effect: rule.effect,
        target_down: rule.down,
        retry_after: response.retry_after(),
        violations: facts.violations,
        upstream_response: Some(Box::new(UpstreamResponse {
            http_status: status,
            code: facts.code,
            request_id: facts.request_id,
            missing_task: facts.missing_task,
            document: facts.document,
        })),
        ..Failure::new(rule.reason, context)
    };
    failure.with_clock_skew(skew.flatten())
}

/// Returns the failure for a response with the status of success that is not the platform's response to the request, or
/// that cannot be parsed. A DELETE may have been carried out nevertheless.
pub fn not_understood(
    response: &Response,
    request_id: Option<String>,
    context: impl Into<String>,
) -> Failure {
    Failure {
        effect: Effect::Unknown,
        upstream_response: Some(Box::new(UpstreamResponse {
            http_status: response.status,
            request_id,
            ..UpstreamResponse::default()
        })),
        ..Failure::new(ErrorReason::UpstreamProtocolError, context)
    }
}

/// Returns whether the response shows that the upstream accepted the credential and evaluated the request.
pub fn reached_authorization(failure: &Failure) -> bool {
    let upstream_response = failure.upstream_response.as_deref();
    let is_evaluated = !failure.target_down
        && !matches!(
            failure.reason,
            ErrorReason::UpstreamCredentialsRejected | ErrorReason::UpstreamThrottled
        );
    is_evaluated && upstream_response.is_some_and(|response| response.document.is_some())
}
