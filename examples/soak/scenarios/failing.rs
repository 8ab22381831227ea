//! Failures of all requests, to measure the number of requests that retries add.

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{LoadOptions, finish, stop_callers_after};
use crate::{
    environment::{Environment, Settings, TARGETS},
    figures::print_result,
    load::{CallResult, CallerGroup, Load},
    log::Log,
    upstream::Fault,
};

/// A fault that opens the circuit breakers, one that does not, and one with an unknown outcome.
const FAULTS: [Fault; 3] = [Fault::Failing, Fault::Throttled, Fault::ResetAfter];
/// Maximum number of requests per call, in addition to [`BUDGET`].
const RATIO: f64 = 1.2;
/// Maximum number of DELETE requests of one call.
const MAX_ATTEMPTS: u32 = 3;
/// Number of retries in the budget of a target at the start. The budget also gets one retry per second.
const BUDGET: f64 = 10.0;

pub async fn run(options: &LoadOptions) -> bool {
    let time = options.duration(60);
    let mut passed = true;
    for fault in FAULTS {
        passed &= run_case(fault, time, options).await;
    }
    passed
}

async fn run_case(fault: Fault, time: Duration, options: &LoadOptions) -> bool {
    let deadline = options.deadline();
    let environment = Environment::start(&Settings::default());
    let load = Arc::new(Load::new(deadline));
    let group = CallerGroup {
        targets: &[0, 1, 2, 3],
        callers: options.callers.unwrap_or(800),
        rate: options.rate.unwrap_or(800.0),
        fixed_schedule: false,
    };
    println!(
        "failing: {} calls/s of {} callers, every response is {fault:?} for {time:?}",
        group.rate, group.callers
    );
    let stop_warm_up = CancellationToken::new();
    let callers = load.start(&environment, &group, &stop_warm_up);
    let mut results = stop_callers_after(Duration::from_secs(1), callers, &stop_warm_up).await;
    let requests_before = [0, 1, 2, 3].map(|target| environment.requests(target));
    let warm_up_calls = results.len();
    for target in 0..TARGETS.len() {
        environment.set_fault(target, fault, None);
    }
    let stop = CancellationToken::new();
    let callers = load.start(&environment, &group, &stop);
    results.extend(stop_callers_after(time, callers, &stop).await);
    // Requests of calls that have ended may still be in flight.
    sleep(Duration::from_millis(100)).await;
    let mut passed = true;
    for (target, requests_before) in requests_before.into_iter().enumerate() {
        passed &= check_target(
            &environment,
            &results[warm_up_calls..],
            target,
            requests_before,
            time + deadline,
        );
    }
    for target in 0..TARGETS.len() {
        environment.set_fault(target, Fault::None, None);
    }
    let log = Log::new(&environment.folder);
    finish(environment, log, &results, deadline, passed)
}

fn check_target(
    environment: &Environment,
    results: &[CallResult],
    target: usize,
    requests_before: u32,
    time: Duration,
) -> bool {
    let users = results.iter().filter(|result| result.target == target);
    let calls = f64::from(u32::try_from(users.clone().count()).unwrap());
    let requests = f64::from(environment.requests(target) - requests_before);
    let attempts = users
        .map(|result| {
            environment
                .users(target)
                .requests_for(result.user)
                .deletes_received
        })
        .max();
    let attempts = attempts.unwrap_or_default();
    let (ratio, max) = (
        requests / calls,
        RATIO * calls + BUDGET + time.as_secs_f64(),
    );
    let text = format!(
        "{:8} {calls} calls, {requests} requests: {ratio:.3} a call; {max:.0} at most, which is {RATIO} a call, and \
         10 and 1 for each second; {attempts} DELETEs of one call, 3 at most",
        TARGETS[target]
    );
    print_result(requests <= max && attempts <= MAX_ATTEMPTS, &text)
}
