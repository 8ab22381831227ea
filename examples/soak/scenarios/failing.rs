//! Failures of all requests, to measure the number of requests that retries add.

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{Amount, after, close};
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

pub async fn run(amount: &Amount) -> bool {
    let time = amount.time(60);
    let mut good = true;
    for error in FAULTS {
        good &= one(error, time, amount).await;
    }
    good
}

async fn one(error: Fault, time: Duration, amount: &Amount) -> bool {
    let deadline = amount.deadline();
    let environment = Environment::start(&Settings::default());
    let load = Arc::new(Load::new(deadline));
    let group = CallerGroup {
        targets: &[0, 1, 2, 3],
        callers: amount.callers.unwrap_or(800),
        rate: amount.rate.unwrap_or(800.0),
        strict: false,
    };
    println!(
        "failing: {} calls/s of {} callers, every answer is {error:?} for {time:?}",
        group.rate, group.callers
    );
    let warm = CancellationToken::new();
    let callers = load.start(&environment, &group, &warm);
    let mut results = after(Duration::from_secs(1), callers, &warm).await;
    let before = [0, 1, 2, 3].map(|target| environment.requests(target));
    let warmed = results.len();
    for target in 0..TARGETS.len() {
        environment.set(target, error, None);
    }
    let stop = CancellationToken::new();
    let callers = load.start(&environment, &group, &stop);
    results.extend(after(time, callers, &stop).await);
    // Requests of calls that have ended may still be in flight.
    sleep(Duration::from_millis(100)).await;
    let mut good = true;
    for (target, before) in before.into_iter().enumerate() {
        good &= check_target(
            &environment,
            &results[warmed..],
            target,
            before,
            time + deadline,
        );
    }
    for target in 0..TARGETS.len() {
        environment.set(target, Fault::None, None);
    }
    let log = Log::new(&environment.folder);
    close(environment, log, &results, deadline, good)
}

fn check_target(
    environment: &Environment,
    results: &[CallResult],
    target: usize,
    before: u32,
    time: Duration,
) -> bool {
    let users = results.iter().filter(|result| result.target == target);
    let calls = f64::from(u32::try_from(users.clone().count()).unwrap());
    let requests = f64::from(environment.requests(target) - before);
    let attempts = users
        .map(|result| environment.users(target).done(result.user).asked)
        .max();
    let attempts = attempts.unwrap_or_default();
    let (ratio, most) = (
        requests / calls,
        RATIO * calls + BUDGET + time.as_secs_f64(),
    );
    let text = format!(
        "{:8} {calls} calls, {requests} requests: {ratio:.3} a call; {most:.0} at most, which is {RATIO} a call, and \
         10 and 1 for each second; {attempts} DELETEs of one call, 3 at most",
        TARGETS[target]
    );
    print_result(requests <= most && attempts <= MAX_ATTEMPTS, &text)
}
