//! Limits the number of log lines and audit records about refusals. The first refusals of a peer in a minute are
//! reported individually. Further refusals are only counted, and reported in a summary, so that a peer without
//! permissions cannot fill the disk.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::Mutex,
    time::Duration,
};

use time::OffsetDateTime;
use tokio::time::Instant;

use crate::identity::Identity;

/// Length of a window, which is the period that one summary covers.
const WINDOW: Duration = Duration::from_mins(1);
/// Maximum number of refusals of one peer, caller and kind that are reported individually in a window.
const MAX_REPORTED: u64 = 60;
/// Maximum number of open windows. Further peers share one window for each kind.
const MAX_WINDOWS: usize = 1_024;

/// A kind of refusal. Each kind is limited separately.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Kind {
    /// The message of the log line of a single refusal.
    pub event: &'static str,
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

#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RefusalGroup {
    /// IPv4 address, IPv6 network of 64 bits, `other` for peers that share a window, or empty for an unknown peer.
    pub peer: String,
    /// The caller, if its identity was verified. Callers behind the same proxy are counted separately, so that the
    /// refusals of one do not hide those of another.
    pub caller: Option<Identity>,
    pub kind: Kind,
}

/// Refusals that were counted instead of reported.
pub struct Summary {
    pub group: RefusalGroup,
    /// The time of the first refusal in the window, whether reported or counted.
    pub since: OffsetDateTime,
    pub count: u64,
}

/// Refusals of the last minute.
#[derive(Default)]
pub struct Refusals(Mutex<State>);

#[derive(Default)]
struct State {
    windows: HashMap<RefusalGroup, Window>,
    /// Summaries of windows that a new window has replaced.
    closed: Vec<Summary>,
}

struct Window {
    opened: Instant,
    since: OffsetDateTime,
    count: u64,
}

impl Refusals {
    /// Counts a refusal. Returns whether it is reported individually, and not as part of a summary.
    pub fn should_report(
        &self,
        peer: Option<IpAddr>,
        caller: Option<&Identity>,
        kind: Kind,
    ) -> bool {
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
            return window.count <= MAX_REPORTED;
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

/// Returns an IPv4 address, or the first 64 bits of an IPv6 address, because a single host can use all the rest.
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

    /// Returns the summary of a window, or `None` if every refusal of the window was reported individually.
    fn summary(self, group: RefusalGroup) -> Option<Summary> {
        let count = self.count.saturating_sub(MAX_REPORTED);
        let since = self.since;
        (count > 0).then_some(Summary {
            group,
            since,
            count,
        })
    }
}
