//! Medians, tables and limits.

use std::fmt;

/// Returns the median, or 0 if there are no values.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

/// Prints a Markdown table.
pub fn print(heading: &[&str], rows: &[Vec<String>]) {
    println!();
    println!("| {} |", heading.join(" | "));
    println!("|{}", "---|".repeat(heading.len()));
    for row in rows {
        println!("| {} |", row.join(" | "));
    }
    println!();
}

/// A lower or upper bound of a figure.
#[derive(Clone, Copy)]
pub enum Limit {
    AtLeast(f64),
    AtMost(f64),
}

impl Limit {
    fn is_met_by(self, value: f64) -> bool {
        match self {
            Self::AtLeast(limit) => value >= limit,
            Self::AtMost(limit) => value <= limit,
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::AtLeast(limit) => write!(formatter, "at least {limit:.2}"),
            Self::AtMost(limit) => write!(formatter, "at most {limit:.2}"),
        }
    }
}

/// Prints a figure with its limit and, if there is one, the goal, which is not enforced. Returns whether the figure is
/// within the limit.
pub fn check(name: &str, value: f64, limit: Limit, goal: Option<Limit>) -> bool {
    let is_within = limit.is_met_by(value);
    let verdict = if is_within { "  ok" } else { "MISS" };
    let goal = goal.map_or_else(String::new, |goal| {
        let reached = if goal.is_met_by(value) { "" } else { "not " };
        format!("; goal: {goal}, {reached}reached")
    });
    println!("{verdict}  {name}: {value:.2} ({limit}{goal})");
    is_within
}
