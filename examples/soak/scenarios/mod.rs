//! The scenarios. Each prints its results and returns whether they meet the goals.

mod expiry;
mod failing;
mod faults;
mod hung_hmc;
mod overload;
mod steady;
mod windows;

use std::{fs, time::Duration};

use clap::{Args, ValueEnum};
use tokio::{task::JoinSet, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    environment::Environment,
    figures::print_result,
    load::{CallResult, LATE},
    log::Log,
    reconcile::compare,
};

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Scenario {
    /// Faults of every upstream and of the audit log in turn, with callers that cancel some calls (G5, G6, G14).
    Faults,
    /// Load at a fixed rate without faults (G4).
    Steady,
    /// Only failures, to measure the number of requests that retries add (G7).
    Failing,
    /// An HMC that hangs and is still called: the effect on callers of Batch accounts (G8).
    HungHmc,
    /// 200 concurrent calls of each HMC whose session has expired (G9).
    Expiry,
    /// Ten times as many calls as the server, or one target, can process (G11).
    Overload,
}

/// The amount of load. Options that are not set have a default that depends on the scenario.
#[derive(Args)]
pub struct LoadOptions {
    /// Duration of the scenario, in seconds.
    #[arg(long)]
    seconds: Option<u64>,
    /// Number of callers. Each makes one call at a time.
    #[arg(long)]
    callers: Option<usize>,
    /// Calls per second of all callers together.
    #[arg(long)]
    rate: Option<f64>,
    /// Duration of each fault, in milliseconds.
    #[arg(long, default_value_t = 6_000)]
    window_ms: u64,
    /// Deadline of each call, in milliseconds.
    #[arg(long, default_value_t = 3_000)]
    deadline_ms: u64,
}

impl LoadOptions {
    fn duration(&self, default: u64) -> Duration {
        Duration::from_secs(self.seconds.unwrap_or(default))
    }

    const fn deadline(&self) -> Duration {
        Duration::from_millis(self.deadline_ms)
    }
}

pub async fn run(scenario: Scenario, options: &LoadOptions) -> bool {
    match scenario {
        Scenario::Faults => faults::run(options).await,
        Scenario::Steady => steady::run(options).await,
        Scenario::Failing => failing::run(options).await,
        Scenario::HungHmc => hung_hmc::run(options).await,
        Scenario::Expiry => expiry::run(options).await,
        Scenario::Overload => overload::run(options).await,
    }
}

/// Stops the callers after this time, and returns the results of their calls.
async fn stop_callers_after(
    duration: Duration,
    callers: JoinSet<Vec<CallResult>>,
    stop: &CancellationToken,
) -> Vec<CallResult> {
    sleep(duration).await;
    stop.cancel();
    callers.join_all().await.concat()
}

/// Stops the server and compares the records. Deletes the folder with the records if they agree and `passed` is true.
/// Returns whether the scenario succeeded.
fn finish(
    mut environment: Environment,
    log: Log,
    results: &[CallResult],
    deadline: Duration,
    passed: bool,
) -> bool {
    let stopped = print_result(environment.stop(), "the server exited with 0");
    let late = results
        .iter()
        .filter(|result| result.outcome == LATE)
        .count();
    let comparison = compare(&environment, results, &log.files(), deadline);
    let text = format!(
        "{} calls and {} records in one chain: {} differences",
        results.len(),
        comparison.records,
        comparison.differences
    );
    let consistent = print_result(comparison.differences == 0, &text);
    // The server responds 100 ms before the deadline. A busy machine may deliver some responses after it.
    let max = (results.len() / 1_000).max(10);
    let text =
        format!("{late} responses after their deadlines had expired in the clients: {max} at most");
    let in_time = print_result(late <= max, &text);
    if passed && stopped && consistent && in_time {
        fs::remove_dir_all(&environment.folder).unwrap();
        return true;
    }
    println!("see {}", environment.folder.display());
    false
}
