//! Load at a fixed rate without faults, to measure latency and memory growth.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{Amount, close};
use crate::{
    baseline::Baseline,
    environment::{Environment, Settings},
    figures::{Times, print_result},
    load::{CallerGroup, Load},
    log::Log,
    reconcile::print_outcomes,
};

/// Maximum 99th percentile of the latency.
const P99: Duration = Duration::from_millis(25);
/// Maximum growth of the memory, in MiB per 10 minutes.
const GROWTH: f64 = 1.0;
/// Time after which the growth is measured, because the server allocates memory at first use. A scenario must run more
/// than five times as long.
const WARM: Duration = Duration::from_mins(2);

pub async fn run(amount: &Amount) -> bool {
    let (time, deadline) = (amount.time(120), amount.deadline());
    let environment = Environment::start(&Settings::default());
    let load = Arc::new(Load::new(deadline));
    let group = CallerGroup {
        targets: &[0, 1, 2, 3],
        callers: amount.callers.unwrap_or(64),
        rate: amount.rate.unwrap_or(500.0),
        strict: true,
    };
    println!(
        "steady: {} calls/s of {} callers for {time:?}, half of them of HMCs, which take two requests; each answer of \
         an upstream takes 5 ms, and times begin when calls are due",
        group.rate, group.callers
    );
    let stop = CancellationToken::new();
    let callers = load.start(&environment, &group, &stop);
    let baseline = Baseline::start(&environment.folder, &stop);
    let memory = watch(&environment, time).await;
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
    let quick = print_result(
        all.percentile(99) <= P99,
        &format!("all: {all}; p99 25 ms at most"),
    );
    let bad = results
        .iter()
        .filter(|result| !result.is_expected())
        .count();
    let well = print_result(
        bad == 0,
        &format!("{bad} calls failed, not counting calls for users that do not exist"),
    );
    let small = print_growth(&memory);
    let log = Log::new(&environment.folder);
    close(environment, log, &results, deadline, quick && well && small)
}

/// Samples the memory of the server. Returns seconds since the start, and KiB.
async fn watch(environment: &Environment, time: Duration) -> Vec<(f64, f64)> {
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
    let warm = WARM.as_secs_f64();
    let late: Vec<_> = memory.iter().filter(|(at, _)| *at > warm).collect();
    let most = memory
        .iter()
        .map(|(_, size)| size / 1024.0)
        .fold(0.0, f64::max);
    let Some((last, _)) = late.last().filter(|(at, _)| *at > 5.0 * warm) else {
        println!(
            "memory of the server: {most:.1} MiB at most; a run of more than 10 minutes measures its growth"
        );
        return true;
    };
    let count = f64::from(u32::try_from(late.len()).unwrap());
    let mean = |of: fn(&(f64, f64)) -> f64| late.iter().map(|point| of(point)).sum::<f64>() / count;
    let (at, size) = (mean(|point| point.0), mean(|point| point.1));
    let above: f64 = late
        .iter()
        .map(|point| (point.0 - at) * (point.1 - size))
        .sum();
    let below: f64 = late.iter().map(|point| (point.0 - at).powi(2)).sum();
    let growth = above / below * 600.0 / 1024.0;
    let text = format!(
        "memory of the server: {most:.1} MiB at most; from {warm:.0} s to {last:.0} s it grew by {growth:.2} MiB in 10 \
         minutes; {GROWTH} at most"
    );
    print_result(growth < GROWTH, &text)
}
