//! The circuit breaker of one target. It opens if at least 20 calls ended in the last 10 seconds and more than half
//! of them got no response, or got a response that means that the target is down. It then rejects all calls for 5
//! seconds. After that it admits one call at a time as a probe, and closes when a probe succeeds.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use super::response::RequestError;
use crate::{error::Failure, metrics::TargetName, proto::ErrorReason as R};
use tokio::time::Instant;

/// Period whose calls are counted. It consists of slots of [`SLOT`].
const WINDOW: Duration = Duration::from_secs(10);
const SLOT: Duration = Duration::from_secs(1);
/// Number of calls in the window below which the breaker does not open.
const MIN_CALLS: u32 = 20;
/// Time from the opening of the breaker to the first probe, from the start of an unfinished probe to the next one,
/// and from the failure of a probe to the next one.
const PAUSE: Duration = Duration::from_secs(5);

/// Shortest time without a response that counts as a failure of the target. An earlier timeout does not count.
const MIN_WAIT: Duration = Duration::from_secs(1);

/// The circuit breaker of one target.
pub struct Breaker {
    target: TargetName,
    state: Mutex<State>,
    openings: AtomicU64,
}

enum State {
    /// All calls are admitted.
    Closed(Window),
    /// Only probes are admitted: the earliest time of the next one, and the number that were started.
    Open { probe_at: Instant, probes: u64 },
}

/// The calls that ended within [`WINDOW`], in slots from the oldest to the newest.
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

    pub fn openings(&self) -> u64 {
        self.openings.load(Ordering::Relaxed)
    }

    /// Admits a call, possibly as a probe. Fails with `CIRCUIT_OPEN` if the breaker rejects the call.
    pub fn admit(&self) -> Result<BreakerPermit<'_>, Failure> {
        let mut probe = None;
        if let State::Open { probe_at, probes } = &mut *self.state() {
            let now = Instant::now();
            if now < *probe_at {
                return Err(Failure::new(R::CircuitOpen, "the breaker is open"));
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

    /// Records the end of an admitted call. `failed` is `None` if the call does not show whether the target is down.
    fn ended(&self, probe: Option<u64>, failed: Option<bool>) {
        let now = Instant::now();
        let TargetName { upstream, target } = &self.target;
        let mut state = self.state();
        match (&mut *state, failed) {
            (State::Closed(window), Some(failed)) => {
                window.record(failed, now);
                // A success must not open the breaker, although older successes leave the window before newer failures.
                if failed && window.exceeds_failure_ratio() {
                    *state = State::Open {
                        probe_at: now + PAUSE,
                        probes: 0,
                    };
                    self.openings.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!(target = &**target, upstream, "circuit breaker opened");
                }
            }
            (State::Open { .. }, Some(false)) if probe.is_some() => {
                *state = State::Closed(Window::default());
                tracing::info!(target = &**target, upstream, "circuit breaker closed");
            }
            (State::Open { probe_at, .. }, Some(true)) if probe.is_some() => {
                *probe_at = now + PAUSE;
            }
            // The probe had no result. The next call becomes a probe at once, unless another probe was started since.
            (State::Open { probe_at, probes }, None) if probe == Some(*probes) => *probe_at = now,
            // The call was admitted before the breaker opened, or does not show whether the target is down.
            _ => {}
        }
    }
}

/// An admitted call. Dropping the permit ends the call.
pub struct BreakerPermit<'a> {
    breaker: &'a Breaker,
    /// Number of the probe, or `None` if the call is not a probe.
    probe: Option<u64>,
    failed: Option<bool>,
}

impl BreakerPermit<'_> {
    /// Records a response, and whether it means that the target is down. Only the last response of a call counts.
    pub fn record_response(&mut self, down: bool) {
        self.failed = Some(down);
    }

    /// Returns whether the last request counts as a failure of the target, or `None` if it does not count.
    pub fn result(&self) -> Option<bool> {
        self.failed
    }

    /// Sets whether the call counts as a failure of the target. Used for a result that [`Self::result`] returned, so
    /// that later requests do not count.
    pub fn set_result(&mut self, failed: Option<bool>) {
        self.failed = failed;
    }

    /// Records that a request got no response within the time `took`. A timeout after less than a second does not
    /// count as a failure of the target, because it is caused by the short deadline of the caller.
    pub fn record_error(&mut self, error: &RequestError, took: Duration) {
        self.failed = match error {
            RequestError::TimedOut | RequestError::NotConnected if took < MIN_WAIT => None,
            _ => Some(true),
        };
    }

    /// Records that the target did not issue a credential. If the failure does not mean that the target is down, as
    /// when the deadline of the call passed, the call does not count, whatever its earlier requests showed.
    pub fn record_credential_failure(&mut self, failure: &Failure) {
        self.failed = failure.target_down.then_some(true);
    }
}

impl Drop for BreakerPermit<'_> {
    fn drop(&mut self) {
        self.breaker.ended(self.probe, self.failed);
    }
}
