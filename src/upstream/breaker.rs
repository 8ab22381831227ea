//! The circuit breaker of one target. It opens if at least 20 calls ended in the last 10 seconds and more than half of
//! them got no response, or a response that means that the target is down. It then rejects all calls for 5 seconds, and
//! after that admits one call at a time as a probe until a probe succeeds.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::response::RequestError;
use crate::{error::Failure, metrics::TargetName, proto::ErrorReason};
use tokio::time::Instant;

/// Period whose calls are counted, in slots of [`SLOT`].
const WINDOW: Duration = Duration::from_secs(10);
const SLOT: Duration = Duration::from_secs(1);
/// Number of calls in the window below which the breaker does not open.
const MIN_CALLS: u32 = 20;
/// Time from opening to the first probe, and from a probe without a result to the next one.
const PAUSE: Duration = Duration::from_secs(5);

/// A timeout after less than this time does not count as a failure of the target.
const MIN_WAIT: Duration = Duration::from_secs(1);

/// The circuit breaker of one target.
pub struct Breaker {
    /// The target, for the log.
    target: TargetName,
    state: Mutex<State>,
    openings: AtomicU64,
}

enum State {
    /// All calls are admitted.
    Closed(Window),
    /// Only probes are admitted: the earliest time of the next one, and the number of probes that were started.
    Open { probe_at: Instant, probes: u64 },
}

/// The calls that ended in the last seconds, in slots from the oldest to the newest.
#[derive(Default)]
struct Window(VecDeque<Slot>);

struct Slot {
    begun: Instant,
    calls: u32,
    failed: u32,
}

impl Window {
    fn record(&mut self, failed: bool, now: Instant) {
        while self
            .0
            .front()
            .is_some_and(|slot| now - slot.begun >= WINDOW)
        {
            self.0.pop_front();
        }
        let new = Slot {
            begun: now,
            calls: 1,
            failed: failed.into(),
        };
        match self.0.back_mut() {
            Some(slot) if now - slot.begun < SLOT => {
                slot.calls += new.calls;
                slot.failed += new.failed;
            }
            _ => self.0.push_back(new),
        }
    }

    fn exceeds_failure_ratio(&self) -> bool {
        let calls: u32 = self.0.iter().map(|slot| slot.calls).sum();
        let failed: u32 = self.0.iter().map(|slot| slot.failed).sum();
        calls >= MIN_CALLS && failed > calls / 2
    }
}

impl Breaker {
    /// Creates a closed breaker for this target.
    pub fn new(target: TargetName) -> Self {
        Self {
            target,
            state: Mutex::new(State::Closed(Window::default())),
            openings: AtomicU64::new(0),
        }
    }

    /// Returns whether only probes are admitted.
    pub fn is_open(&self) -> bool {
        matches!(*self.state(), State::Open { .. })
    }

    /// Returns the number of times that the breaker has opened.
    pub fn openings(&self) -> u64 {
        self.openings.load(Ordering::Relaxed)
    }

    /// Admits a call, or returns the failure of a call that is rejected.
    pub fn admit(&self) -> Result<BreakerPermit<'_>, Failure> {
        let mut probe = None;
        if let State::Open { probe_at, probes } = &mut *self.state() {
            let now = Instant::now();
            if now < *probe_at {
                return Err(Failure::new(
                    ErrorReason::CircuitOpen,
                    "the breaker is open",
                ));
            }
            *probe_at = now + PAUSE;
            *probes += 1;
            probe = Some(*probes);
        }
        Ok(BreakerPermit {
            breaker: self,
            probe,
            failed: None,
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        crate::lock(&self.state)
    }

    /// Records the end of an admitted call. `failed` is `None` if the call says nothing about the target.
    fn ended(&self, probe: Option<u64>, failed: Option<bool>) {
        let now = Instant::now();
        let mut state = self.state();
        match (&mut *state, failed) {
            (State::Closed(window), Some(failed)) => {
                window.record(failed, now);
                // Old successes leave the window first. A success must not open the breaker because of that.
                if failed && window.exceeds_failure_ratio() {
                    *state = State::Open {
                        probe_at: now + PAUSE,
                        probes: 0,
                    };
                    self.openings.fetch_add(1, Ordering::Relaxed);
                    let TargetName { upstream, target } = &self.target;
                    let target = &**target;
                    tracing::warn!(target, upstream, "circuit breaker opened");
                }
            }
            (State::Open { .. }, Some(false)) if probe.is_some() => {
                *state = State::Closed(Window::default());
                let TargetName { upstream, target } = &self.target;
                let target = &**target;
                tracing::info!(target, upstream, "circuit breaker closed");
            }
            (State::Open { probe_at, .. }, Some(true)) if probe.is_some() => {
                *probe_at = now + PAUSE;
            }
            // The probe had no result. The next call is a probe, unless another probe was started since.
            (State::Open { probe_at, probes }, None) if probe == Some(*probes) => *probe_at = now,
            // The call was admitted before the breaker opened, or says nothing about the target.
            _ => {}
        }
    }
}

/// An admitted call. Dropping the permit ends the call.
pub struct BreakerPermit<'a> {
    breaker: &'a Breaker,
    /// Number of the probe, if the call is one.
    probe: Option<u64>,
    failed: Option<bool>,
}

impl BreakerPermit<'_> {
    /// Records a response, and whether it means that the target is down. The last response of a call counts.
    pub fn record_response(&mut self, down: bool) {
        self.failed = Some(down);
    }

    /// Records that a request got no response within this time. A short time says more about the caller's deadline than
    /// about the target.
    pub fn record_error(&mut self, error: &RequestError, took: Duration) {
        self.failed = match error {
            RequestError::TimedOut | RequestError::NotConnected if took < MIN_WAIT => None,
            _ => Some(true),
        };
    }

    /// Records that the target did not issue a credential. A call that ran out of time says nothing about the target,
    /// whatever it received before.
    pub fn record_credential_failure(&mut self, failure: &Failure) {
        self.failed = failure.target_down.then_some(true);
    }
}

impl Drop for BreakerPermit<'_> {
    fn drop(&mut self) {
        self.breaker.ended(self.probe, self.failed);
    }
}
