//! Limits the records of refusals: the first refusals of a peer are logged and recorded one by one, further ones in the same
//! minute are counted, so that a peer without permissions cannot fill the disk.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::Mutex,
    time::Duration,
};

use time::OffsetDateTime;
use tokio::time::Instant;

use crate::identity::Identity;

/// The period of one summary.
const WINDOW: Duration = Duration::from_mins(1);
/// Refusals of one peer, caller and kind that are reported one by one in a window.
const REPORTED: u64 = 60;
/// Windows that are open at the same time. Peers beyond that share one window for each kind.
const MAX_WINDOWS: usize = 1_024;

/// A kind of refusal; each is limited on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Kind {
    /// The message of the log line of a single refusal.
    pub event: &'static str,
    /// The reason, as the log line spells it.
    pub reason: &'static str,
    /// The outcome in the audit log, or `None` if such refusals are not recorded there.
    pub outcome: Option<&'static str>,
}

impl Kind {
    /// Returns the kind of refusals that are logged and not recorded. `reason` may be empty.
    pub const fn logged(event: &'static str, reason: &'static str) -> Self {
        Self {
            event,
            reason,
            outcome: None,
        }
    }
}

/// Refusals that are counted together.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RefusalGroup {
    /// An IPv4 address, an IPv6 network of 64 bits, or `other` for peers that share a window; empty if unknown.
    pub peer: String,
    /// The caller if its identity was verified, so that callers behind the same proxy do not hide each other.
    pub caller: Option<Identity>,
    pub kind: Kind,
}

/// Refusals that were counted instead of reported.
pub struct Summary {
    pub group: RefusalGroup,
    /// The time of the first refusal in the window, whether reported or counted.
    pub since: OffsetDateTime,
    /// Number of refusals.
    pub count: u64,
}

/// Refusals of the last minute.
#[derive(Default)]
pub struct Refusals(Mutex<State>);

#[derive(Default)]
struct State {
    windows: HashMap<RefusalGroup, Window>,
    /// Summaries of windows that have been replaced by a new one.
    closed: Vec<Summary>,
}

struct Window {
    opened: Instant,
    since: OffsetDateTime,
    count: u64,
}

impl Refusals {
    /// Counts a refusal. Returns whether it is logged and recorded individually. Otherwise it becomes part of a summary.
    pub fn admit(&self, peer: Option<IpAddr>, caller: Option<&Identity>, kind: Kind) -> bool {
        let mut group = RefusalGroup {
            peer: peer.map(network).unwrap_or_default(),
            caller: caller.cloned(),
            kind,
        };
        let mut state = crate::lock(&self.0);
        let now = Instant::now();
        if state.windows.len() >= MAX_WINDOWS && !state.windows.contains_key(&group) {
            group = RefusalGroup {
                peer: "other".to_owned(),
                caller: None,
                kind,
            };
        }
        let window = state.windows.entry(group.clone());
        let window = window.or_insert_with(|| Window::new(now));
        if now < window.opened + WINDOW {
            window.count += 1;
            return window.count <= REPORTED;
        }
        let closed = std::mem::replace(window, Window::new(now));
        window.count = 1;
        state.closed.extend(closed.summary(group));
        true
    }

    /// Closes the windows whose time is over, or all of them, and returns their summaries.
    pub fn close(&self, all: bool) -> Vec<Summary> {
        let mut state = crate::lock(&self.0);
        let now = Instant::now();
        let is_expired = |window: &Window| all || now >= window.opened + WINDOW;
        let mut summaries = std::mem::take(&mut state.closed);
        let expired = state.windows.extract_if(|_, window| is_expired(window));
        summaries.extend(expired.filter_map(|(group, window)| window.summary(group)));
        summaries
    }
}

/// Returns an IPv4 address, or the first 64 bits of an IPv6 address: a single host can use all addresses of such a
/// network.
fn network(peer: IpAddr) -> String {
    match peer.to_canonical() {
        IpAddr::V6(address) if !address.is_loopback() => {
            let network = u128::from(address) >> 64 << 64;
            format!("{}/64", Ipv6Addr::from(network))
        }
        address => address.to_string(),
    }
}

