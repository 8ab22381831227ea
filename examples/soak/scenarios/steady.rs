//! Load at a fixed rate without faults, to measure latency and memory growth.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{LoadOptions, finish};
use crate::{
    baseline::Baseline,
    environment::{Environment, Settings},
    figures::{Times, print_result},
    load::{CallerGroup, Load},
    log::Log,
    reconcile::print_outcomes,
};

/// Maximum 99th percentile of the latency.
const MAX_P99: Duration = Duration::from_millis(25);
/// Maximum growth of the memory, in MiB per 10 minutes.
const MAX_GROWTH: f64 = 1.0;
/// Time after which the growth is measured, because the server allocates memory at first use. A scenario must run more
/// than five times as long.
const WARM_UP: Duration = Duration::from_mins(2);

pub async fn run(options: &LoadOptions) -> bool {
    let (time, deadline) = (options.duration(120), options.deadline());
    let environment = Environment::start(&Settings::default());
    let load = Arc::new(Load::new(deadline));
    let group = CallerGroup {
        targets: &[0, 1, 2, 3],
        callers: options.callers.unwrap_or(64),
        rate: options.rate.unwrap_or(500.0),
        fixed_schedule: true,
    };
    println!(
        "steady: {} calls/s of {} callers for {time:?}, half of them of HMCs, which take two requests; each response of \
         an upstream takes 5 ms, and times begin when calls are due",
        group.rate, group.callers
    );
    let stop = CancellationToken::new();
    let callers = load.start(&environment, &group, &stop);
    let baseline = Baseline::start(&environment.folder, &stop);
    let memory = sample_memory(&environment, time).await;
    stop.cancel();
    let results = callers.join_all().await.concat();
    print_outcomes(&results);
    baseline.print().await;
    let batch: Times = results
        .iter()
        .filter(|result| result.target < 2)
        .map(|result| result.elapsed)
        .collect();
    println!("Batch: {batch}");
    let hmcs: Times = results
        .iter()
        .filter(|result| result.target >= 2)
        .map(|result| result.elapsed)
        .collect();
    println!("HMCs:  {hmcs}");
    let all: Times = results.iter().map(|result| result.elapsed).collect();
    let latency_ok = print_result(
        all.percentile(99) <= MAX_P99,
        &format!("all: {all}; p99 25 ms at most"),
    );
    let failed = results
        .iter()
        .filter(|result| !result.is_expected())
        .count();
    let calls_ok = print_result(
        failed == 0,
        &format!("{failed} calls failed, not counting calls for users that do not exist"),
    );
    let growth_ok = print_growth(&memory);
    let log = Log::new(&environment.folder);
    finish(
        environment,
        log,
        &results,
        deadline,
        latency_ok && calls_ok && growth_ok,
    )
}

/// Samples the memory of the server. Returns seconds since the start, and KiB.
async fn sample_memory(environment: &Environment, time: Duration) -> Vec<(f64, f64)> {
    let (started, mut memory) = (Instant::now(), Vec::new());
    while started.elapsed() < time {
        sleep((time / 60).min(Duration::from_secs(10))).await;
        memory.push((
            started.elapsed().as_secs_f64(),
            f64::from(environment.memory()),
        ));
    }
    memory
}

/// Prints the growth of the memory, computed by linear regression. Returns whether it is within the limit.
fn print_growth(memory: &[(f64, f64)]) -> bool {
    let warm_up = WARM_UP.as_secs_f64();
    let after_warm_up: Vec<_> = memory.iter().filter(|(at, _)| *at > warm_up).collect();
    let max = memory
        .iter()
        .map(|(_, size)| size / 1024.0)
        .fold(0.0, f64::max);
    let Some((last, _)) = after_warm_up.last().filter(|(at, _)| *at > 5.0 * warm_up) else {
        println!(
            "memory of the server: {max:.1} MiB at most; a run of more than 10 minutes measures its growth"
        );
        return true;
    };
    let count = f64::from(u32::try_from(after_warm_up.len()).unwrap());
    let mean = |value: fn(&(f64, f64)) -> f64| {
        after_warm_up.iter().map(|point| value(point)).sum::<f64>() / count
    };
    let (at, size) = (mean(|point| point.0), mean(|point| point.1));
    let covariance: f64 = after_warm_up
        .iter()
        .map(|point| (point.0 - at) * (point.1 - size))
        .sum();
    let variance: f64 = after_warm_up
        .iter()
        .map(|point| (point.0 - at).powi(2))
        .sum();
    let growth = covariance / variance * 600.0 / 1024.0;
    let text = format!(
        "memory of the server: {max:.1} MiB at most; from {warm_up:.0} s to {last:.0} s it grew by {growth:.2} MiB in 10 \
         minutes; {MAX_GROWTH} at most"
    );
    print_result(growth < MAX_GROWTH, &text)
}
