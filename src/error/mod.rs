//! Failures of calls, and their conversion to a gRPC status: a [`Failure`] has a reason, the [`recipe`] of the reason
//! defines the code and the details, and [`status`] builds the status. This module depends on the generated proto
//! only.

pub mod document;
pub mod recipe;
pub mod resource;
pub mod rule;
pub mod status;

use std::{sync::Arc, time::Duration};

use self::document::ErrorDocument;
use crate::proto::ErrorReason;

/// Minimum retry delay that a response suggests when a quota is used up.
const MIN_QUOTA_DELAY: Duration = Duration::from_secs(1);

pub const DOMAIN: &str = "useradmin.v1.UserAdmin";

/// Effect of the DELETEs of a call. The variants are ordered from the most certain effect to the least certain one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// No DELETE was sent.
    #[default]
    NotSent,
    /// The upstream did not delete the user.
    NotDeleted,
    /// A DELETE was sent, and it is not known whether it was carried out.
    Unknown,
}

impl Effect {
    /// Returns the value of the metadata key `outcome`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotSent => "not_sent",
            Self::NotDeleted => "not_deleted",
            Self::Unknown => "unknown",
        }
    }
}

/// How the server repeats a failed request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    Never,
    /// The request is repeated after a pause, within the retry budget.
    Backoff,
    /// The request is repeated once, immediately, with a renewed credential.
    Renew,
    /// The request is repeated after a renewal that waiting calls share, and costs no token of the retry budget.
    Coalesced,
}

/// A request field that breaks its rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Name of the field in the proto.
    pub field: &'static str,
    /// The rule that the field breaks. The text never contains the value of the field.
    pub description: &'static str,
}

/// The response of an upstream, without secrets.
#[derive(Clone, Debug, Default)]
pub struct UpstreamResponse {
    pub http_status: u16,
    /// `BatchError` code, or the HMC reason number in decimal.
    pub code: Option<String>,
    /// The upstream's own ID of the response.
    pub request_id: Option<String>,
    /// The task that the service's user on the upstream lacks, if the upstream refused the request because of that.
    pub missing_task: Option<&'static str>,
    /// The upstream's own error document, or `None` if the body was not one.
    pub document: Option<Arc<dyn ErrorDocument>>,
}

/// Facts about a refusal of credentials. Few failures have any.
#[derive(Clone, Debug, Default)]
pub struct CredentialRefusal {
    /// The number of the `AADSTS` error with which Microsoft Entra refused a token.
    pub aadsts_code: Option<u32>,
    /// The claims that Microsoft Entra requires in a new token of the caller, as JSON of at most 1,024 printable ASCII
    /// characters.
    pub claims: Option<String>,
    /// Seconds by which the clock of an upstream that refused the credentials is ahead of this machine's clock.
    /// Negative if the upstream's clock is behind; `None` if the difference is small or unknown.
    pub clock_skew: Option<i64>,
}

/// A failure of a call or of one request. The recipe of its reason contains the message for the caller; `context` is
/// only logged.
#[derive(Clone, Debug)]
pub struct Failure {
    pub reason: ErrorReason,
    /// Whether the second code of the reason applies, [`recipe::Alternate`].
    pub alternate: bool,
    pub repeat: Repeat,
    /// Effect of the failed request on the user.
    pub effect: Effect,
    /// The upstream's `Retry-After`, clamped to 1-60 seconds.
    pub retry_after: Option<Duration>,
    pub violations: Vec<Violation>,
    pub upstream_response: Option<Box<UpstreamResponse>>,
    /// The value of the metadata key `cause`: why the caller could not be authenticated, or why the server has no
    /// credential. The possible values are a fixed list.
    pub cause: Option<&'static str>,
    /// Facts about refused credentials; `None` if there are none.
    pub refusal: Option<Box<CredentialRefusal>>,
    /// Whether the failure means that the target is down. Such a failure counts for the target's circuit breaker.
    pub target_down: bool,
    /// Explanation for operators, which is only logged.
    pub context: String,
}

