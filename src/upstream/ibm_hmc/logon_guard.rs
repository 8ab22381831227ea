//! The lock-out guard: it limits refused logons, because an HMC disables a user after a few wrong passwords.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use sha2::{Digest as _, Sha256};
use tokio::{sync, task::spawn_blocking, time::Instant};
use zeroize::Zeroizing;

use super::logon_file::LogonFile;
use crate::{
    config::{self, secret::Secret},
    error::Failure,
    proto::ErrorReason,
};

/// Refused logons after which no further one is sent. An HMC disables a user after more than that (sample: 3).
pub const MAX_REFUSED: u32 = 2;
/// How long no logon is sent then.
pub const GUARD_TIME: Duration = Duration::from_mins(5);

/// Refused logons in a row with one password.
struct Refusals {
    count: u32,
    /// No logon is sent until then, if `count` is [`MAX_REFUSED`] or more.
    until: Instant,
    password: [u8; 32],
}

impl Refusals {
    fn none(password: [u8; 32]) -> Self {
        Self {
            count: 0,
            until: Instant::now(),
            password,
        }
    }
}

/// The guard of one HMC.
pub struct LogonGuard {
    alias: String,
    /// URL and user ID: a password that is refused for another user, or elsewhere, is another one.
    account: String,
    file: Option<Arc<LogonFile>>,
    /// `None` until the first logon, which reads the file.
    refusals: sync::Mutex<Option<Refusals>>,
    /// The last password that the HMC has accepted.
    accepted: Mutex<Option<[u8; 32]>>,
}

impl LogonGuard {
    /// Creates the guard of the HMC with this alias. Without a file, refused logons are forgotten at a restart.
    #[must_use]
    pub fn new(alias: &str, hmc: &config::Hmc, file: Option<Arc<LogonFile>>) -> Self {
        Self {
            alias: alias.to_owned(),
            account: format!("{}\n{}\n", hmc.url, hmc.userid),
            file,
            refusals: sync::Mutex::new(None),
            accepted: Mutex::default(),
        }
    }

    /// Fails while the HMC is known to refuse this password.
    pub async fn may_log_on(&self, password: &Secret) -> Result<(), Failure> {
        let mut refusals = self.refusals.lock().await;
        let digest = digest(password);
        match &mut *refusals {
            None => *refusals = Some(self.recorded(password).await),
            Some(known) if known.password != digest => *known = Refusals::none(digest),
            Some(_) => {}
        }
        let guarded = |known: &Refusals| known.count >= MAX_REFUSED && Instant::now() < known.until;
        if refusals.as_ref().is_some_and(guarded) {
            return Err(Failure::new(
                ErrorReason::UpstreamCredentialsRejected,
                "no logon: the HMC refused this password; waiting for another one, or 5 minutes",
            ));
        }
        Ok(())
    }

    /// Records that the HMC has refused this password. The record is on the disk when this returns.
    pub async fn refused(&self, password: &Secret) {
        let mut refusals = self.refusals.lock().await;
        *crate::lock(&self.accepted) = None;
        let digest = digest(password);
        let known = refusals.get_or_insert_with(|| Refusals::none(digest));
        known.count = known.count.saturating_add(1);
        known.until = Instant::now() + GUARD_TIME;
        known.password = digest;
        let count = known.count;
        if count >= MAX_REFUSED {
            tracing::warn!(hmc = self.alias, refused = count, "logons suspended");
        }
        let secret = self.secret(password);
        self.with_file(move |file, alias| file.record(alias, &secret, count))
            .await;
    }

    /// Records that the HMC has accepted this password.
    pub async fn accepted(&self, password: &Secret) {
        let mut refusals = self.refusals.lock().await;
        let digest = digest(password);
        *crate::lock(&self.accepted) = Some(digest);
        *refusals = Some(Refusals::none(digest));
        self.with_file(LogonFile::remove).await;
    }

    /// Returns whether this password is the one that the HMC has accepted last.
    pub fn was_accepted(&self, password: &Secret) -> bool {
        *crate::lock(&self.accepted) == Some(digest(password))
    }

    /// Returns what an earlier process has recorded of this password.
    async fn recorded(&self, password: &Secret) -> Refusals {
        let secret = self.secret(password);
        let found = self.with_file(move |file, alias| file.refusals(alias, &secret));
        let mut refusals = Refusals::none(digest(password));
        if let Some((count, left)) = found.await.flatten() {
            (refusals.count, refusals.until) = (count, Instant::now() + left);
        }
        refusals
    }

    /// Runs work that waits for the disk, and computes slow digests, on a thread of its own.
    async fn with_file<R: Send + 'static>(
        &self,
        work: impl FnOnce(&LogonFile, &str) -> R + Send + 'static,
    ) -> Option<R> {
        let (file, alias) = (Arc::clone(self.file.as_ref()?), self.alias.clone());
        spawn_blocking(move || work(&file, &alias)).await.ok()
    }

    fn secret(&self, password: &Secret) -> Zeroizing<String> {
        Zeroizing::new(format!("{}{}", self.account, password.expose()))
    }
}

fn digest(password: &Secret) -> [u8; 32] {
    Sha256::digest(password.expose().as_bytes()).into()
}
