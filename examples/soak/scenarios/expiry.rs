//! 200 concurrent calls of each HMC whose session has expired.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{task::JoinSet, time::sleep};

use super::{LoadOptions, finish};
use crate::{
    environment::{Environment, Settings},
    figures::{Times, print_result},
    load::{CallResult, Load},
    log::Log,
};

const ROUNDS: usize = 10;
const CALLS: usize = 200;
const HMCS: [usize; 2] = [2, 3];
/// Deadline of each call. It is sufficient for 200 calls with 8 in flight at a time.
const DEADLINE: Duration = Duration::from_secs(20);

pub async fn run(_: &LoadOptions) -> bool {
    let default_limits = Settings {
        latency: Duration::from_millis(10),
        ..Settings::default()
    };
    println!(
        "expiry: {ROUNDS} rounds of {CALLS} calls at a time of each HMC, whose session has just expired"
    );
    let passed = run_case(&default_limits, Duration::ZERO).await;
    let many_in_flight = Settings {
        latency: Duration::from_millis(400),
        hmc: "max_in_flight = 200",
        ..Settings::default()
    };
    println!(
        "expiry: the same with max_in_flight = {CALLS}: all of them receive the same response"
    );
    passed & run_case(&many_in_flight, many_in_flight.latency / 2).await
}

/// Runs all rounds. The sessions expire `pause` after the calls of a round have started.
async fn run_case(settings: &Settings, pause: Duration) -> bool {
    let environment = Environment::start(settings);
    let load = Arc::new(Load::new(DEADLINE));
    let mut results = round(&environment, &load, None).await;
    let (mut passed, mut max) = (true, 0);
    for _ in 0..ROUNDS {
        let logons = [0, 1].map(|hmc| environment.hmcs[hmc].logons());
        results.extend(round(&environment, &load, Some(pause)).await);
        for (hmc, before) in logons.into_iter().enumerate() {
            let logons = environment.hmcs[hmc].logons() - before;
            passed &= logons == 1;
            max = max.max(logons);
        }
    }
    let text =
        format!("{max} logons of an HMC in one round at most; each round must have exactly one");
    passed = print_result(passed, &text);
    let failed = results
        .iter()
        .filter(|result| !result.is_expected())
        .count();
    let times: Times = results.iter().map(|result| result.elapsed).collect();
    passed &= print_result(failed == 0, &format!("{failed} calls failed; {times}"));
    let log = Log::new(&environment.folder);
    finish(environment, log, &results, DEADLINE, passed)
}

async fn round(
    environment: &Environment,
    load: &Arc<Load>,
    expire_after: Option<Duration>,
) -> Vec<CallResult> {
    let expire = || environment.hmcs.iter().for_each(|hmc| hmc.expire());
    if expire_after == Some(Duration::ZERO) {
        expire();
    }
    let clients = environment.clients(32);
    let mut calls = JoinSet::new();
    for nth in 0..CALLS {
        for target in HMCS {
            let client = clients[nth % clients.len()].clone();
            let load = Arc::clone(load);
            calls.spawn(async move { load.call(&client, target, Instant::now()).await });
        }
    }
    if let Some(pause) = expire_after.filter(|pause| !pause.is_zero()) {
        sleep(pause).await;
        expire();
    }
    calls.join_all().await
}
