//! Limits on the retries of a target: the retry budget with a paused clock, jitter of the pauses, and the budget of an
//! HMC with real requests.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, advance};
use tonic::Code::Unavailable;
use useradmin::{
    error::Failure,
    proto::ErrorReason,
    upstream::{
        attempts::Attempts, call_limits::CallLimits, deadline::Deadline, retry::Retries,
        retry_budget::RetryBudget,
    },
};
use useradmin_testkit::{HmcSetup, ScriptedReply::Html, Step, delete_by_id};

const SECOND: Duration = Duration::from_secs(1);

/// Withdraws all tokens and returns their number.
fn withdraw_all(budget: &RetryBudget) -> usize {
    std::iter::from_fn(|| budget.withdraw().then_some(())).count()
}

#[tokio::test(start_paused = true)]
async fn budget_grows_with_calls_and_time() {
    let budget = RetryBudget::default();
    assert_eq!(withdraw_all(&budget), 10);
    assert_eq!(withdraw_all(&budget), 0);
    for _ in 0..10 {
        budget.deposit();
    }
    assert_eq!(withdraw_all(&budget), 2);
    advance(Duration::from_millis(990)).await;
    assert_eq!(withdraw_all(&budget), 0);
    advance(Duration::from_millis(10)).await;
    assert_eq!(withdraw_all(&budget), 1);
    // Neither an idle hour nor a thousand calls accumulate more tokens.
    advance(SECOND * 3_600).await;
    assert_eq!(withdraw_all(&budget), 10);
    for _ in 0..1_000 {
        budget.deposit();
    }
    assert_eq!(withdraw_all(&budget), 10);
}

/// A hundred calls per second, each of which would be attempted three times.
#[tokio::test(start_paused = true)]
async fn sustained_failures_add_20_percent_requests() {
    let (budget, calls) = (RetryBudget::default(), 10_000);
    let mut requests = 0;
    for _ in 0..calls {
        budget.deposit();
        requests += 1 + (0..2).take_while(|_| budget.withdraw()).count();
        advance(Duration::from_millis(10)).await;
    }
    // 0.2 retries per call, 1 per second, and 10 initial tokens.
    let retries = requests - calls;
    assert!((2_100..=2_110).contains(&retries), "{retries}");
}

fn call_limits() -> CallLimits {
    Deadline::after(SECOND * 30).into()
}

/// Returns the pauses before the second and the third attempt of a request.
async fn measure_pauses() -> [Duration; 2] {
    let (limits, budget) = (call_limits(), RetryBudget::default());
    let (mut retries, mut attempts) = (Retries::new(&limits, &budget), Attempts::default());
    let mut pauses = [Duration::ZERO; 2];
    for pause in &mut pauses {
        let failure = Failure::new(ErrorReason::UpstreamUnavailable, "503").repeatable();
        let started = Instant::now();
        assert!(retries.wait(&mut attempts, failure).await.is_ok());
        *pause = started.elapsed();
    }
    pauses
}

/// Calls that failed at the same time must not be retried at the same time.
#[tokio::test(start_paused = true)]
async fn backoff_uses_full_jitter() {
    let mut all = Vec::new();
    for _ in 0..200 {
        all.push(measure_pauses().await);
    }
    for (nth, ceiling) in [200, 400].into_iter().enumerate() {
        let of_this_try = all.iter().map(|pauses| pauses[nth]);
        let (least, most) = (of_this_try.clone().min(), of_this_try.max());
        let (least, most) = (least.unwrap(), most.unwrap());
        let ceiling = Duration::from_millis(ceiling);
        // The clock of the runtime has a resolution of one millisecond and rounds up.
        assert!(most <= ceiling + Duration::from_millis(1), "{most:?}");
        assert!(most > least + ceiling / 2, "{least:?} to {most:?}");
    }
}

#[tokio::test]
async fn retries_of_an_hmc_are_limited_by_budget() {
    let setup = HmcSetup::with_replies(vec![(Step::Delete, vec![Html(503)])]).await;
    // Each call would retry twice, 24 times in total.
    let calls = (0..12).map(|_| setup.fail(delete_by_id("id-1")));
    for failure in join_all(calls).await {
        failure.expect(Unavailable, "UPSTREAM_UNAVAILABLE");
    }
    let retries = setup.count(Step::Delete) - 12;
    // 10 tokens, 0.2 for each call, and one per second.
    assert!((10..=14).contains(&retries), "{retries} retries");
}
