//! Decides whether a failed request is repeated, and waits before the repetition.

use std::time::Duration;

use rand::RngExt as _;
use tokio::time::sleep;

use super::{
    attempts::{Attempts, MAX_ATTEMPTS},
    call_limits::CallLimits,
    deadline::MIN_ATTEMPT,
    retry_budget::RetryBudget,
};
use crate::error::{Failure, Repeat};

/// Upper bound of the first pause. The bound doubles with each further failure.
const FIRST_PAUSE: Duration = Duration::from_millis(200);

pub struct Retries<'a> {
    failed: u32,
    limits: &'a CallLimits,
    budget: &'a RetryBudget,
}

impl<'a> Retries<'a> {
    pub const fn new(limits: &'a CallLimits, budget: &'a RetryBudget) -> Self {
        Self {
            failed: 0,
            limits,
            budget,
        }
    }

    /// Waits until the request may be repeated. If it is not repeated, returns the failure to report.
    pub async fn wait(&mut self, attempts: &mut Attempts, failure: Failure) -> Result<(), Failure> {
        let pause = match failure.repeat {
            Repeat::Never => None,
            Repeat::Renew => (attempts.count() < MAX_ATTEMPTS).then_some(Duration::ZERO),
            Repeat::Backoff | Repeat::Coalesced => {
                self.failed += 1;
                self.pause(&failure, attempts)
            }
        };
        let Some(pause) = pause else {
            return Err(attempts.conclude(failure));
        };
        if !pause.is_zero() {
            let _ended_early = self.limits.bound(sleep(pause)).await;
        }
        match (self.limits.check("between attempts"), failure.repeat) {
            (Ok(()), _) => Ok(()),
            // No time was left for a request with renewed credentials. The exceeded deadline is reported, because one
            // refusal does not prove that the credentials are wrong.
            (Err(late), Repeat::Renew) if !self.limits.is_disconnected() => {
                Err(attempts.conclude(late))
            }
            (Err(_), _) => Err(attempts.conclude(failure)),
        }
    }

    /// Returns the pause before the next attempt, or `None` if the request must not be repeated.
    fn pause(&self, failure: &Failure, attempts: &Attempts) -> Option<Duration> {
        let limits = self.limits;
        if self.failed >= MAX_ATTEMPTS
            || attempts.count() >= MAX_ATTEMPTS
            || limits.is_disconnected()
        {
            return None;
        }
        let ceiling = FIRST_PAUSE * 2_u32.pow(self.failed - 1);
        let jitter = ceiling.mul_f64(rand::rng().random_range(0.0..1.0));
        let coalesced = failure.repeat == Repeat::Coalesced;
        let pause = match failure.retry_after {
            Some(asked) => asked + jitter / 10,
            // The credential cache itself pauses between shared renewals.
            None if coalesced => Duration::ZERO,
            None => jitter,
        };
        let fits = limits.deadline.remaining() >= pause + MIN_ATTEMPT;
        (fits && (coalesced || self.budget.withdraw())).then_some(pause)
    }
}
