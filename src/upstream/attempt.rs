//! The attempts of one call: how many DELETEs were begun, what became of them, and when to try again.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use rand::RngExt as _;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::deadline::Deadline;
use crate::{
    error::{Failure, Fate, Repeat},
    proto::ErrorReason,
};

/// Most DELETEs of one call, and most tries of a read.
pub const MAX_ATTEMPTS: u32 = 3;

const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// The book of one call's DELETEs.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    attempts: u32,
    outcome: Fate,
    renewed: bool,
    /// The last DELETE's failure, if it got a status line.
    last_answer: Option<Failure>,
}

impl Ledger {
    /// DELETEs begun.
    #[must_use]
    pub const fn attempts(&self) -> u32 {
        self.attempts
    }

    /// The worst fate of all attempts.
    #[must_use]
    pub const fn outcome(&self) -> Fate {
        self.outcome
    }

    /// Was there an attempt whose fate is not known?
    #[must_use]
    pub fn ambiguous(&self) -> bool {
        self.outcome == Fate::Unknown
    }

    /// Opens the next DELETE.
    pub fn begin(&mut self, limits: &Limits) -> Result<(), Failure> {
        limits.check("beginning a DELETE")?;
        self.attempts += 1;
        limits.begun.store(self.attempts, Ordering::SeqCst);
        Ok(())
    }

    /// Closes a DELETE that failed.
    pub fn settle(&mut self, failure: &Failure) {
        self.outcome = self.outcome.max(failure.fate);
        self.last_answer = failure.answered.is_some().then(|| failure.clone());
    }

    /// May credentials be renewed once more in this call?
    pub fn may_renew(&mut self) -> bool {
        !std::mem::replace(&mut self.renewed, true)
    }

    /// The failure to report: an unknown fate is never hidden behind what failed after it.
    fn conclude(&mut self, failure: Failure) -> Failure {
        let of_a_delete = failure.answered.is_some() && failure.fate != Fate::NotSent;
        if !self.ambiguous() || of_a_delete || failure.reason == ErrorReason::OutcomeUnknown {
            return failure;
        }
        if let Some(answer) = self.last_answer.take() {
            return answer;
        }
        let time_ran_out = failure.reason == ErrorReason::DeadlineExceeded;
        let unknown = Failure {
            fate: Fate::Unknown,
            retry_after: None,
            ..Failure::new(ErrorReason::OutcomeUnknown, failure.context)
        };
        if time_ran_out {
            unknown.alternate()
        } else {
            unknown
        }
    }
}

/// What bounds a call.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The call's deadline.
    pub deadline: Deadline,
    /// Cancelled when the caller has gone: then no new attempt is begun.
    pub gone: CancellationToken,
    /// DELETEs begun, for whoever has lost the ledger.
    pub begun: Arc<AtomicU32>,
}

impl From<Deadline> for Limits {
    fn from(deadline: Deadline) -> Self {
        Self {
            deadline,
            gone: CancellationToken::new(),
            begun: Arc::default(),
        }
    }
}

impl Limits {
    /// Waits for `work`, but not beyond the deadline, nor for a caller who has gone.
    pub async fn bound<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            done = self.deadline.bound(work) => done,
            () = self.gone.cancelled() => None,
        }
    }

    /// Is there time, and somebody who waits?
    pub fn check(&self, what: &str) -> Result<(), Failure> {
        if self.gone.is_cancelled() {
            return Err(Deadline::exceeded("the caller has gone"));
        }
        if !self.deadline.allows_attempt() {
            return Err(Deadline::exceeded(what));
        }
        Ok(())
    }
}

/// The retry budget of one target: 10 tokens, one a retry; 0.2 back for each call and 1 for each second.
pub struct Budget(Mutex<(Duration, Instant)>);

/// Since a second brings one token, tokens are counted as time: exactly, and with their parts.
impl Budget {
    const TOKEN: Duration = Duration::from_secs(1);
    const CALL: Duration = Duration::from_millis(200);
    const CAP: Duration = Duration::from_secs(10);

