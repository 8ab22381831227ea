//! The limits of reported refusals in each minute, with a paused clock.

use std::{net::IpAddr, time::Duration};

use tokio::time::advance;
use useradmin::{
    access::refusals::{Kind, Refusals},
    identity::Identity,
};

const WINDOW: Duration = Duration::from_mins(1);
/// Refusals that are reported one by one in a window.
const REPORTED: u64 = 60;
/// Windows that are open at the same time.
const MAX_WINDOWS: usize = 1_024;

const DENIED: Kind = Kind {
    event: "call",
    reason: "DENIED",
    outcome: Some("denied"),
};
const INVALID: Kind = Kind {
    reason: "INVALID",
    outcome: None,
    ..DENIED
};

fn address(text: &str) -> Option<IpAddr> {
    text.parse().ok()
}

/// Refuses `times` times, and returns how many refusals are reported.
fn count_reported(refusals: &Refusals, peer: &str, kind: Kind, times: u64) -> usize {
    let peer = address(peer);
    (0..times)
        .filter(|_| refusals.should_report(peer, None, kind))
        .count()
}

fn closed_summaries(refusals: &Refusals, all: bool) -> Vec<(String, &'static str, u64)> {
    let summaries = refusals.close(all).into_iter();
    let mut summaries: Vec<_> = summaries
        .map(|summary| (summary.group.peer, summary.group.kind.reason, summary.count))
        .collect();
    summaries.sort();
    summaries
}

#[tokio::test(start_paused = true)]
async fn each_minute_has_single_reports_and_one_summary() {
    let refusals = Refusals::default();
    let peer = "192.0.2.1";
    let summary = |count| vec![(peer.to_owned(), "DENIED", count)];
    assert_eq!(count_reported(&refusals, peer, DENIED, REPORTED), 60);
    assert_eq!(count_reported(&refusals, peer, DENIED, 40_000), 0);
    advance(Duration::from_millis(59_999)).await;
    assert_eq!(count_reported(&refusals, peer, DENIED, 1), 0);
    assert_eq!(closed_summaries(&refusals, false), []);
    // A flood that has ended gets exactly one summary.
    advance(Duration::from_millis(1)).await;
    assert_eq!(closed_summaries(&refusals, false), summary(40_001));
    assert_eq!(closed_summaries(&refusals, false), []);
    // A flood that continues opens the next window, even before the last one is closed.
    assert_eq!(count_reported(&refusals, peer, DENIED, 70), 60);
    advance(WINDOW).await;
    assert_eq!(count_reported(&refusals, peer, DENIED, 61), 60);
    assert_eq!(closed_summaries(&refusals, false), summary(10));
    assert_eq!(closed_summaries(&refusals, true), summary(1));
    // Few refusals need no summary.
    assert_eq!(count_reported(&refusals, peer, DENIED, REPORTED), 60);
    assert_eq!(closed_summaries(&refusals, true), []);
}

#[tokio::test(start_paused = true)]
async fn peers_callers_and_kinds_are_limited_separately() {
    let refusals = Refusals::default();
    assert_eq!(count_reported(&refusals, "192.0.2.1", DENIED, 100), 60);
    // The address, and how many of a hundred refusals are reported.
    let cases = [
        ("192.0.2.1", 0),
        ("::ffff:192.0.2.1", 0),
        ("192.0.2.2", 60),
        ("2001:db8:1:2::1", 60),
        ("2001:db8:1:2:ffff::1", 0),
        ("2001:db8:1:3::1", 60),
        ("::1", 60),
        ("127.0.0.1", 60),
        ("127.0.0.2", 60),
        ("", 60),
    ];
    for (peer, reported) in cases {
        assert_eq!(
            count_reported(&refusals, peer, DENIED, 100),
            reported,
            "{peer}"
        );
    }
    assert_eq!(count_reported(&refusals, "192.0.2.1", INVALID, 100), 60);
    // Callers behind one proxy do not hide each other.
    for name in ["spiffe://corp/a", "spiffe://corp/b"] {
        let caller = Identity::Certificate(name.to_owned());
        let refusal = (0..100)
            .filter(|_| refusals.should_report(address("192.0.2.1"), Some(&caller), DENIED));
        assert_eq!(refusal.count(), 60, "{caller}");
    }
    let expected = [
        ("", "DENIED", 40),
        ("127.0.0.1", "DENIED", 40),
        ("127.0.0.2", "DENIED", 40),
        ("192.0.2.1", "DENIED", 40),
        ("192.0.2.1", "DENIED", 40),
        ("192.0.2.1", "DENIED", 240),
        ("192.0.2.1", "INVALID", 40),
        ("192.0.2.2", "DENIED", 40),
        ("2001:db8:1:2::/64", "DENIED", 140),
        ("2001:db8:1:3::/64", "DENIED", 40),
        ("::1", "DENIED", 40),
    ];
    let expected = expected.map(|(peer, reason, count)| (peer.to_owned(), reason, count));
    assert_eq!(closed_summaries(&refusals, true), expected);
}

#[tokio::test(start_paused = true)]
async fn memory_is_bounded_for_any_number_of_peers() {
    let refusals = Refusals::default();
    let mut reported = 0;
    for number in 0..100_000_u32 {
        let peer = IpAddr::from(number.to_be_bytes());
        reported += usize::from(refusals.should_report(Some(peer), None, DENIED));
    }
    assert_eq!(reported, MAX_WINDOWS + 60);
    // A peer that has a window keeps it.
    assert_eq!(count_reported(&refusals, "0.0.0.1", DENIED, 1), 1);
    let others = 100_000 - u64::try_from(reported).unwrap_or_default();
    assert_eq!(
        closed_summaries(&refusals, true),
        [("other".to_owned(), "DENIED", others)]
    );
}
