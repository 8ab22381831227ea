//! Ten times as many calls as the server, or one target, can process. The latency of accepted calls must not increase
//! much, and the other calls must be rejected immediately.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use super::{LoadOptions, finish, stop_callers_after};
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
const MAX_REFUSAL_TIME: Duration = Duration::from_millis(50);
/// Maximum latency of a health check.
const MAX_HEALTH_CHECK_TIME: Duration = Duration::from_secs(1);
/// Delay of each response of an upstream. It limits 16 concurrent calls to 160 calls/s.
const LATENCY: Duration = Duration::from_millis(100);

pub async fn run(options: &LoadOptions) -> bool {
    let limit_of_server = Settings {
        latency: LATENCY,
        limit_keys: "max_concurrent_calls = 16",
        ..Settings::default()
    };
    let limit_of_target = Settings {
        latency: LATENCY,
        batch: "max_in_flight = 16\nmax_queued = 8",
        ..Settings::default()
    };
    let time = options.duration(60) / (2 * ROUNDS);
    println!(
        "overload: upstreams take 100 ms and 16 calls at a time are let through; {ROUNDS} rounds of {time:?} with 80 \
         calls/s, half of what fits, and as many with 1,600, in turn"
    );
    println!("the whole server, by max_concurrent_calls = 16:");
    let passed = run_case(&limit_of_server, time, options.deadline()).await;
    println!("one Batch account, by max_in_flight = 16 and max_queued = 8:");
    passed & run_case(&limit_of_target, time, options.deadline()).await
}

async fn run_case(settings: &Settings, time: Duration, deadline: Duration) -> bool {
    let environment = Environment::start(settings);
    let load = Arc::new(Load::new(deadline));
    let stop = CancellationToken::new();
    let health_checks = tokio::spawn(check_health(
        environment.clients(1).remove(0).channel(),
        stop.clone(),
    ));
    let baseline = Baseline::start(&environment.folder, &stop);
    let (mut without_overload, mut with_overload) = (Vec::new(), Vec::new());
    round(
        &environment,
        &load,
        80.0,
        Duration::from_secs(1),
        &mut without_overload,
    )
    .await;
    let warm_up_calls = without_overload.len();
    for _ in 0..ROUNDS {
        round(&environment, &load, 80.0, time, &mut without_overload).await;
        round(&environment, &load, 1_600.0, time, &mut with_overload).await;
    }
    stop.cancel();
    let health = health_checks.await.unwrap();
    print_outcomes(&with_overload);
    baseline.print().await;
    let passed = print_results(&without_overload[warm_up_calls..], &with_overload, &health);
    without_overload.extend(with_overload);
    let log = Log::new(&environment.folder);
    finish(environment, log, &without_overload, deadline, passed)
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
        fixed_schedule: false,
    };
    let stop = CancellationToken::new();
    let callers = load.start(environment, &group, &stop);
    results.extend(stop_callers_after(time, callers, &stop).await);
}

fn print_results(
    without_overload: &[CallResult],
    with_overload: &[CallResult],
    health: &Times,
) -> bool {
    let times = |results: &[CallResult], filter: fn(&CallResult) -> bool| -> Times {
        results
            .iter()
            .filter(|result| filter(result))
            .map(|result| result.elapsed)
            .collect()
    };
    let baseline = times(without_overload, CallResult::is_expected);
    let failed = without_overload.len() - baseline.count();
    let mut passed = print_result(
        failed == 0,
        &format!("without overload: {baseline}; {failed} failed"),
    );
    let accepted = times(with_overload, CallResult::is_expected);
    let max = baseline.percentile(99) * RATIO;
    let text = format!("accepted: {accepted}; p99 {max:.1?} at most, twice that without overload");
    passed &= print_result(accepted.are_mostly_below(max), &text);
    let refused = times(with_overload, CallResult::is_overload);
    let others = with_overload.len() - accepted.count() - refused.count();
    let text = format!("OVERLOADED: {refused}; p99 50 ms at most; {others} ended otherwise");
    passed &= print_result(
        others == 0 && refused.are_mostly_below(MAX_REFUSAL_TIME),
        &text,
    );
    let text = format!("health checks during the load: {health}; 1 s at most");
    passed
        & print_result(
            health.count() > 0 && health.max() < MAX_HEALTH_CHECK_TIME,
            &text,
        )
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
