//! The retry budget of one target. It prevents retries from multiplying the load of an upstream that fails.

use std::{sync::Mutex, time::Duration};

use tokio::time::Instant;

/// A retry budget of at most 10 tokens. A retry costs one token; each call adds 0.2 tokens, and each second adds 1.
///
/// Since a second adds one token, the tokens are stored as a duration, which keeps their fractions exact.
pub struct RetryBudget(Mutex<(Duration, Instant)>);

impl RetryBudget {
    const TOKEN: Duration = Duration::from_secs(1);
    const CALL: Duration = Duration::from_millis(200);
    const MAX: Duration = Duration::from_secs(10);

    /// Adds the tokens of one call.
    pub fn deposit(&self) {
        self.update(|tokens| (tokens + Self::CALL, ()));
    }

    /// Takes a token for a retry. Returns false if there is less than one.
    pub fn withdraw(&self) -> bool {
        self.update(|tokens| match tokens.checked_sub(Self::TOKEN) {
            Some(rest) => (rest, true),
            None => (tokens, false),
        })
    }

    /// Returns the number of tokens, with their fraction.
    pub fn tokens(&self) -> f64 {
        self.update(|tokens| (tokens, tokens.as_secs_f64() / Self::TOKEN.as_secs_f64()))
    }

    fn update<T>(&self, apply: impl FnOnce(Duration) -> (Duration, T)) -> T {
        let mut state = crate::lock(&self.0);
        let now = Instant::now();
        let gained = now.duration_since(state.1);
        let (tokens, result) = apply((state.0 + gained).min(Self::MAX));
        *state = (tokens.min(Self::MAX), now);
        result
    }
}

/// Creates a full budget.
impl Default for RetryBudget {
    fn default() -> Self {
        Self(Mutex::new((Self::MAX, Instant::now())))
    }
}