impl Failure {
    /// Creates a failure that occurred before a DELETE was sent. The request is not repeated.
    pub fn new(reason: ErrorReason, context: impl Into<String>) -> Self {
        Self {
            reason,
            alternate: false,
            repeat: Repeat::Never,
            effect: Effect::NotSent,
            retry_after: None,
            violations: Vec::new(),
            upstream_response: None,
            cause: None,
            refusal: None,
            target_down: false,
            context: context.into(),
        }
    }

    /// Creates the failure of a call whose caller could not be authenticated.
    pub fn unidentified(cause: &'static str) -> Self {
        Self {
            cause: Some(cause),
            ..Self::new(ErrorReason::CallerUnauthenticated, cause)
        }
    }

    /// Creates the failure of a call whose caller has no deletion left in its quota for this time.
    pub fn over_quota(wait: Duration) -> Self {
        Self {
            retry_after: Some(wait.max(MIN_QUOTA_DELAY)),
            ..Self::new(ErrorReason::DeleteQuotaExceeded, "quota")
        }
    }

    /// Creates the failure of a request that breaks field rules.
    pub fn invalid(violations: Vec<Violation>) -> Self {
        Self {
            violations,
            ..Self::new(ErrorReason::InvalidRequest, "field rules")
        }
    }

    /// Creates the failure of a request to a target that is down. The request is repeated after a pause.
    pub fn target_down(reason: ErrorReason, context: impl Into<String>) -> Self {
        Self {
            target_down: true,
            ..Self::new(reason, context).repeatable()
        }
    }

    /// Creates a failure that is caused by a defect of this server.
    pub fn internal(context: impl Into<String>) -> Self {
        Self::new(ErrorReason::Internal, context)
    }

    /// Returns the upstream's own ID of the response, or an empty string if it has none.
    pub fn upstream_request_id(&self) -> &str {
        let upstream_response = self.upstream_response.as_deref();
        let id = upstream_response.and_then(|response| response.request_id.as_deref());
        id.unwrap_or_default()
    }

    /// Lets the server repeat the request after a pause.
    pub fn repeatable(mut self) -> Self {
        self.repeat = Repeat::Backoff;
        self
    }

    /// Adds by how many seconds the upstream's clock is ahead, since wrong clocks may have caused the failure.
    pub fn with_clock_skew(mut self, skew: Option<i64>) -> Self {
        if let Some(seconds) = skew {
            let direction = if seconds > 0 { "ahead of" } else { "behind" };
            let difference = seconds.unsigned_abs();
            let context = &self.context;
            self.context = format!(
                "{context}; the upstream's clock is {difference} s {direction} this machine's"
            );
            self.refusal.get_or_insert_default().clock_skew = skew;
        }
        self
    }

    /// Adds the number of an `AADSTS` error.
    pub fn with_aadsts_code(mut self, code: Option<u32>) -> Self {
        if code.is_some() {
            self.refusal.get_or_insert_default().aadsts_code = code;
        }
        self
    }

    /// Adds the claims that a new token of the caller must have.
    pub fn with_claims(mut self, claims: Option<String>) -> Self {
        if claims.is_some() {
            self.refusal.get_or_insert_default().claims = claims;
        }
        self
    }

    /// Returns the number of the `AADSTS` error with which Microsoft Entra refused a token.
    pub fn aadsts_code(&self) -> Option<u32> {
        self.refusal.as_deref()?.aadsts_code
    }

    /// Selects the second code of the reason.
    pub fn alternate(mut self) -> Self {
        self.alternate = true;
        self
    }

    /// Converts the failure of a DELETE to that of a request that deletes nothing.
    pub fn for_read(mut self) -> Self {
        self.effect = Effect::NotSent;
        // The message of UPSTREAM_TIMED_OUT states that it is not known whether the user was deleted.
        if self.reason == ErrorReason::UpstreamTimedOut {
            self.reason = ErrorReason::UpstreamUnavailable;
        }
        self
    }
}
