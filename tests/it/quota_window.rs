//! The window in which the deletions of a caller are counted, with a paused clock.

use std::time::Duration;

use tokio::time::advance;
use useradmin::{
    access::quota::{LocalQuota, LocalSlot, Quota as _, Slot},
    identity::Identity,
};

const WINDOW: Duration = Duration::from_mins(1);
const CALLER: Identity = Identity::Anonymous;
const SECOND: Duration = Duration::from_secs(1);

fn take(quota: &LocalQuota, limit: u32) -> Option<LocalSlot> {
    match quota.try_take(&CALLER, limit).ok()? {
        Slot::Taken(slot) => Some(slot),
        Slot::TakenWithIntent { .. } => unreachable!("the quota is local"),
    }
}

/// Takes slots until the limit is reached.
fn take_all(quota: &LocalQuota, limit: u32) -> Vec<LocalSlot> {
    std::iter::from_fn(|| take(quota, limit)).collect()
}

fn time_until_capacity(quota: &LocalQuota, limit: u32) -> Option<Duration> {
    quota.try_take(&CALLER, limit).err()
}

#[tokio::test(start_paused = true)]
async fn limit_applies_to_every_period_of_one_minute() {
    // The limit, the pauses in milliseconds before each attempt, and which attempts succeed.
    let cases: [(u32, &[u64], &str); 5] = [
        (1, &[0, 0, 59_999, 1, 0], "+--+-"),
        (3, &[0, 0, 0, 0, 20_000, 39_999, 1, 0, 0, 0], "+++---+++-"),
        (
            3,
            &[0, 20_000, 20_000, 19_999, 1, 0, 20_000, 20_000],
            "+++-+-++",
        ),
        (2, &[30_000, 29_000, 1_000, 30_000, 28_999, 1], "++-+-+"),
        (2, &[0, 0, 600_000, 0, 0], "++++-"),
    ];
    for (limit, pauses, expected) in cases {
        let quota = LocalQuota::default();
        let mut results = String::new();
        for pause in pauses {
            advance(Duration::from_millis(*pause)).await;
            results.push(if time_until_capacity(&quota, limit).is_none() {
                '+'
            } else {
                '-'
            });
        }
        assert_eq!(results, expected, "{limit} {pauses:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn refunded_slot_does_not_count() {
    let quota = LocalQuota::default();
    let refunded_slot = take(&quota, 2).unwrap();
    advance(SECOND * 10).await;
    assert_eq!(take_all(&quota, 2).len(), 1);
    refunded_slot.refund();
    let mut later_slots = take_all(&quota, 2);
    assert_eq!(later_slots.len(), 1);
    // Both are 10 seconds younger than the first was.
    advance(SECOND * 59).await;
    assert_eq!(time_until_capacity(&quota, 2), Some(SECOND));
    advance(SECOND).await;
    // A slot that is no longer in the window frees no other one.
    assert_eq!(take_all(&quota, 2).len(), 2);
    later_slots.remove(0).refund();
    assert_eq!(time_until_capacity(&quota, 2), Some(WINDOW));
}

#[tokio::test(start_paused = true)]
async fn deletion_counts_from_its_intent() {
    let quota = LocalQuota::default();
    let mut slots = take_all(&quota, 1);
    assert_eq!(time_until_capacity(&quota, 1), Some(WINDOW));
    advance(SECOND).await;
    for slot in &mut slots {
        slot.start();
    }
    advance(SECOND * 59).await;
    assert_eq!(time_until_capacity(&quota, 1), Some(SECOND));
    slots.remove(0).refund();
    assert_eq!(time_until_capacity(&quota, 1), None);
}

#[tokio::test(start_paused = true)]
async fn each_caller_has_its_own_quota() {
    let quota = LocalQuota::default();
    for number in 0..100 {
        let caller = Identity::Certificate(format!("spiffe://corp/{number}"));
        assert!(quota.try_take(&caller, 1).is_ok());
        assert!(quota.try_take(&caller, 1).is_err());
    }
}
