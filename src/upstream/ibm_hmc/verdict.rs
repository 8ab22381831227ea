//! What an answer of the HMC means: the table's row, and the details that callers may see.

use super::{rules::HmcRule, wire};
use crate::{
    error::{Answered, Failure, UpstreamError, rule::decide},
    proto::ErrorReason,
    upstream::{hidden::Hidden, http::Answer, refusal_skew},
};

/// An answer that is not the success. What is `hidden` is never passed on.
pub fn failure(table: &'static [HmcRule], answer: &Answer, hidden: &Hidden<'_>) -> Failure {
    let error = wire::error(answer, hidden);
    let code = error.as_ref().map(|error| error.reason);
    let Some(rule) = decide(table, answer.status, code, &[]) else {
        return Failure::internal("an answer without a rule");
    };
    let context = match code {
        Some(reason) => format!("the HMC answered {}/{reason}", answer.status),
        None => format!("the HMC answered {} without its document", answer.status),
    };
    let failure = Failure {
        form: rule.form,
        repeat: rule.repeat,
        fate: rule.fate,
        retry_after: answer.retry_after(),
        answered: Some(Box::new(Answered {
            http_status: answer.status,
            code: code.map(|reason| reason.to_string()),
            request_id: None,
            error: error.map(UpstreamError::Hmc),
        })),
        ..Failure::new(rule.reason, context)
    };
    let skew = refusal_skew(answer, failure.reason);
    failure.with_clock_skew(skew)
}

/// A 200 that does not describe a user.
pub fn not_understood(answer: &Answer) -> Failure {
    Failure {
        answered: Some(Box::new(Answered {
            http_status: answer.status,
            ..Answered::default()
        })),
        ..Failure::new(
            ErrorReason::UpstreamProtocolError,
            "the HMC's description of the user was not understood",
        )
    }
}
