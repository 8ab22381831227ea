//! The circuit breaker of one target. When at least 20 calls of the last 10 seconds have ended, and more than half of
//! them got no response or one that says 5xx, no call is begun for 5 seconds; then one call probes whether the target is
//! back.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;
use url::Url;

use super::response::RequestError;
use crate::{error::Failure, proto::ErrorReason};

/// Calls that ended this long ago do not count any more. They are forgotten in slots of a second.
const WINDOW: Duration = Duration::from_secs(10);
const SLOT: Duration = Duration::from_secs(1);
/// Fewer calls tell nothing of the target.
const LEAST: u32 = 20;
/// Before the first probe, and before the next one when a probe does not end.
const PAUSE: Duration = Duration::from_secs(5);

/// A target that has not answered within this time is slow.
const FAIR: Duration = Duration::from_secs(1);

/// The breaker.
pub struct Breaker {
    /// Its host, for the log.
    host: String,
    state: Mutex<State>,
    openings: AtomicU64,
}

enum State {
    /// Calls go through, and are counted.
    Closed(Window),
    /// None does but a probe, which may begin at this moment, and so many have.
    Open { probe_at: Instant, probes: u64 },
}

/// How the calls of the last seconds ended, the oldest first.
#[derive(Default)]
struct Window(VecDeque<Slot>);

struct Slot {
    begun: Instant,
    calls: u32,
    failed: u32,
}

impl Window {
    fn note(&mut self, failed: bool, now: Instant) {
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

    fn is_bad(&self) -> bool {
        let calls: u32 = self.0.iter().map(|slot| slot.calls).sum();
        let failed: u32 = self.0.iter().map(|slot| slot.failed).sum();
        calls >= LEAST && failed > calls / 2
    }
}

impl Breaker {
    /// Closed.
    #[must_use]
    pub fn new(url: &Url) -> Self {
        Self {
            host: url.host_str().unwrap_or_default().to_owned(),
            state: Mutex::new(State::Closed(Window::default())),
            openings: AtomicU64::new(0),
        }
    }

    /// Does it let no call through but probes?
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(*self.state(), State::Open { .. })
    }

    /// How often it has opened.
    #[must_use]
    pub fn openings(&self) -> u64 {
        self.openings.load(Ordering::Relaxed)
    }

    /// Lets a call through, or tells that it must not begin.
    pub fn admit(&self) -> Result<Pass<'_>, Failure> {
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
        Ok(Pass {
            breaker: self,
            probe,
            failed: None,
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        crate::lock(&self.state)
    }

    /// A call that was let through has ended: did it fail? `None` when the target was not asked.
    fn ended(&self, probe: Option<u64>, failed: Option<bool>) {
        let now = Instant::now();
        let mut state = self.state();
        match (&mut *state, failed) {
            (State::Closed(window), Some(failed)) => {
                window.note(failed, now);
                // What was good before a fault is forgotten first: that makes no success a reason to open.
                if failed && window.is_bad() {
                    *state = State::Open {
                        probe_at: now + PAUSE,
                        probes: 0,
                    };
                    self.openings.fetch_add(1, Ordering::Relaxed);
                    tracing::warn!(upstream = self.host, "the circuit breaker has opened");
                }
            }
            (State::Open { .. }, Some(false)) if probe.is_some() => {
                *state = State::Closed(Window::default());
                tracing::info!(upstream = self.host, "the circuit breaker has closed");
            }
            (State::Open { probe_at, .. }, Some(true)) if probe.is_some() => {
                *probe_at = now + PAUSE;
            }
            // It has proven nothing: the next call may, if no other probe is on its way.
            (State::Open { probe_at, probes }, None) if probe == Some(*probes) => *probe_at = now,
            // It began before the breaker opened, or was not asked.
            _ => {}
        }
    }
}

/// A call that was let through. When it is dropped the call has ended.
pub struct Pass<'a> {
    breaker: &'a Breaker,
    /// Its number, if it is one.
    probe: Option<u64>,
    failed: Option<bool>,
}

impl Pass<'_> {
    /// Records a response, and whether it means that the target is down. The last response of a call counts.
    pub fn note_response(&mut self, down: bool) {
        self.failed = Some(down);
    }

    /// Records that a request got no response within this time. A short time says more about the caller's deadline than
    /// about the target.
    pub fn note_error(&mut self, error: &RequestError, took: Duration) {
        self.failed = match error {
            RequestError::TimedOut | RequestError::NotConnected if took < FAIR => None,
            _ => Some(true),
        };
    }

    /// Records that the target did not issue a credential. A call that ran out of time says nothing about the target,
    /// whatever it received before.
    pub fn note_no_credential(&mut self, failure: &Failure) {
        self.failed = failure.target_down.then_some(true);
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        self.breaker.ended(self.probe, self.failed);
    }
}