impl Window {
    fn new(opened: Instant) -> Self {
        Self {
            opened,
            since: OffsetDateTime::now_utc(),
            count: 0,
        }
    }

    /// Returns `None` if every refusal of the window was reported.
    fn summary(self, group: RefusalGroup) -> Option<Summary> {
        let count = self.count.saturating_sub(REPORTED);
        let since = self.since;
        (count > 0).then_some(Summary {
            group,
            since,
            count,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{net::IpAddr, time::Duration};

    use tokio::time::advance;

    use super::{Identity, Kind, MAX_WINDOWS, REPORTED, Refusals, WINDOW};

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
    fn refuse(refusals: &Refusals, peer: &str, kind: Kind, times: u64) -> usize {
        let peer = address(peer);
        (0..times)
            .filter(|_| refusals.admit(peer, None, kind))
            .count()
    }

    fn closed(refusals: &Refusals, all: bool) -> Vec<(String, &'static str, u64)> {
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
        assert_eq!(refuse(&refusals, peer, DENIED, REPORTED), 60);
        assert_eq!(refuse(&refusals, peer, DENIED, 40_000), 0);
        advance(Duration::from_millis(59_999)).await;
        assert_eq!(refuse(&refusals, peer, DENIED, 1), 0);
        assert_eq!(closed(&refusals, false), []);
        // A flood that has ended gets exactly one summary.
        advance(Duration::from_millis(1)).await;
        assert_eq!(closed(&refusals, false), summary(40_001));
        assert_eq!(closed(&refusals, false), []);
        // A flood that continues opens the next window, even before the last one is closed.
        assert_eq!(refuse(&refusals, peer, DENIED, 70), 60);
        advance(WINDOW).await;
        assert_eq!(refuse(&refusals, peer, DENIED, 61), 60);
        assert_eq!(closed(&refusals, false), summary(10));
        assert_eq!(closed(&refusals, true), summary(1));
        // Few refusals need no summary.
        assert_eq!(refuse(&refusals, peer, DENIED, REPORTED), 60);
        assert_eq!(closed(&refusals, true), []);
    }

    #[tokio::test(start_paused = true)]
    async fn peers_callers_and_kinds_are_limited_separately() {
        let refusals = Refusals::default();
        assert_eq!(refuse(&refusals, "192.0.2.1", DENIED, 100), 60);
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
            assert_eq!(refuse(&refusals, peer, DENIED, 100), reported, "{peer}");
        }
        assert_eq!(refuse(&refusals, "192.0.2.1", INVALID, 100), 60);
        // Callers behind one proxy do not hide each other.
        for name in ["spiffe://corp/a", "spiffe://corp/b"] {
            let caller = Identity::Certificate(name.to_owned());
            let refused =
                (0..100).filter(|_| refusals.admit(address("192.0.2.1"), Some(&caller), DENIED));
            assert_eq!(refused.count(), 60, "{caller}");
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
        assert_eq!(closed(&refusals, true), expected);
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_bounded_for_any_number_of_peers() {
        let refusals = Refusals::default();
        let mut reported = 0;
        for number in 0..100_000_u32 {
            let peer = IpAddr::from(number.to_be_bytes());
            reported += usize::from(refusals.admit(Some(peer), None, DENIED));
        }
        assert_eq!(reported, MAX_WINDOWS + 60);
        assert_eq!(crate::lock(&refusals.0).windows.len(), MAX_WINDOWS + 1);
        // A peer that has a window keeps it.
        assert_eq!(refuse(&refusals, "0.0.0.1", DENIED, 1), 1);
        let others = 100_000 - u64::try_from(reported).unwrap_or_default();
        assert_eq!(
            closed(&refusals, true),
            [("other".to_owned(), "DENIED", others)]
        );
    }
}
