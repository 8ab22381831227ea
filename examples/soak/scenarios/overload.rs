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
    figures::{Times, judge},
    load::{Crowd, Load, Told},
    log::Log,
    reconcile::tell_kinds,
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
    let whole = Settings {
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
    let good = one(&whole, time, amount.deadline()).await;
    println!("one Batch account, by max_in_flight = 16 and max_queued = 8:");
    good & one(&target, time, amount.deadline()).await
}

async fn one(settings: &Settings, time: Duration, deadline: Duration) -> bool {
    let environment = Environment::start(settings);
    let load = Arc::new(Load::new(deadline));
    let stop = CancellationToken::new();
    let asking = tokio::spawn(ask_for_health(
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
    tell_kinds(&many);
    baseline.tell().await;
    let good = tell(&few[warm..], &many, &health);
    few.extend(many);
    let log = Log::new(&environment.folder);
    close(environment, log, &few, deadline, good)
}

async fn round(
    environment: &Environment,
    load: &Arc<Load>,
    rate: f64,
    time: Duration,
    told: &mut Vec<Told>,
) {
    let crowd = Crowd {
        targets: &[1],
        callers: 800,
        rate,
        strict: false,
    };
    let stop = CancellationToken::new();
    let callers = load.start(environment, &crowd, &stop);
    told.extend(after(time, callers, &stop).await);
}

fn tell(few: &[Told], many: &[Told], health: &Times) -> bool {
    let times = |told: &[Told], of: fn(&Told) -> bool| -> Times {
        told.iter()
            .filter(|told| of(told))
            .map(|told| told.took)
            .collect()
    };
    let unharmed = times(few, Told::is_good);
    let lost = few.len() - unharmed.count();
    let mut good = judge(
        lost == 0,
        &format!("without overload: {unharmed}; {lost} failed"),
    );
    let accepted = times(many, Told::is_good);
    let most = unharmed.percentile(99) * RATIO;
    let text = format!("accepted: {accepted}; p99 {most:.1?} at most, twice that without overload");
    good &= judge(accepted.are_mostly_below(most), &text);
    let refused = times(many, Told::is_overload);
    let others = many.len() - accepted.count() - refused.count();
    let text = format!("OVERLOADED: {refused}; p99 50 ms at most; {others} ended otherwise");
    good &= judge(others == 0 && refused.are_mostly_below(REFUSED_IN), &text);
    let text = format!("health asked meanwhile: {health}; 1 s at most");
    good & judge(health.count() > 0 && health.most() < HEALTH_IN, &text)
}

async fn ask_for_health(channel: tonic::transport::Channel, stop: CancellationToken) -> Times {
    let mut client = HealthClient::new(channel);
    let mut times = Vec::new();
    while !stop.is_cancelled() {
        let begun = Instant::now();
        let answer = client.check(HealthCheckRequest::default()).await;
        answer.expect("the server tells its health");
        times.push(begun.elapsed());
        sleep(Duration::from_millis(50)).await;
    }
    times.into_iter().collect()
}
