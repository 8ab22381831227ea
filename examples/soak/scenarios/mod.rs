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
pub struct Amount {
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

impl Amount {
    fn time(&self, default: u64) -> Duration {
        Duration::from_secs(self.seconds.unwrap_or(default))
    }

    const fn deadline(&self) -> Duration {
        Duration::from_millis(self.deadline_ms)
    }
}

pub async fn run(scenario: Scenario, amount: &Amount) -> bool {
    match scenario {
        Scenario::Faults => faults::run(amount).await,
        Scenario::Steady => steady::run(amount).await,
        Scenario::Failing => failing::run(amount).await,
        Scenario::HungHmc => hung_hmc::run(amount).await,
        Scenario::Expiry => expiry::run(amount).await,
        Scenario::Overload => overload::run(amount).await,
    }
}

/// Stops the callers after this time, and returns the results of their calls.
async fn after(
    time: Duration,
    callers: JoinSet<Vec<CallResult>>,
    stop: &CancellationToken,
) -> Vec<CallResult> {
    sleep(time).await;
    stop.cancel();
    callers.join_all().await.concat()
}

/// Stops the server and compares the records. Deletes the folder with the records if they agree and `good` is set.
/// Returns whether the scenario succeeded.
fn close(
    mut environment: Environment,
    log: Log,
    results: &[CallResult],
    deadline: Duration,
    good: bool,
) -> bool {
    let ended = print_result(environment.stop(), "the server has stopped as it should");
    let late = results
        .iter()
        .filter(|result| result.outcome == LATE)
        .count();
    let verdict = compare(&environment, results, log.files(), deadline);
    let text = format!(
        "{} calls and {} records in one chain: {} lost or wrong",
        results.len(),
        verdict.records,
        verdict.set_clock
    );
    let right = print_result(verdict.set_clock == 0, &text);
    // The server responds 100 ms before the deadline. A busy machine may deliver some responses after it.
    let most = (results.len() / 1_000).max(10);
    let text =
        format!("{late} answers after their callers' libraries had given up: {most} at most");
    let in_time = print_result(late <= most, &text);
    if good && ended && right && in_time {
        fs::remove_dir_all(&environment.folder).unwrap();
        return true;
    }
    println!("see {}", environment.folder.display());
    false
}
