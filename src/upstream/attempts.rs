//! Counts the DELETEs of one call, and records their least certain effect.

use super::call_limits::CallLimits;
use crate::{
    error::{Effect, Failure},
    proto::ErrorReason,
};

/// Maximum number of DELETEs of one call. It also limits the attempts of a read, except one with renewed credentials.
pub const MAX_ATTEMPTS: u32 = 3;

#[derive(Clone, Debug, Default)]
pub struct Attempts {
    count: u32,
    effect: Effect,
    renewed: bool,
    /// Whether the user was read after a DELETE with an unknown effect, and was still there.
    pub user_was_present: bool,
    /// The failure of the last failed DELETE, or `None` if it got no status line.
    last_response: Option<Failure>,
}

impl Attempts {
    pub const fn count(&self) -> u32 {
        self.count
    }

    /// Returns the least certain effect of all DELETEs that failed.
    pub const fn effect(&self) -> Effect {
        self.effect
    }

    /// Returns whether the effect of a DELETE is unknown.
    pub fn is_ambiguous(&self) -> bool {
        self.effect == Effect::Unknown
    }

    /// Counts the next DELETE. Fails if the caller has disconnected or too little time is left.
    pub fn start(&mut self, limits: &CallLimits) -> Result<(), Failure> {
        limits.check("beginning a DELETE")?;
        self.count += 1;
        limits.count_delete();
        Ok(())
    }

    /// Records the effect and the response of a DELETE that failed.
    pub fn record_failure(&mut self, failure: &Failure) {
        self.effect = self.effect.max(failure.effect);
        self.last_response = failure.upstream_response.is_some().then(|| failure.clone());
    }

    /// Returns whether the credential may be renewed. Returns true only once in a call.
    pub fn may_renew(&mut self) -> bool {
        !std::mem::replace(&mut self.renewed, true)
    }

    /// Returns the failure to report if `failure` ends the call. If the effect of a DELETE is unknown, a later
    /// failure without a response to a DELETE does not hide that.
    pub(super) fn conclude(&mut self, failure: Failure) -> Failure {
        let of_a_delete = failure.upstream_response.is_some() && failure.effect != Effect::NotSent;
        if !self.is_ambiguous() || of_a_delete || failure.reason == ErrorReason::OutcomeUnknown {
            return failure;
        }
        if let Some(response) = self.last_response.take() {
            return response;
        }
        let timed_out = failure.reason == ErrorReason::DeadlineExceeded;
        let unknown = Failure {
            effect: Effect::Unknown,
            retry_after: None,
            ..Failure::new(ErrorReason::OutcomeUnknown, failure.context)
        };
        if timed_out {
            unknown.alternate()
        } else {
            unknown
        }
    }

    /// Corrects the failure of a call whose deadline has passed only because the server stops.
    pub fn explain_stop(&self, failure: &mut Failure) {
        let context = "the server stopped before the response";
        match failure.reason {
            ErrorReason::DeadlineExceeded if self.count == 0 => {
                *failure = Failure::new(ErrorReason::ShuttingDown, context);
            }
            ErrorReason::OutcomeUnknown if failure.alternate => {
                context.clone_into(&mut failure.context);
            }
            _ => {}
        }
    }
}
