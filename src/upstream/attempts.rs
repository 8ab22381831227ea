//! Counts the DELETEs of one call, and keeps their least certain effect.

use super::call_limits::CallLimits;
use crate::{
    error::{Effect, Failure},
    proto::ErrorReason,
};

/// Maximum number of DELETEs of one call, and of tries of a read.
pub const MAX_ATTEMPTS: u32 = 3;

/// The attempts of one call.
#[derive(Clone, Debug, Default)]
pub struct Attempts {
    count: u32,
    effect: Effect,
    renewed: bool,
    /// The failure of the last DELETE, if it got a status line.
    last_response: Option<Failure>,
}

impl Attempts {
    /// Returns the number of DELETEs that were started.
    pub const fn count(&self) -> u32 {
        self.count
    }

    /// Returns the least certain effect of all attempts that failed.
    pub const fn effect(&self) -> Effect {
        self.effect
    }

    /// Returns whether the effect of an attempt is not known.
    pub fn is_ambiguous(&self) -> bool {
        self.effect == Effect::Unknown
    }

    /// Starts the next DELETE.
    pub fn start(&mut self, limits: &CallLimits) -> Result<(), Failure> {
        limits.check("beginning a DELETE")?;
        self.count += 1;
        limits.count_delete();
        Ok(())
    }

    /// Records that a DELETE failed.
    pub fn record_failure(&mut self, failure: &Failure) {
        self.effect = self.effect.max(failure.effect);
        self.last_response = failure.upstream_response.is_some().then(|| failure.clone());
    }

    /// Returns whether the credential may be renewed. That happens once in a call.
    pub fn may_renew(&mut self) -> bool {
        !std::mem::replace(&mut self.renewed, true)
    }

    /// Returns the failure to report. An unknown effect is never hidden behind a failure that came after it.
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
}
