//! The credential cache with a paused clock: values are used until they expire and are renewed ahead of time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use tokio::time::{Instant, advance, sleep};
use useradmin::{
    error::{Failure, Repeat},
    proto::ErrorReason,
    upstream::{
        credential_cache::{CredentialCache, CredentialSource, Lease, ObtainFuture},
        deadline::Deadline,
        retry_budget::RetryBudget,
    },
};

const SECOND: Duration = Duration::from_secs(1);

/// A source that yields 1, 2, 3, ... with a lifetime of 100 seconds each, after a delay of one second.
#[derive(Default)]
struct Endpoint {
    request_count: AtomicU32,
    is_down: AtomicBool,
    hangs: AtomicBool,
    rejects: AtomicBool,
    fails_at_once: AtomicBool,
    limits_itself: AtomicBool,
    /// Whether calls wait for half a second.
    is_slow: AtomicBool,
}

impl CredentialSource<u32> for Endpoint {
    fn obtain(self: Arc<Self>) -> ObtainFuture<u32> {
        let number = self.request_count.fetch_add(1, Ordering::SeqCst) + 1;
        let unavailable = self.is_down.load(Ordering::SeqCst);
        let hangs = self.hangs.load(Ordering::SeqCst);
        let rejects = self.rejects.load(Ordering::SeqCst);
        let fails_at_once = self.fails_at_once.load(Ordering::SeqCst);
        Box::pin(async move {
            if hangs {
                std::future::pending::<()>().await;
            }
            if !fails_at_once {
                sleep(SECOND).await;
            }
            if rejects {
                let reason = ErrorReason::UpstreamCredentialsRejected;
                return Err(Failure::new(reason, "wrong secret"));
            }
            if unavailable {
                let unavailable = Failure::new(ErrorReason::UpstreamUnreachable, "down");
                return Err(unavailable.repeatable());
            }
            Ok(Lease::new(number, Some(SECOND * 100)))
        })
    }

    fn call_timeout(&self) -> Option<Duration> {
        self.is_slow.load(Ordering::SeqCst).then_some(SECOND / 2)
    }

    fn pauses_after(&self, _failure: &Failure) -> bool {
        !self.limits_itself.load(Ordering::SeqCst)
    }
}

async fn get_value(
    tokens: &CredentialCache<u32, Endpoint>,
    patience: Duration,
) -> Result<u32, ErrorReason> {
    let lease = tokens.get(&Deadline::after(patience).into()).await;
    lease
        .map(|lease| lease.value)
        .map_err(|failure| failure.reason)
}

