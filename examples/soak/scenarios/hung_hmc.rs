//! Effect of an HMC that hangs, and is still called, on callers of Batch accounts.

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use useradmin::proto::ErrorReason;

use super::{LoadOptions, finish};
use crate::{
    baseline::Baseline,
    environment::{Environment, Settings},
    figures::{Times, print_result},
    health::Health,
    load::{CallResult, CallerGroup, Load},
    log::Log,
    reconcile::print_outcomes,
    upstream::Fault,
};

/// Number of pairs of rounds, without and with the fault.
const ROUNDS: u32 = 6;
/// Index of the HMC that hangs.
const HMC: usize = 2;
/// Maximum ratio between the latencies of Batch calls with and without the fault.
const RATIO: f64 = 1.1;
/// Maximum ratio of the worst round without the fault to the median one. If it is exceeded, the machine is too busy for
/// a valid result.
const MAX_NOISE: f64 = 1.25;
/// Maximum 99th percentile of the latency of rejected calls.
const MAX_REFUSAL_TIME: Duration = Duration::from_millis(50);

pub async fn run(options: &LoadOptions) -> bool {
    let time = options.duration(120) / (2 * ROUNDS);
    let rate = options.rate.unwrap_or(200.0);
    println!(
        "hung-hmc: {ROUNDS} rounds of {time:?} without and as many with a hung HMC, in turn; in both, 400 calls/s of Batch \
         and {rate} calls/s of this HMC; upstreams take 5 ms"
    );
    let environment = Environment::start(&Settings::default());
    let health = Arc::new(Health::new());
    let load = Arc::new(Load {
        health: Some(Arc::clone(&health)),
        ..Load::new(options.deadline())
    });
    let stop = CancellationToken::new();
    let baseline = Baseline::start(&environment.folder, &stop);
    let (mut results, mut healthy, mut hung) = (Vec::new(), Vec::new(), Vec::new());
    // The result of the first round is ignored: connections and sessions are established in it.
    results.extend(round(&environment, &load, rate, Duration::from_secs(1)).await);
    let mut refused = Vec::new();
    for _ in 0..ROUNDS {
        let calls = round(&environment, &load, rate, time).await;
        healthy.push(batch_times(&calls));
        results.extend(calls);
        health.fault(HMC);
        environment.set_fault(HMC, Fault::Hang, None);
        let calls = round(&environment, &load, rate, time).await;
        environment.set_fault(HMC, Fault::None, None);
        health.restore(HMC);
        hung.push(batch_times(&calls));
        refused.extend(
            calls
                .iter()
                .filter(|result| is_refused(result))
                .map(|result| result.elapsed),
        );
        results.extend(calls);
        results.extend(recover(&environment, &load, &health, rate).await);
    }
    stop.cancel();
    print_outcomes(&results);
    baseline.print().await;
    let similar = check_rounds(&healthy, &hung);
    let refused: Times = refused.into_iter().collect();
    let text =
        format!("refused immediately (OVERLOADED, CIRCUIT_OPEN): {refused}; p99 50 ms at most");
    let refused_quickly = print_result(refused.are_mostly_below(MAX_REFUSAL_TIME), &text);
    let failed = results
        .iter()
        .filter(|result| result.target < 2 && !result.is_expected())
        .count();
    let batch_succeeded = print_result(failed == 0, &format!("{failed} calls of Batch failed"));
    let log = Log::new(&environment.folder);
    finish(
        environment,
        log,
        &results,
        options.deadline(),
        similar && refused_quickly && batch_succeeded,
    )
}

async fn round(
    environment: &Environment,
    load: &Arc<Load>,
    rate: f64,
    time: Duration,
) -> Vec<CallResult> {
    let stop = CancellationToken::new();
    let batch_callers = CallerGroup {
        targets: &[0, 1],
        callers: 64,
        rate: 400.0,
        fixed_schedule: true,
    };
    // The number of callers sustains the rate even if each call waits until its deadline.
    let hmc_callers = CallerGroup {
        targets: &[HMC],
        callers: 800,
        rate,
        fixed_schedule: false,
    };
    let hmc = load.start(environment, &hmc_callers, &stop);
    let batch = load.start(environment, &batch_callers, &stop);
    sleep(time).await;
    stop.cancel();
    let mut results = batch.join_all().await.concat();
    results.extend(hmc.join_all().await.concat());
    results
}

/// Makes calls until the HMC is healthy, so that each round starts in the same state.
async fn recover(
    environment: &Environment,
    load: &Arc<Load>,
    health: &Health,
    rate: f64,
) -> Vec<CallResult> {
    let mut results = Vec::new();
    while health.recovery(HMC).is_none() {
        results.extend(round(environment, load, rate, Duration::from_secs(1)).await);
    }
    results
}

fn batch_times(results: &[CallResult]) -> Times {
    let calls = results.iter().filter(|result| result.target < 2);
    calls.map(|result| result.elapsed).collect()
}

fn is_refused(result: &CallResult) -> bool {
    result.is_overload() || result.reason == ErrorReason::CircuitOpen.as_str_name()
}

/// Compares the medians of the rounds' 99th percentiles. The limit of the ratio is at least the variation between
/// healthy rounds. If that variation exceeds [`MAX_NOISE`], the result is not valid and the check fails.
fn check_rounds(healthy: &[Times], hung: &[Times]) -> bool {
    let p99 =
        |rounds: &[Times]| -> Times { rounds.iter().map(|round| round.percentile(99)).collect() };
    let (healthy, hung) = (p99(healthy), p99(hung));
    let ratio = hung.median().as_secs_f64() / healthy.median().as_secs_f64();
    let noise = healthy.max().as_secs_f64() / healthy.median().as_secs_f64();
    let max = noise.clamp(RATIO, MAX_NOISE);
    let text = format!(
        "p99 of Batch calls, median of the rounds: {:.2?} with a healthy HMC ({:.2?} to {:.2?}), {:.2?} with a hung one \
         ({:.2?} to {:.2?}): {ratio:.2} times, {max:.2} at most; the worst healthy round is at {noise:.2}, and the result is valid up to \
         {MAX_NOISE}",
        healthy.median(),
        healthy.percentile(0),
        healthy.max(),
        hung.median(),
        hung.percentile(0),
        hung.max(),
    );
    print_result(ratio <= max && noise <= MAX_NOISE, &text)
}
