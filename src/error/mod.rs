//! What went wrong, as facts, and the one way from facts to an answer:
//! `Failure` -> [`recipe`] -> [`status`]. Knows the generated proto and nothing else of this crate.

pub mod document;
pub mod recipe;
pub mod resource;
pub mod rule;
pub mod status;

use std::{sync::Arc, time::Duration};

use self::document::ErrorDocument;
use crate::proto::ErrorReason;

/// The domain of every `ErrorInfo`.
pub const DOMAIN: &str = "useradmin.v1.UserAdmin";

/// What became of the DELETEs of a call, from best known to least known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// No DELETE left this server.
    #[default]
    NotSent,
    /// The upstream surely did not delete.
    NotDeleted,
    /// A DELETE left, and nobody knows whether it was carried out.
    Unknown,
}

impl Effect {
    /// The value of the metadata key `outcome`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotSent => "not_sent",
            Self::NotDeleted => "not_deleted",
            Self::Unknown => "unknown",
        }
    }
}

/// Whether this service may repeat the request by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// The answer is final.
    Never,
    /// After a pause, within the retry budget.
    Backoff,
    /// Once, at once, with renewed credentials.
    Renew,
    /// By one request for all who wait for the same: it costs nothing of the retry budget.
    Together,
}

/// Which of a reason's canonical codes applies: a few reasons have a second one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The reason's own code.
    Usual,
    /// The second code, [`recipe::Alternate`].
    Alternate,
}

/// A request field that breaks its rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Proto field name.
    pub field: &'static str,
    /// The rule in words; never the offending value.
    pub description: &'static str,
}

/// What an upstream answered, as far as callers may see it.
#[derive(Clone, Debug, Default)]
pub struct Answered {
    /// The status line.
    pub http_status: u16,
    /// `BatchError` code, or the HMC reason number in decimal.
    pub code: Option<String>,
    /// The upstream's `request-id` header (Azure Batch only).
    pub request_id: Option<String>,
    /// The upstream's own error document, if the body was one.
    pub document: Option<Arc<dyn ErrorDocument>>,
}

/// One failure, as facts. The external text comes from the recipe; `context` is for the log alone.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The documented reason.
    pub reason: ErrorReason,
    /// Which code of that reason.
    pub form: Form,
    /// May this service repeat the request?
    pub repeat: Repeat,
    /// What became of the request that failed.
    pub effect: Effect,
    /// The upstream's `Retry-After`, already within its bounds.
    pub retry_after: Option<Duration>,
    /// Fields that break their rule.
    pub violations: Vec<Violation>,
    /// The upstream's answer, when there was a status line.
    pub answered: Option<Box<Answered>>,
    /// Why a caller has no identity, or why the server has no access token: a word of a fixed list.
    pub cause: Option<&'static str>,
    /// The number of the `AADSTS` error with which Microsoft Entra refused a token.
    pub aadsts_code: Option<u32>,
    /// By how many seconds the clock of the upstream that refused the credentials is ahead of this machine's.
    pub clock_skew: Option<i64>,
    /// Whether the answer means that the target is down, and counts as a failure for its circuit breaker.
    pub target_down: bool,
    /// For operators; never leaves the server.
    pub context: String,
}

impl Failure {
    /// A failure before anything was sent that deletes; not to be repeated.
    #[must_use]
    pub fn new(reason: ErrorReason, context: impl Into<String>) -> Self {
        Self {
            reason,
            form: Form::Usual,
            repeat: Repeat::Never,
            effect: Effect::NotSent,
            retry_after: None,
            violations: Vec::new(),
            answered: None,
            cause: None,
            aadsts_code: None,
            clock_skew: None,
            target_down: false,
            context: context.into(),
        }
    }

    /// A call without an accepted identity.
    #[must_use]
    pub fn unidentified(cause: &'static str) -> Self {
        Self {
            cause: Some(cause),
            ..Self::new(ErrorReason::CallerUnauthenticated, cause)
        }
    }

    /// A request that breaks field rules.
    #[must_use]
    pub fn invalid(violations: Vec<Violation>) -> Self {
        Self {
            violations,
            ..Self::new(ErrorReason::InvalidRequest, "field rules")
        }
    }

    /// A fault of our own: something that cannot happen.
    #[must_use]
    pub fn internal(context: impl Into<String>) -> Self {
        Self::new(ErrorReason::Internal, context)
    }

    /// The upstream's `request-id`, or an empty text.
    #[must_use]
    pub fn upstream_request_id(&self) -> &str {
        let answered = self.answered.as_deref();
        let id = answered.and_then(|answered| answered.request_id.as_deref());
        id.unwrap_or_default()
    }

    /// The same failure, allowed to be repeated.
    #[must_use]
    pub fn repeatable(mut self) -> Self {
        self.repeat = Repeat::Backoff;
        self
    }

    /// The same failure, which a clock that is wrong by this many seconds may have caused.
    #[must_use]
    pub fn with_clock_skew(mut self, skew: Option<i64>) -> Self {
        if let Some(seconds) = skew {
            let direction = if seconds > 0 { "ahead of" } else { "behind" };
            let difference = seconds.unsigned_abs();
            let context = &self.context;
            self.context = format!(
                "{context}; the upstream's clock is {difference} s {direction} this machine's"
            );
        }
        self.clock_skew = skew;
        self
    }

    /// The same failure with its reason's second code.
    #[must_use]
    pub fn alternate(mut self) -> Self {
        self.form = Form::Alternate;
        self
    }

    /// The same failure of a request that deletes nothing, whatever became of it.
    #[must_use]
    pub fn of_a_read(mut self) -> Self {
        self.effect = Effect::NotSent;
        // What remains of "timed out, outcome unknown" is that the upstream could not serve it.
        if self.reason == ErrorReason::UpstreamTimedOut {
            self.reason = ErrorReason::UpstreamUnavailable;
        }
        self
    }
}
