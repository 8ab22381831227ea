//! Maps an answer without the status of success to a failure, by a platform's table of rules.

use std::sync::Arc;

use super::http::Answer;
use crate::{
    error::{
        Answered, Failure, Violation,
        document::ErrorDocument,
        resource::ResourceNames,
        rule::{Rule, decide},
    },
    proto::ErrorReason,
};

/// What an answer says in the platform's own words, as far as callers may see it.
#[derive(Default)]
pub struct ErrorFacts {
    /// Code of the error document. `None` if the body is not the platform's error document.
    pub code: Option<String>,
    /// The error document.
    pub document: Option<Arc<dyn ErrorDocument>>,
    /// The platform's ID of the answer.
    pub request_id: Option<String>,
    /// Headers of the request that the document complains about.
    pub headers: Vec<String>,
    /// Fields of the caller's request that the document complains about.
    pub violations: Vec<Violation>,
}

/// Returns the failure that the first matching row of the table makes of an answer.
#[must_use]
pub fn failure(
    names: &ResourceNames,
    table: &[Rule],
    answer: &Answer,
    facts: ErrorFacts,
) -> Failure {
    let (status, code) = (answer.status, facts.code.as_deref());
    let headers: Vec<_> = facts.headers.iter().map(String::as_str).collect();
    let Some(rule) = decide(table, status, code, &headers) else {
        return Failure::internal("an answer without a rule");
    };
    let context = match code {
        Some(code) => format!("{} answered {status}/{code}", names.title),
        None => format!("{} answered {status} without its document", names.title),
    };
    let refused = rule.reason == ErrorReason::UpstreamCredentialsRejected;
    // A wrong clock may be the cause of a refusal.
    let skew = (refused || matches!(status, 401 | 403)).then(|| answer.clock_skew());
    let failure = Failure {
        form: rule.form,
        repeat: rule.repeat,
        fate: rule.fate,
        target_down: rule.down,
        retry_after: answer.retry_after(),
        violations: facts.violations,
        answered: Some(Box::new(Answered {
            http_status: status,
            code: facts.code,
            request_id: facts.request_id,
            document: facts.document,
        })),
        ..Failure::new(rule.reason, context)
    };
    failure.with_clock_skew(skew.flatten())
}
