//! How each target is: with a fault, on the way back from one, or healthy.

use std::{
    sync::{Mutex, MutexGuard},
    time::{Duration, Instant},
};

use crate::{
    environment::TARGETS,
    load::{LATE, LEFT, Told},
};

/// So many good calls in a row are health.
const STREAK: u32 = 20;

/// When it was well again, after the end of a fault.
#[derive(Clone, Copy, Debug)]
pub struct Recovery {
    /// The first good call ended.
    pub first: Duration,
    /// The first good call of the first 20 in a row ended.
    pub full: Duration,
}

enum Phase {
    Faulty,
    /// Only calls that have begun since then count.
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

/// Of all targets.
pub struct Health {
    targets: [Mutex<Phase>; TARGETS.len()],
    /// Calls that failed although their target was healthy, and what was wrong elsewhere.
    relapses: Mutex<Vec<(Told, String)>>,
    window: Mutex<String>,
}

impl Health {
    /// All of them are healthy.
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

    /// A fault begins.
    pub fn fault(&self, target: usize) {
        *self.target(target) = Phase::Faulty;
    }

    /// The fault has ended.
    pub fn mend(&self, target: usize) {
        *self.target(target) = Phase::Recovering {
            since: Instant::now(),
            first: None,
            streak: 0,
            streak_at: Duration::ZERO,
        };
    }

    /// Since its last fault; `None` while it is not healthy.
    pub fn recovery(&self, target: usize) -> Option<Recovery> {
        match &*self.target(target) {
            Phase::Healthy { recovery, .. } => *recovery,
            _ => None,
        }
    }

    /// What goes wrong now, in words.
    pub fn set_window(&self, text: String) {
        *self.window.lock().unwrap() = text;
    }

    /// Calls that failed although their target was healthy, and what was wrong elsewhere.
    pub fn relapses(&self) -> Vec<(Told, String)> {
        self.relapses.lock().unwrap().clone()
    }

    /// A call has ended.
    pub fn note(&self, told: &Told) {
        if [LEFT, LATE].contains(&told.outcome) {
            return;
        }
        let mut phase = self.target(told.target);
        match &mut *phase {
            Phase::Recovering {
                since,
                first,
                streak,
                streak_at,
            } if told.begun >= *since => {
                if !told.is_good() {
                    *streak = 0;
                    return;
                }
                let after = told.ended() - *since;
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
            Phase::Healthy { since, .. } if told.begun >= *since && !told.is_good() => {
                let window = self.window.lock().unwrap().clone();
                self.relapses.lock().unwrap().push((*told, window));
            }
            _ => {}
        }
    }
}
