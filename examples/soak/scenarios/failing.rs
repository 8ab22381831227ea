//! Failures of all requests, to measure the number of requests that retries add.

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{Amount, after, close};
use crate::{
    environment::{Environment, Settings, TARGETS},
    figures::judge,
    load::{Crowd, Load, Told},
    log::Log,
    upstream::Fault,
};

/// A fault that opens the circuit breakers, one that does not, and one with an unknown outcome.
const FAULTS: [Fault; 3] = [Fault::Failing, Fault::Throttled, Fault::ResetAfter];
/// Maximum number of requests per call, in addition to [`BUDGET`].
const RATIO: f64 = 1.2;
/// Maximum number of DELETE requests of one call.
const MOST_ATTEMPTS: u32 = 3;
/// Number of retries in the budget of a target at the start. The budget also gets one retry per second.
const BUDGET: f64 = 10.0;

pub async fn run(amount: &Amount) -> bool {
    let time = amount.time(60);
    let mut good = true;
    for fault in FAULTS {
        good &= one(fault, time, amount).await;
    }
    good
}

async fn one(fault: Fault, time: Duration, amount: &Amount) -> bool {
    let deadline = amount.deadline();
    let environment = Environment::start(&Settings::default());
    let load = Arc::new(Load::new(deadline));
    let crowd = Crowd {
        targets: &[0, 1, 2, 3],
        callers: amount.callers.unwrap_or(800),
        rate: amount.rate.unwrap_or(800.0),
        strict: false,
    };
    println!(
        "failing: {} calls/s of {} callers, every answer is {fault:?} for {time:?}",
        crowd.rate, crowd.callers
    );
    let warm = CancellationToken::new();
    let callers = load.start(&environment, &crowd, &warm);
    let mut told = after(Duration::from_secs(1), callers, &warm).await;
    let before = [0, 1, 2, 3].map(|target| environment.requests(target));
    let warmed = told.len();
    for target in 0..TARGETS.len() {
        environment.set(target, fault, None);
    }
    let stop = CancellationToken::new();
    let callers = load.start(&environment, &crowd, &stop);
    told.extend(after(time, callers, &stop).await);
    // Requests of calls that have ended may still be in flight.
    sleep(Duration::from_millis(100)).await;
    let mut good = true;
    for (target, before) in before.into_iter().enumerate() {
        good &= judge_target(
            &environment,
            &told[warmed..],
            target,
            before,
            time + deadline,
        );
    }
    for target in 0..TARGETS.len() {
        environment.set(target, Fault::None, None);
    }
    let log = Log::new(&environment.folder);
    close(environment, log, &told, deadline, good)
}

fn judge_target(
    environment: &Environment,
    told: &[Told],
    target: usize,
    before: u32,
    time: Duration,
) -> bool {
    let users = told.iter().filter(|told| told.target == target);
    let calls = f64::from(u32::try_from(users.clone().count()).unwrap());
    let requests = f64::from(environment.requests(target) - before);
    let attempts = users
        .map(|told| environment.users(target).done(told.user).asked)
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
    judge(requests <= most && attempts <= MOST_ATTEMPTS, &text)
}
