//! The schedule of faults.

use std::fmt;

use crate::{
    environment::Environment,
    log::{Log, Sink},
    upstream::{Fault, Kind},
};

/// Faults of both kinds of upstreams.
const UPSTREAM_FAULTS: [Fault; 13] = [
    Fault::Refuse,
    Fault::ResetBefore,
    Fault::ResetAfter,
    Fault::TruncatedStatusLine,
    Fault::Hang,
    Fault::HangAfter,
    Fault::Slow,
    Fault::Throttled,
    Fault::Busy,
    Fault::Failing,
    Fault::Redirect,
    Fault::EndlessBody,
    Fault::InvalidHttp,
];
/// Faults of the token endpoint.
const TOKEN_FAULTS: [Fault; 4] = [
    Fault::Refuse,
    Fault::Failing,
    Fault::Hang,
    Fault::InvalidHttp,
];

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

impl FaultKind {
    /// Returns the indices of the targets whose calls may fail because of the fault.
    pub fn affected_targets(self) -> &'static [usize] {
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
            Self::Batch(target, fault) => environment.set_fault(target, fault, None),
            Self::Hmc(target, fault, affected_kind) => {
                environment.set_fault(target, fault, affected_kind);
            }
            Self::LogonHangs(target) => {
                environment.set_fault(target, Fault::Hang, Some(Kind::Logon));
                environment.hmcs[target - 2].expire();
            }
            Self::Tokens(fault) => {
                environment.entra.set_fault(fault, None);
                environment.entra.revoke();
            }
            Self::Clocks(seconds) => environment.set_clock_offsets(seconds),
            Self::Audit(sink) => log.fail(sink),
            Self::Expiry(target) => environment.hmcs[target - 2].expire(),
            Self::Revoked => environment.entra.revoke(),
        }
    }

    pub fn end(self, environment: &Environment, log: &mut Log) {
        match self {
            Self::Batch(target, _) | Self::Hmc(target, ..) | Self::LogonHangs(target) => {
                environment.set_fault(target, Fault::None, None);
            }
            Self::Tokens(_) => environment.entra.set_fault(Fault::None, None),
            Self::Clocks(_) => environment.set_clock_offsets(0),
            Self::Audit(_) => log.restore(),
            Self::Expiry(_) | Self::Revoked => {}
        }
    }
}

/// Returns the windows of one pass: first those with a fault of a Batch account and, usually, one of an HMC, then those
/// with a fault of all targets. The faults alternate between the two Batch accounts and between the two HMCs.
pub fn windows_of_pass(pass: usize) -> Vec<Vec<FaultKind>> {
    // Passes alternate between faults of DELETE requests, which are more significant, and faults of all requests.
    let affected_kind = pass.is_multiple_of(2).then_some(Kind::Delete);
    let mut batch_faults: Vec<FaultKind> = Vec::new();
    let mut hmc_faults: Vec<FaultKind> = Vec::new();
    for (index, fault) in UPSTREAM_FAULTS.into_iter().enumerate() {
        let account = (index + pass / 2) % 2;
        batch_faults.push(FaultKind::Batch(account, fault));
        hmc_faults.push(FaultKind::Hmc(2 + account, fault, affected_kind));
    }
    batch_faults.extend(TOKEN_FAULTS.map(FaultKind::Tokens));
    batch_faults.push(FaultKind::Revoked);
    let hmc = 2 + pass % 2;
    hmc_faults.push(FaultKind::Hmc(hmc, Fault::Conflict, affected_kind));
    hmc_faults.push(FaultKind::Expiry(5 - hmc));
    hmc_faults.push(FaultKind::LogonHangs(hmc));
    let mut windows: Vec<Vec<FaultKind>> = Vec::new();
    let mut hmc_faults = hmc_faults.into_iter();
    for fault in batch_faults {
        windows.push([fault].into_iter().chain(hmc_faults.next()).collect());
    }
    let all_targets = [
        FaultKind::Clocks(600),
        FaultKind::Clocks(-600),
        FaultKind::Audit(Sink::Full),
        FaultKind::Audit(Sink::Pipe),
    ];
    windows.extend(all_targets.map(|fault| vec![fault]));
    windows
}
