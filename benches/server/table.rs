//! Medians, tables of them, and goals.

/// The middle one.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

/// Prints rows with a heading, in Markdown.
pub fn print(heading: &[&str], rows: &[Vec<String>]) {
    println!();
    println!("| {} |", heading.join(" | "));
    println!("|{}", "---|".repeat(heading.len()));
    for row in rows {
        println!("| {} |", row.join(" | "));
    }
    println!();
}

/// Tells whether a goal is reached.
pub fn goal(name: &str, value: f64, reached: bool, wanted: &str) -> bool {
    let verdict = if reached { "  ok" } else { "MISS" };
    println!("{verdict}  {name}: {value:.2} ({wanted})");
    reached
}
