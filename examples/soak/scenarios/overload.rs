//! Ten times as many calls as the server, or one target, can process. The latency of accepted calls must not increase
//! much, and the other calls must be rejected immediately.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use super::{Amount, after, close};
use crate::{
    baseline::Baseline,
    environment::{Environment, Settings},
    figures::{Times, print_result},
    load::{CallResult, CallerGroup, Load},
    log::Log,
    reconcile::print_outcomes,
};

const ROUNDS: u32 = 3;
/// Maximum ratio between the 99th percentiles of accepted calls with and without overload.
const RATIO: u32 = 2;
/// Maximum 99th percentile of the latency of rejected calls.
const REFUSED_IN: Duration = Duration::from_millis(50);
/// Maximum latency of a health check.
const HEALTH_IN: Duration = Duration::from_secs(1);
/// Delay of each response of an upstream. It limits 16 concurrent calls to 160 calls/s.
const LATENCY: Duration = Duration::from_millis(100);

pub async fn run(amount: &Amount) -> bool {
    let complete = Settings {
        latency: LATENCY,
        limits: "max_concurrent_calls = 16",
        ..Settings::default()
    };
    let target = Settings {
        latency: LATENCY,
        batch: "max_in_flight = 16\nmax_queued = 8",
        ..Settings::default()
    };
    let time = amount.time(60) / (2 * ROUNDS);
    println!(
        "overload: upstreams take 100 ms and 16 calls at a time are let through; {ROUNDS} rounds of {time:?} with 80 \
         calls/s, half of what fits, and as many with 1,600, in turn"
    );
    println!("the whole server, by max_concurrent_calls = 16:");
    let good = one(&complete, time, amount.deadline()).await;
    println!("one Batch account, by max_in_flight = 16 and max_queued = 8:");
    good & one(&target, time, amount.deadline()).await
}

async fn one(settings: &Settings, time: Duration, deadline: Duration) -> bool {
    let environment = Environment::start(settings);
    let load = Arc::new(Load::new(deadline));
    let stop = CancellationToken::new();
    let asking = tokio::spawn(check_health(
        environment.clients(1).remove(0).channel(),
        stop.clone(),
    ));
    let baseline = Baseline::start(&environment.folder, &stop);
    let (mut few, mut many) = (Vec::new(), Vec::new());
    round(&environment, &load, 80.0, Duration::from_secs(1), &mut few).await;
    let warm = few.len();
    for _ in 0..ROUNDS {
        round(&environment, &load, 80.0, time, &mut few).await;
        round(&environment, &load, 1_600.0, time, &mut many).await;
    }
    stop.cancel();
    let health = asking.await.unwrap();
    print_outcomes(&many);
    baseline.print().await;
    let good = print(&few[warm..], &many, &health);
    few.extend(many);
    let log = Log::new(&environment.folder);
    close(environment, log, &few, deadline, good)
}

async fn round(
    environment: &Environment,
    load: &Arc<Load>,
    rate: f64,
    time: Duration,
    results: &mut Vec<CallResult>,
) {
    let group = CallerGroup {
        targets: &[1],
        callers: 800,
        rate,
        strict: false,
    };
    let stop = CancellationToken::new();
    let callers = load.start(environment, &group, &stop);
    results.extend(after(time, callers, &stop).await);
}

fn print(few: &[CallResult], many: &[CallResult], health: &Times) -> bool {
    let times = |results: &[CallResult], of: fn(&CallResult) -> bool| -> Times {
        results
            .iter()
            .filter(|result| of(result))
            .map(|result| result.elapsed)
            .collect()
    };
    let unharmed = times(few, CallResult::is_expected);
    let lost = few.len() - unharmed.count();
    let mut good = print_result(
        lost == 0,
        &format!("without overload: {unharmed}; {lost} failed"),
    );
    let accepted = times(many, CallResult::is_expected);
    let max = unharmed.percentile(99) * RATIO;
    let text = format!("accepted: {accepted}; p99 {max:.1?} at most, twice that without overload");
    good &= print_result(accepted.are_mostly_below(max), &text);
    let refused = times(many, CallResult::is_overload);
    let others = many.len() - accepted.count() - refused.count();
    let text = format!("OVERLOADED: {refused}; p99 50 ms at most; {others} ended otherwise");
    good &= print_result(others == 0 && refused.are_mostly_below(REFUSED_IN), &text);
    let text = format!("health checks during the load: {health}; 1 s at most");
    good & print_result(health.count() > 0 && health.max() < HEALTH_IN, &text)
}

async fn check_health(channel: tonic::transport::Channel, stop: CancellationToken) -> Times {
    let mut client = HealthClient::new(channel);
    let mut times = Vec::new();
    while !stop.is_cancelled() {
        let started = Instant::now();
        let response = client.check(HealthCheckRequest::default()).await;
        response.expect("the health check succeeds");
        times.push(started.elapsed());
        sleep(Duration::from_millis(50)).await;
    }
    times.into_iter().collect()
}
