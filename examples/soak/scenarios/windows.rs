//! The schedule of faults.

use std::fmt;

use crate::{
    environment::Environment,
    log::{Log, Sink},
    upstream::{Fault, Kind},
};

/// Faults of both kinds of upstreams.
const COMMON: [Fault; 13] = [
    Fault::Refuse,
    Fault::ResetBefore,
    Fault::ResetAfter,
    Fault::HalfAnAnswer,
    Fault::Hang,
    Fault::HangAfter,
    Fault::Slow,
    Fault::Throttled,
    Fault::Busy,
    Fault::Failing,
    Fault::Redirect,
    Fault::EndlessBody,
    Fault::Rubbish,
];
/// Faults of the token endpoint.
const TOKENS: [Fault; 4] = [Fault::Refuse, Fault::Failing, Fault::Hang, Fault::Rubbish];

/// A fault, with the index of the target that it affects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    Batch(usize, Fault),
    Hmc(usize, Fault, Option<Kind>),
    /// All sessions of the HMC expire.
    Expiry(usize),
    /// The sessions of the HMC expire, and logon requests receive no response.
    LogonHangs(usize),
    /// All tokens are revoked, and requests for new ones are affected by this fault.
    Tokens(Fault),
    /// All tokens are revoked once. A call renews its token only once, and would fail if the new one was revoked too.
    Revoked,
    /// The clocks of all upstreams are wrong by this number of seconds.
    Clocks(i64),
    Audit(Sink),
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Batch(_, error) => write!(f, "Batch {error:?}"),
            Self::Hmc(_, error, _) => write!(f, "HMC {error:?}"),
            Self::Expiry(_) => f.write_str("HMC session expires"),
            Self::LogonHangs(_) => f.write_str("HMC logon hangs"),
            Self::Tokens(error) => write!(f, "token endpoint {error:?}"),
            Self::Revoked => f.write_str("token revoked"),
            Self::Clocks(seconds) => write!(f, "clocks {seconds:+} s"),
            Self::Audit(sink) => write!(f, "audit log {sink:?}"),
        }
    }
}

impl FaultKind {
    /// Returns the indices of the targets whose calls may fail because of the fault.
    pub fn affects(self) -> &'static [usize] {
        const EACH: [&[usize]; 4] = [&[0], &[1], &[2], &[3]];
        match self {
            Self::Batch(_, Fault::Slow | Fault::EndlessBody)
            | Self::Hmc(_, Fault::Slow, _)
            | Self::Expiry(_)
            | Self::Revoked
            | Self::Clocks(_) => &[],
            Self::Batch(target, _) | Self::Hmc(target, ..) | Self::LogonHangs(target) => {
                EACH[target]
            }
            Self::Tokens(_) => EACH[0],
            Self::Audit(_) => &[0, 1, 2, 3],
        }
    }

    pub fn begin(self, environment: &Environment, log: &mut Log) {
        match self {
            Self::Batch(target, error) => environment.set(target, error, None),
            Self::Hmc(target, error, only) => environment.set(target, error, only),
            Self::LogonHangs(target) => {
                environment.set(target, Fault::Hang, Some(Kind::Logon));
                environment.hmcs[target - 2].expire();
            }
            Self::Tokens(error) => {
                environment.entra.set(error, None);
                environment.entra.revoke();
            }
            Self::Clocks(seconds) => environment.set_clocks(seconds),
            Self::Audit(sink) => log.fail(sink),
            Self::Expiry(target) => environment.hmcs[target - 2].expire(),
            Self::Revoked => environment.entra.revoke(),
        }
    }

    pub fn end(self, environment: &Environment, log: &mut Log) {
        match self {
            Self::Batch(target, _) | Self::Hmc(target, ..) | Self::LogonHangs(target) => {
                environment.set(target, Fault::None, None);
            }
            Self::Tokens(_) => environment.entra.set(Fault::None, None),
            Self::Clocks(_) => environment.set_clocks(0),
            Self::Audit(_) => log.restore(),
            Self::Expiry(_) | Self::Revoked => {}
        }
    }
}

/// Returns the windows of one pass: first those with a fault of a Batch account and, usually, one of an HMC, then those
/// with a fault of all targets. The faults alternate between the two Batch accounts and between the two HMCs.
pub fn turn(number: usize) -> Vec<Vec<FaultKind>> {
    // Passes alternate between faults of DELETE requests, which are more significant, and faults of all requests.
    let only = number.is_multiple_of(2).then_some(Kind::Delete);
    let mut batch: Vec<FaultKind> = Vec::new();
    let mut hmc: Vec<FaultKind> = Vec::new();
    for (at, error) in COMMON.into_iter().enumerate() {
        let other = (at + number / 2) % 2;
        batch.push(FaultKind::Batch(other, error));
        hmc.push(FaultKind::Hmc(2 + other, error, only));
    }
    batch.extend(TOKENS.map(FaultKind::Tokens));
    batch.push(FaultKind::Revoked);
    let other = 2 + number % 2;
    hmc.push(FaultKind::Hmc(other, Fault::Conflict, only));
    hmc.push(FaultKind::Expiry(5 - other));
    hmc.push(FaultKind::LogonHangs(other));
    let mut windows: Vec<Vec<FaultKind>> = Vec::new();
    let mut hmc = hmc.into_iter();
    for fault_kind in batch {
        windows.push([fault_kind].into_iter().chain(hmc.next()).collect());
    }
    let everybody = [
        FaultKind::Clocks(600),
        FaultKind::Clocks(-600),
        FaultKind::Audit(Sink::Full),
        FaultKind::Audit(Sink::Pipe),
    ];
    windows.extend(everybody.map(|fault_kind| vec![fault_kind]));
    windows
}
