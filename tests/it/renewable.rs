//! What is obtained once for many calls, on a paused clock: used until it lapses, renewed ahead of that.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use tokio::time::{advance, sleep};
use useradmin::{
    error::Failure,
    proto::ErrorReason,
    upstream::{
        deadline::Deadline,
        renewable::{Lease, Obtaining, Renewable, Source},
    },
};

const SECOND: Duration = Duration::from_secs(1);

/// Yields 1, 2, 3, ... for 100 seconds each, a second after it was asked.
#[derive(Default)]
struct Endpoint {
    asked: AtomicU32,
    down: AtomicBool,
}

impl Source<u32> for Endpoint {
    fn obtain(self: Arc<Self>) -> Obtaining<u32> {
        let number = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        let down = self.down.load(Ordering::SeqCst);
        Box::pin(async move {
            sleep(SECOND).await;
            if down {
                return Err(Failure::new(ErrorReason::UpstreamUnreachable, "down"));
            }
            Ok(Lease::lasting(number, SECOND * 100))
        })
    }
}

async fn get(tokens: &Renewable<u32, Endpoint>, patience: Duration) -> Result<u32, ErrorReason> {
    let lease = tokens.get(&Deadline::after(patience)).await;
    lease
        .map(|lease| lease.value)
        .map_err(|failure| failure.reason)
}

#[tokio::test(start_paused = true)]
async fn one_is_obtained_for_all_who_wait_each_with_its_own_deadline() {
    let tokens = Renewable::new(Endpoint::default());
    let patient = join_all((0..50).map(|_| get(&tokens, SECOND * 2)));
    let hurried = join_all((0..50).map(|_| get(&tokens, SECOND / 2)));
    let (patient, hurried) = tokio::join!(patient, hurried);
    assert!(patient.iter().all(|answer| *answer == Ok(1)));
    let late = Err(ErrorReason::DeadlineExceeded);
    assert!(hurried.iter().all(|answer| *answer == late));
    assert_eq!(tokens.source().asked.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn it_is_renewed_ahead_and_nobody_waits_for_that() {
    let tokens = Renewable::new(Endpoint::default());
    let at_once = Duration::from_millis(1);
    assert_eq!(get(&tokens, SECOND * 2).await, Ok(1));
    advance(SECOND * 79).await;
    assert_eq!(get(&tokens, at_once).await, Ok(1));
    assert_eq!(tokens.source().asked.load(Ordering::SeqCst), 1);
    advance(SECOND * 2).await;
    // The renewal is on its way.
    assert_eq!(get(&tokens, at_once).await, Ok(1));
    sleep(SECOND * 2).await;
    assert_eq!(get(&tokens, at_once).await, Ok(2));
    assert_eq!(tokens.source().asked.load(Ordering::SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn while_it_lasts_a_source_that_is_down_has_no_effect() {
    let tokens = Renewable::new(Endpoint::default());
    assert_eq!(get(&tokens, SECOND * 2).await, Ok(1));
    tokens.source().down.store(true, Ordering::SeqCst);
    advance(SECOND * 81).await;
    for _ in 0..18 {
        assert_eq!(get(&tokens, Duration::from_millis(1)).await, Ok(1));
        sleep(SECOND).await;
    }
    // Once, and not again before a pause has passed.
    let asked = tokens.source().asked.load(Ordering::SeqCst);
    assert!((3..=5).contains(&asked), "{asked}");
    advance(SECOND * 2).await;
    let down = Err(ErrorReason::UpstreamUnreachable);
    assert_eq!(get(&tokens, SECOND * 2).await, down);
    tokens.source().down.store(false, Ordering::SeqCst);
    assert!(get(&tokens, SECOND * 2).await.is_ok());
}
