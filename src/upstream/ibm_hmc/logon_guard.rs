//! Limits refused logons, because an HMC disables a user after a few wrong passwords. [`LogonGuard`] is implemented for
//! one server ([`super::local_guard`]) and for servers that share a database ([`super::store_guard`]).

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::{
    config::secret::{Secret, SecretSource},
    error::Failure,
    proto::ErrorReason,
};

/// Number of refused logons in a row that suspend logons, below `max-failed-logins` of an HMC (3 in a sample).
pub const MAX_REFUSED: u32 = 2;
pub const SUSPENSION: Duration = Duration::from_mins(5);

/// Result of a logon that was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogonResult {
    Accepted,
    /// The HMC counts the password as wrong, or may do so.
    Refused,
    /// The logon failed for another reason, so the password does not count as wrong.
    Failed,
}

/// The guard of one account of an HMC.
#[async_trait]
pub trait LogonGuard: Send + Sync {
    /// Waits until no other logon is in progress whose password may be wrong, and reads the password. Fails if logons
    /// with it are suspended. Otherwise records the logon as refused, because the process may be killed before the
    /// response arrives; [`Logon::end`] corrects the record.
    ///
    /// `limit` is the time limit of the logon. Stops waiting, and fails, when `abandoned` is cancelled. The logon may
    /// have been recorded if the future is dropped.
    async fn begin_logon(
        self: Arc<Self>,
        password: &SecretSource,
        limit: Duration,
        abandoned: &CancellationToken,
    ) -> Result<Box<dyn Logon>, Failure>;

    /// Returns whether the HMC has accepted this password, and has not refused it since, as far as this process knows.
    fn was_accepted(&self, password: &Secret) -> bool;

    /// Returns how long [`Self::begin_logon`] may wait in addition to the time limit of the logon.
    fn max_wait(&self, limit: Duration) -> Duration;
}

/// A logon that may be sent now. It counts as refused if it is dropped.
#[async_trait]
pub trait Logon: Send + Sync {
    fn password(&self) -> &Secret;

    /// Records the result, and lets the next logon begin.
    async fn end(self: Box<Self>, result: LogonResult);
}

/// The last password that the HMC has accepted.
#[derive(Default)]
pub struct AcceptedPassword(Mutex<Option<Secret>>);

impl AcceptedPassword {
    pub fn is(&self, password: &Secret) -> bool {
        crate::lock(&self.0).as_ref() == Some(password)
    }

    pub fn set(&self, password: &Secret) {
        *crate::lock(&self.0) = Some(password.clone());
    }

    /// Forgets the password, because a logon was refused.
    pub fn forget(&self) {
        *crate::lock(&self.0) = None;
    }
}

/// Reads the password from its file.
pub fn read(password: &SecretSource) -> Result<Secret, Failure> {
    password.read().map_err(|error| {
        let context = format!("the password file cannot be used: {error}");
        Failure::new(ErrorReason::UpstreamCredentialsRejected, context)
    })
}

/// Returns the failure of a logon that is not sent, because logons with its password are suspended.
pub fn suspended() -> Failure {
    Failure::new(
        ErrorReason::UpstreamCredentialsRejected,
        "no logon: two logons with this password were refused or interrupted; logons resume with a new password, or after 5 minutes",
    )
}

/// Returns the failure of a logon that no call waits for any more.
pub fn abandoned() -> Failure {
    Failure::internal("no call waits for the logon any more")
}

/// Logs that this number of refused logons has suspended logons.
pub fn log_suspension(account: &str, refused: u32) {
    tracing::warn!(hmc_user = account, refused, "HMC logons suspended");
}