    /// Full.
    #[must_use]
    pub fn new() -> Self {
        Self(Mutex::new((Self::CAP, Instant::now())))
    }

    /// Notes a call.
    pub fn call(&self) {
        self.change(|tokens| (tokens + Self::CALL, true));
    }

    /// Takes a token for a retry.
    pub fn take(&self) -> bool {
        self.change(|tokens| match tokens.checked_sub(Self::TOKEN) {
            Some(rest) => (rest, true),
            None => (tokens, false),
        })
    }

    /// Retries that there may be now.
    #[must_use]
    pub fn left(&self) -> f64 {
        let state = *crate::lock(&self.0);
        let gained = Instant::now().duration_since(state.1);
        let tokens = (state.0 + gained).min(Self::CAP);
        tokens.as_secs_f64() / Self::TOKEN.as_secs_f64()
    }

    fn change(&self, apply: impl FnOnce(Duration) -> (Duration, bool)) -> bool {
        let mut state = crate::lock(&self.0);
        let now = Instant::now();
        let gained = now.duration_since(state.1);
        let (tokens, answer) = apply((state.0 + gained).min(Self::CAP));
        *state = (tokens.min(Self::CAP), now);
        answer
    }
}

impl Default for Budget {
    fn default() -> Self {
        Self::new()
    }
}

/// The tries of one request: asked after each failure whether there is to be another one.
pub struct Tries<'a> {
    failed: u32,
    limits: &'a Limits,
    budget: &'a Budget,
}

impl<'a> Tries<'a> {
    /// None yet.
    #[must_use]
    pub const fn new(limits: &'a Limits, budget: &'a Budget) -> Self {
        Self {
            failed: 0,
            limits,
            budget,
        }
    }

    /// Returns when the request is to be repeated, after the pause that is due; else the failure to report.
    pub async fn again(&mut self, ledger: &mut Ledger, failure: Failure) -> Result<(), Failure> {
        let pause = match failure.repeat {
            Repeat::Never => None,
            Repeat::Renew => (ledger.attempts < MAX_ATTEMPTS).then_some(Duration::ZERO),
            Repeat::Backoff | Repeat::Together => {
                self.failed += 1;
                self.pause(&failure, ledger)
            }
        };
        let Some(pause) = pause else {
            return Err(ledger.conclude(failure));
        };
        if !pause.is_zero() {
            let _ended_early = self.limits.bound(sleep(pause)).await;
        }
        match (self.limits.check("between attempts"), failure.repeat) {
            (Ok(()), _) => Ok(()),
            // One refusal is no verdict on the credentials: there was no time to renew them.
            (Err(late), Repeat::Renew) if !self.limits.gone.is_cancelled() => {
                Err(ledger.conclude(late))
            }
            (Err(_), _) => Err(ledger.conclude(failure)),
        }
    }

    /// How long to wait before the next try; `None` when there must not be one.
    fn pause(&self, failure: &Failure, ledger: &Ledger) -> Option<Duration> {
        let limits = self.limits;
        if self.failed >= MAX_ATTEMPTS
            || ledger.attempts >= MAX_ATTEMPTS
            || limits.gone.is_cancelled()
        {
            return None;
        }
        let ceiling = FIRST_PAUSE * 2_u32.pow(self.failed - 1);
        let jitter = ceiling.mul_f64(rand::rng().random_range(0.0..1.0));
        let together = failure.repeat == Repeat::Together;
        let pause = match failure.retry_after {
            Some(asked) => asked + jitter / 10,
            // Whatever all wait for has a pause of its own.
            None if together => Duration::ZERO,
            None => jitter,
        };
        let fits = limits.deadline.remaining() >= pause + super::deadline::MIN_ATTEMPT;
        (fits && (together || self.budget.take())).then_some(pause)
    }
}
