//! One file for each scenario. Each says what it has reached, and whether that is enough.

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
    figures::judge,
    load::{LATE, Told},
    log::Log,
    reconcile::compare,
};

#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Scenario {
    /// Faults in turn, of every upstream and of the audit log, while callers come and go (G5, G6, G14).
    Faults,
    /// No fault, at a fixed rate (G4).
    Steady,
    /// Nothing but failures: how many requests make retries of them (G7)?
    Failing,
    /// One HMC hangs and is called all the same: what do callers of Batch notice (G8)?
    HungHmc,
    /// 200 calls find the session of their HMC expired (G9).
    Expiry,
    /// Ten times as many calls as the server, or one target, takes (G11).
    Overload,
}

/// How much; where nothing is said, what the scenario needs.
#[derive(Args)]
pub struct Amount {
    /// How long it lasts, in seconds.
    #[arg(long)]
    seconds: Option<u64>,
    /// Callers, who make one call after the other.
    #[arg(long)]
    callers: Option<usize>,
    /// Calls a second, of all callers.
    #[arg(long)]
    rate: Option<f64>,
    /// How long each fault lasts, in milliseconds.
    #[arg(long, default_value_t = 6_000)]
    window_ms: u64,
    /// The deadline of each call, in milliseconds.
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

/// Lets callers go on for a time, and gives what they were told.
async fn after(time: Duration, callers: JoinSet<Vec<Told>>, stop: &CancellationToken) -> Vec<Told> {
    sleep(time).await;
    stop.cancel();
    callers.join_all().await.concat()
}

/// Stops the server and compares the records. They stay where they are if there is something to see in them, or if
/// something else is not `good`.
fn close(
    mut environment: Environment,
    log: Log,
    told: &[Told],
    deadline: Duration,
    good: bool,
) -> bool {
    let ended = judge(environment.stop(), "the server has stopped as it should");
    let late = told.iter().filter(|told| told.outcome == LATE).count();
    let verdict = compare(&environment, told, log.files(), deadline);
    let text = format!(
        "{} calls and {} records in one chain: {} lost or wrong",
        told.len(),
        verdict.records,
        verdict.wrong
    );
    let right = judge(verdict.wrong == 0, &text);
    // The answer leaves 100 ms before the deadline; the rest is the business of a machine that does more than this.
    let most = (told.len() / 1_000).max(10);
    let text =
        format!("{late} answers after their callers' libraries had given up: {most} at most");
    let in_time = judge(late <= most, &text);
    if good && ended && right && in_time {
        fs::remove_dir_all(&environment.folder).unwrap();
        return true;
    }
    println!("see {}", environment.folder.display());
    false
}