#[tokio::test(start_paused = true)]
async fn concurrent_calls_share_one_renewal_with_own_deadlines() {
    let tokens = CredentialCache::new(Endpoint::default());
    let long_deadline = join_all((0..50).map(|_| get_value(&tokens, SECOND * 2)));
    let short_deadline = join_all((0..50).map(|_| get_value(&tokens, SECOND / 2)));
    let (long_deadline, short_deadline) = tokio::join!(long_deadline, short_deadline);
    assert!(long_deadline.iter().all(|response| *response == Ok(1)));
    let deadline_exceeded = Err(ErrorReason::DeadlineExceeded);
    assert!(
        short_deadline
            .iter()
            .all(|response| *response == deadline_exceeded)
    );
    assert_eq!(tokens.source.request_count.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn credential_is_renewed_early_in_background() {
    let tokens = CredentialCache::new(Endpoint::default());
    let short_wait = Duration::from_millis(1);
    assert_eq!(get_value(&tokens, SECOND * 2).await, Ok(1));
    advance(SECOND * 79).await;
    assert_eq!(get_value(&tokens, short_wait).await, Ok(1));
    assert_eq!(tokens.source.request_count.load(Ordering::SeqCst), 1);
    advance(SECOND * 2).await;
    // The renewal is in progress.
    assert_eq!(get_value(&tokens, short_wait).await, Ok(1));
    sleep(SECOND * 2).await;
    assert_eq!(get_value(&tokens, short_wait).await, Ok(2));
    assert_eq!(tokens.source.request_count.load(Ordering::SeqCst), 2);
}

/// After a source has recovered, no call waits for the response that it never sent.
#[tokio::test(start_paused = true)]
async fn hung_source_times_out_and_is_retried() {
    let tokens = CredentialCache::new(Endpoint::default());
    tokens.source.hangs.store(true, Ordering::SeqCst);
    let deadline_exceeded = Err(ErrorReason::DeadlineExceeded);
    assert_eq!(get_value(&tokens, SECOND * 3).await, deadline_exceeded);
    tokens.source.hangs.store(false, Ordering::SeqCst);
    let given_up = Err(ErrorReason::UpstreamUnreachable);
    assert_eq!(get_value(&tokens, SECOND * 6).await, given_up);
    assert_eq!(get_value(&tokens, SECOND * 2).await, Ok(2));
}

#[tokio::test(start_paused = true)]
async fn valid_credential_is_used_while_source_is_down() {
    let tokens = CredentialCache::new(Endpoint::default());
    assert_eq!(get_value(&tokens, SECOND * 2).await, Ok(1));
    tokens.source.is_down.store(true, Ordering::SeqCst);
    advance(SECOND * 81).await;
    for _ in 0..18 {
        assert_eq!(get_value(&tokens, Duration::from_millis(1)).await, Ok(1));
        sleep(SECOND).await;
    }
    // Each attempt takes a second, and the pauses between them grow.
    let request_count = tokens.source.request_count.load(Ordering::SeqCst);
    assert!((6..=11).contains(&request_count), "{request_count}");
    // Now the value has expired. During a pause, calls fail immediately; after it, one request serves all calls.
    advance(SECOND * 7).await;
    let unavailable = Err(ErrorReason::UpstreamUnreachable);
    assert_eq!(get_value(&tokens, SECOND * 2).await, unavailable);
    tokens.source.is_down.store(false, Ordering::SeqCst);
    let started = Instant::now();
    assert_eq!(get_value(&tokens, SECOND * 2).await, unavailable);
    assert!(started.elapsed().is_zero());
    advance(SECOND * 5).await;
    assert!(get_value(&tokens, SECOND * 2).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn short_pause_is_awaited_if_deadline_allows() {
    let tokens = CredentialCache::new(Endpoint::default());
    tokens.source.is_down.store(true, Ordering::SeqCst);
    let unavailable = Err(ErrorReason::UpstreamUnreachable);
    let all = join_all((0..100).map(|_| get_value(&tokens, SECOND * 2))).await;
    assert!(all.iter().all(|response| *response == unavailable));
    tokens.source.is_down.store(false, Ordering::SeqCst);
    // This deadline leaves no time for a request after the pause.
    let short_deadline = get_value(&tokens, Duration::from_millis(260));
    let long_deadline = join_all((0..100).map(|_| get_value(&tokens, SECOND * 2)));
    let (short_deadline, long_deadline) = tokio::join!(short_deadline, long_deadline);
    assert_eq!(short_deadline, unavailable);
    assert!(long_deadline.iter().all(Result::is_ok));
    assert_eq!(tokens.source.request_count.load(Ordering::SeqCst), 2);
}

/// A rejected renewal is not repeated by each call as long as the old value is valid.
#[tokio::test(start_paused = true)]
async fn rejected_renewal_is_not_repeated_by_each_call() {
    let tokens = CredentialCache::new(Endpoint::default());
    assert_eq!(get_value(&tokens, SECOND * 2).await, Ok(1));
    tokens.source.rejects.store(true, Ordering::SeqCst);
    advance(SECOND * 81).await;
    for _ in 0..1_800 {
        assert_eq!(get_value(&tokens, Duration::from_millis(1)).await, Ok(1));
        sleep(SECOND / 100).await;
    }
    let request_count = tokens.source.request_count.load(Ordering::SeqCst);
    assert!((6..=11).contains(&request_count), "{request_count}");
    // Once the value has expired, calls fail immediately during a pause, and the next renewal decides.
    advance(SECOND * 7).await;
    let rejected = Err(ErrorReason::UpstreamCredentialsRejected);
    assert_eq!(get_value(&tokens, SECOND * 2).await, rejected);
    tokens.source.rejects.store(false, Ordering::SeqCst);
    let started = Instant::now();
    assert_eq!(get_value(&tokens, SECOND * 2).await, rejected);
    assert!(started.elapsed().is_zero());
    advance(SECOND * 4).await;
    assert!(get_value(&tokens, SECOND * 2).await.is_ok());
}

/// Three callers that call every millisecond for 20 seconds cause one request after each pause: of 0.1 to 0.2, 0.2 to
/// 0.4, 0.4 to 0.8, 0.8 to 1.6, 1.6 to 3.2, and then 2 to 4 seconds.
#[tokio::test(start_paused = true)]
async fn failures_are_followed_by_increasing_pauses() {
    for permanent in [true, false] {
        let tokens = CredentialCache::new(Endpoint::default());
        let source = &tokens.source;
        source.fails_at_once.store(true, Ordering::SeqCst);
        source.rejects.store(permanent, Ordering::SeqCst);
        source.is_down.store(true, Ordering::SeqCst);
        let end = Instant::now() + SECOND * 20;
        let caller = async || {
            while Instant::now() < end {
                get_value(&tokens, SECOND * 2).await.unwrap_err();
                sleep(SECOND / 1000).await;
            }
        };
        tokio::join!(caller(), caller(), caller());
        let request_count = source.request_count.load(Ordering::SeqCst);
        assert!((8..=14).contains(&request_count), "{request_count}");
        source.rejects.store(false, Ordering::SeqCst);
        source.is_down.store(false, Ordering::SeqCst);
        sleep(SECOND * 4).await;
        assert!(get_value(&tokens, SECOND * 2).await.is_ok());
    }
}

/// A source that limits some failures itself is asked again immediately after them.
#[tokio::test(start_paused = true)]
async fn source_selects_failures_that_cause_a_pause() {
    let tokens = CredentialCache::new(Endpoint::default());
    tokens.source.rejects.store(true, Ordering::SeqCst);
    tokens.source.limits_itself.store(true, Ordering::SeqCst);
    let rejected = Err(ErrorReason::UpstreamCredentialsRejected);
    for request_count in 1..=5 {
        assert_eq!(get_value(&tokens, SECOND * 2).await, rejected);
        assert_eq!(
            tokens.source.request_count.load(Ordering::SeqCst),
            request_count
        );
    }
}

#[tokio::test(start_paused = true)]
async fn replacement_without_refusal_costs_retry_budget() {
    let tokens = CredentialCache::new(Endpoint::default());
    let budget = RetryBudget::default();
    let present = async || {
        let lease = tokens.get(&Deadline::after(SECOND * 2).into()).await;
        lease.unwrap_or_else(|failure| panic!("{failure:?}"))
    };
    let first = present().await;
    first.accepted();
    while budget.withdraw() {}
    assert!(!tokens.discard_doubtful(&first, &budget));
    advance(SECOND).await;
    assert!(tokens.discard_doubtful(&first, &budget));
    // It is not the current value any more, so nothing is withdrawn from the budget.
    advance(SECOND).await;
    assert!(!tokens.discard_doubtful(&first, &budget));
    assert_eq!(present().await.value, 2);
    assert!(budget.withdraw());
}

#[tokio::test(start_paused = true)]
async fn refusal_costs_retry_budget_only_after_failed_renewal() {
    let tokens = CredentialCache::new(Endpoint::default());
    let budget = RetryBudget::default();
    let present = async || {
        let lease = tokens.get(&Deadline::after(SECOND * 2).into()).await;
        lease.unwrap_or_else(|failure| panic!("{failure:?}"))
    };
    let first = present().await;
    while budget.withdraw() {}
    // Any number of rejections of the same value causes a single renewal.
    for _ in 0..100 {
        assert!(tokens.discard_refused(&first, &budget));
    }
    let second = present().await;
    assert_eq!(second.value, 2);
    // The second value is rejected as well, so further retries are paid from the budget.
    while budget.withdraw() {}
    assert!(!tokens.discard_refused(&second, &budget));
    assert_eq!(present().await.value, 2);
    advance(SECOND * 3).await;
    for paid in [true, true, true, false] {
        assert_eq!(tokens.discard_refused(&second, &budget), paid);
    }
    let third = present().await;
    assert_eq!(third.value, 3);
    // After the value has been accepted, the next rejection is treated as an expiry again.
    third.accepted();
    while budget.withdraw() {}
    assert!(tokens.discard_refused(&third, &budget));
    assert_eq!(present().await.value, 4);
}

#[tokio::test(start_paused = true)]
async fn late_renewal_is_used_by_next_call() {
    let tokens = CredentialCache::new(Endpoint::default());
    tokens.source.is_slow.store(true, Ordering::SeqCst);
    let started = Instant::now();
    let failure = tokens.get(&Deadline::after(SECOND * 20).into()).await;
    let failure = failure.err().unwrap();
    assert_eq!(failure.reason, ErrorReason::UpstreamUnreachable);
    assert_eq!(failure.repeat, Repeat::Never);
    assert_eq!(started.elapsed(), SECOND / 2);
    // The next call joins the renewal in progress.
    advance(SECOND / 10).await;
    assert_eq!(get_value(&tokens, SECOND * 20).await, Ok(1));
    assert_eq!(get_value(&tokens, SECOND * 20).await, Ok(1));
    assert_eq!(tokens.source.request_count.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn renewal_can_be_cancelled() {
    let tokens = CredentialCache::new(Endpoint::default());
    tokens.source.hangs.store(true, Ordering::SeqCst);
    let call = get_value(&tokens, SECOND * 20);
    let cancel = async {
        sleep(SECOND).await;
        tokens.cancel().await;
        // No renewal is in progress.
        tokens.cancel().await;
    };
    let (result, ()) = tokio::join!(call, cancel);
    assert_eq!(result, Err(ErrorReason::Internal));
    tokens.source.hangs.store(false, Ordering::SeqCst);
    assert_eq!(get_value(&tokens, SECOND * 20).await, Ok(2));
}
