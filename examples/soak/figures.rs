//! Statistics of call durations.

use std::{fmt, time::Duration};

/// Sorted durations.
pub struct Times(Vec<Duration>);

impl FromIterator<Duration> for Times {
    fn from_iter<I: IntoIterator<Item = Duration>>(times: I) -> Self {
        let mut times: Vec<_> = times.into_iter().collect();
        times.sort_unstable();
        Self(times)
    }
}

impl Times {
    pub const fn count(&self) -> usize {
        self.0.len()
    }

    /// Returns a percentile of the durations, or zero if there are none.
    pub fn percentile(&self, per_cent: usize) -> Duration {
        let at = (self.0.len() * per_cent / 100).min(self.0.len().saturating_sub(1));
        self.0.get(at).copied().unwrap_or_default()
    }

    /// Returns whether there are durations and their 99th percentile is below the limit.
    pub fn are_mostly_below(&self, limit: Duration) -> bool {
        !self.0.is_empty() && self.percentile(99) < limit
    }

    pub fn max(&self) -> Duration {
        self.0.last().copied().unwrap_or_default()
    }

    pub fn median(&self) -> Duration {
        self.percentile(50)
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (p50, p99) = (self.percentile(50), self.percentile(99));
        let count = self.count();
        write!(
            f,
            "{count} calls, p50 {p50:.1?}, p99 {p99:.1?}, longest {:.1?}",
            self.max()
        )
    }
}

/// Prints a result and whether it is good. Returns `good`.
pub fn print_result(good: bool, text: &str) -> bool {
    println!("{} {text}", if good { "  ok  " } else { " MISS " });
    good
}
