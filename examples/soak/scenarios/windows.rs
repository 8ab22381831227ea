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
pub enum Trouble {
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

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Batch(_, fault) => write!(f, "Batch {fault:?}"),
            Self::Hmc(_, fault, _) => write!(f, "HMC {fault:?}"),
            Self::Expiry(_) => f.write_str("HMC session expires"),
            Self::LogonHangs(_) => f.write_str("HMC logon hangs"),
            Self::Tokens(fault) => write!(f, "token endpoint {fault:?}"),
            Self::Revoked => f.write_str("token revoked"),
            Self::Clocks(seconds) => write!(f, "clocks {seconds:+} s"),
            Self::Audit(sink) => write!(f, "audit log {sink:?}"),
        }
    }
}

impl Trouble {
    /// Returns the indices of the targets whose calls may fail because of the fault.
    pub fn harms(self) -> &'static [usize] {
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
            Self::Batch(target, fault) => environment.set(target, fault, None),
            Self::Hmc(target, fault, only) => environment.set(target, fault, only),
            Self::LogonHangs(target) => {
                environment.set(target, Fault::Hang, Some(Kind::Logon));
                environment.hmcs[target - 2].expire();
            }
            Self::Tokens(fault) => {
                environment.entra.set(fault, None);
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
            Self::Audit(_) => log.mend(),
            Self::Expiry(_) | Self::Revoked => {}
        }
    }
}

/// Returns the windows of one pass: first those with a fault of a Batch account and, usually, one of an HMC, then those
/// with a fault of all targets. The faults alternate between the two Batch accounts and between the two HMCs.
pub fn turn(number: usize) -> Vec<Vec<Trouble>> {
    // Passes alternate between faults of DELETE requests, which are more significant, and faults of all requests.
    let only = number.is_multiple_of(2).then_some(Kind::Delete);
    let mut batch: Vec<Trouble> = Vec::new();
    let mut hmc: Vec<Trouble> = Vec::new();
    for (at, fault) in COMMON.into_iter().enumerate() {
        let other = (at + number / 2) % 2;
        batch.push(Trouble::Batch(other, fault));
        hmc.push(Trouble::Hmc(2 + other, fault, only));
    }
    batch.extend(TOKENS.map(Trouble::Tokens));
    batch.push(Trouble::Revoked);
    let other = 2 + number % 2;
    hmc.push(Trouble::Hmc(other, Fault::Conflict, only));
    hmc.push(Trouble::Expiry(5 - other));
    hmc.push(Trouble::LogonHangs(other));
    let mut windows: Vec<Vec<Trouble>> = Vec::new();
    let mut hmc = hmc.into_iter();
    for trouble in batch {
        windows.push([trouble].into_iter().chain(hmc.next()).collect());
    }
    let everybody = [
        Trouble::Clocks(600),
        Trouble::Clocks(-600),
        Trouble::Audit(Sink::Full),
        Trouble::Audit(Sink::Pipe),
    ];
    windows.extend(everybody.map(|trouble| vec![trouble]));
    windows
}
