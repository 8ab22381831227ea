//! The state of each target: faulty, recovering or healthy.

use std::{
    sync::{Mutex, MutexGuard},
    time::{Duration, Instant},
};

use crate::{
    environment::TARGETS,
    load::{CANCELLED, CallResult, LATE},
};

/// Number of consecutive successful calls after which a recovering target is healthy.
const STREAK: u32 = 20;

/// Recovery times of a target, measured from the end of a fault.
#[derive(Clone, Copy, Debug)]
pub struct Recovery {
    /// Time until the first successful call ended.
    pub first: Duration,
    /// Time until the first call of the first 20 consecutive successful calls ended.
    pub full: Duration,
}

enum Phase {
    Faulty,
    /// Only calls that began after `since` are evaluated.
    Recovering {
        since: Instant,
        first: Option<Duration>,
        streak: u32,
        streak_at: Duration,
    },
    Healthy {
        since: Instant,
        recovery: Option<Recovery>,
    },
}

/// The state of all targets.
pub struct Health {
    targets: [Mutex<Phase>; TARGETS.len()],
    /// Calls that failed although their target was healthy, each with the faults active at that time.
    relapses: Mutex<Vec<(CallResult, String)>>,
    /// Description of the active faults.
    window: Mutex<String>,
}

impl Health {
    /// Creates the state with all targets healthy.
    pub fn new() -> Self {
        let healthy = || {
            Mutex::new(Phase::Healthy {
                since: Instant::now(),
                recovery: None,
            })
        };
        Self {
            targets: TARGETS.map(|_| healthy()),
            relapses: Mutex::default(),
            window: Mutex::default(),
        }
    }

    fn target(&self, target: usize) -> MutexGuard<'_, Phase> {
        self.targets[target].lock().unwrap()
    }

    /// Marks a target as faulty.
    pub fn fault(&self, target: usize) {
        *self.target(target) = Phase::Faulty;
    }

    /// Marks a target as recovering, when its fault has ended.
    pub fn restore(&self, target: usize) {
        *self.target(target) = Phase::Recovering {
            since: Instant::now(),
            first: None,
            streak: 0,
            streak_at: Duration::ZERO,
        };
    }

    /// Returns the recovery times after the last fault. `None` if the target is not healthy or had no fault.
    pub fn recovery(&self, target: usize) -> Option<Recovery> {
        match &*self.target(target) {
            Phase::Healthy { recovery, .. } => *recovery,
            _ => None,
        }
    }

    /// Sets the description of the active faults.
    pub fn set_window(&self, text: String) {
        *self.window.lock().unwrap() = text;
    }

    /// Returns the calls that failed although their target was healthy, each with the faults active at that time.
    pub fn relapses(&self) -> Vec<(CallResult, String)> {
        self.relapses.lock().unwrap().clone()
    }

    /// Updates the state of the target with the result of a call.
    pub fn record(&self, result: &CallResult) {
        if [CANCELLED, LATE].contains(&result.outcome) {
            return;
        }
        let mut phase = self.target(result.target);
        match &mut *phase {
            Phase::Recovering {
                since,
                first,
                streak,
                streak_at,
            } if result.started >= *since => {
                if !result.is_expected() {
                    *streak = 0;
                    return;
                }
                let after = result.ended() - *since;
                let first = *first.get_or_insert(after);
                if *streak == 0 {
                    *streak_at = after;
                }
                *streak += 1;
                if *streak >= STREAK {
                    let full = *streak_at;
                    *phase = Phase::Healthy {
                        since: Instant::now(),
                        recovery: Some(Recovery { first, full }),
                    };
                }
            }
            Phase::Healthy { since, .. } if result.started >= *since && !result.is_expected() => {
                let window = self.window.lock().unwrap().clone();
                self.relapses.lock().unwrap().push((*result, window));
            }
            _ => {}
        }
    }
}
