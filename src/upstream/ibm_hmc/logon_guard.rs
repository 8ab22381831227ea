//! Limits refused logons, because an HMC disables a user after a few wrong passwords.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{sync, task::spawn_blocking, time::Instant};
use zeroize::Zeroizing;

use super::logon_file::{Durability, LogonFile, MAX_REFUSED, PasswordDigest, SUSPENSION};
use crate::{
    config::{self, AuditSink, secret::Secret},
    error::Failure,
    proto::ErrorReason,
};

/// Refused logons in a row with one password.
struct Refusals {
    count: u32,
    /// Time until which logons are suspended, if `count` is [`MAX_REFUSED`] or more.
    until: Instant,
    password: Secret,
    /// The digest of the password for the file. It is computed when it is needed for the first time.
    digest: Option<PasswordDigest>,
}

impl Refusals {
    fn none(password: &Secret) -> Self {
        Self {
            count: 0,
            until: Instant::now(),
            password: password.clone(),
            digest: None,
        }
    }

    fn is_suspended(&self) -> bool {
        self.count >= MAX_REFUSED && Instant::now() < self.until
    }
}

/// Returns the account of logons to this HMC, as `user@host:port`. The case of users does not matter.
fn account(hmc: &config::Target<config::Hmc>) -> String {
    let host = hmc.url.host_str().unwrap_or_default();
    let host = host.strip_suffix('.').unwrap_or(host);
    let port = hmc.url.port_or_known_default().unwrap_or_default();
    format!("{}@{host}:{port}", hmc.own.userid.to_lowercase())
}

pub struct LogonGuard {
    account: String,
    /// The file that the guards of all HMCs share. Without it, refused logons are forgotten at a restart.
    file: Option<Arc<LogonFile>>,
    /// The refused logons with the last password. `None` until the first logon, which reads the file.
    refusals: sync::Mutex<Option<Refusals>>,
    /// The last password that the HMC has accepted.
    accepted: Mutex<Option<Secret>>,
    /// Lock that is held during a logon whose password may be wrong, so that only one such logon is in progress.
    pub logon_lock: Arc<sync::Mutex<()>>,
}

impl LogonGuard {
    /// Returns the guard of this HMC's account, which targets with the same HMC and user share.
    pub fn for_target(
        hmc: &config::Target<config::Hmc>,
        existing: &[&Arc<Self>],
        audit: &AuditSink,
    ) -> Arc<Self> {
        let account = account(hmc);
        if let Some(guard) = existing.iter().find(|guard| guard.account == account) {
            return Arc::clone(guard);
        }
        let new_file = || LogonFile::for_audit_log(audit).map(Arc::new);
        let file = existing
            .first()
            .map_or_else(new_file, |guard| guard.file.clone());
        Arc::new(Self {
            account,
            file,
            refusals: sync::Mutex::new(None),
            accepted: Mutex::default(),
            logon_lock: Arc::default(),
        })
    }

    /// Fails if logons with this password are suspended. Otherwise records the logon as refused, because the process
    /// may be killed before the response arrives. The outcome of the logon corrects the record.
    pub async fn begin_logon(&self, password: &Secret) -> Result<(), Failure> {
        let mut refusals = self.refusals.lock().await;
        let known = match refusals.take() {
            None => self.load_refusals(password).await,
            Some(known) if known.password != *password => Refusals::none(password),
            Some(known) => known,
        };
        let known = refusals.insert(known);
        if known.is_suspended() {
            return Err(Failure::new(
                ErrorReason::UpstreamCredentialsRejected,
                "no logon: two logons with this password were refused or interrupted; logons resume with a new password, or after 5 minutes",
            ));
        }
        let pending = known.count.saturating_add(1);
        self.save_refusals(known, password, (pending, SUSPENSION), Durability::Process)
            .await;
        Ok(())
    }

    pub async fn refused(&self, password: &Secret) {
        let mut refusals = self.refusals.lock().await;
        *crate::lock(&self.accepted) = None;
        let known = refusals.get_or_insert_with(|| Refusals::none(password));
        if known.password != *password {
            (known.password, known.digest) = (password.clone(), None);
        }
        known.count = known.count.saturating_add(1);
        known.until = Instant::now() + SUSPENSION;
        let count = known.count;
        if count >= MAX_REFUSED {
            tracing::warn!(
                hmc_user = self.account,
                refused = count,
                "HMC logons suspended"
            );
        }
        self.save_refusals(known, password, (count, SUSPENSION), Durability::Power)
            .await;
    }

    pub async fn accepted(&self, password: &Secret) {
        let mut refusals = self.refusals.lock().await;
        *crate::lock(&self.accepted) = Some(password.clone());
        match &mut *refusals {
            Some(known) if known.password == *password => known.count = 0,
            other => *other = Some(Refusals::none(password)),
        }
        self.with_file(LogonFile::remove).await;
    }

    pub async fn failed_for_other_reason(&self, password: &Secret) {
        let mut refusals = self.refusals.lock().await;
        // If a logon with a newer password has been recorded meanwhile, its record is kept.
        let Some(known) = refusals
            .as_mut()
            .filter(|known| known.password == *password)
        else {
            return;
        };
        if known.count == 0 {
            self.with_file(LogonFile::remove).await;
        } else {
            let left = known.until.saturating_duration_since(Instant::now());
            let count = known.count;
            self.save_refusals(known, password, (count, left), Durability::Process)
                .await;
        }
    }

    pub fn was_accepted(&self, password: &Secret) -> bool {
        crate::lock(&self.accepted).as_ref() == Some(password)
    }

    /// Returns the refusals of this password that an earlier process has recorded.
    async fn load_refusals(&self, password: &Secret) -> Refusals {
        let secret = self.digest_input(password);
        let found = self.with_file(move |file, account| file.refusals(account, &secret));
        let mut refusals = Refusals::none(password);
        if let Some((count, left)) = found.await.flatten() {
            (refusals.count, refusals.until) = (count, Instant::now() + left);
        }
        refusals
    }

    /// Writes the number of refused logons, and the time until which they suspend logons, to the file.
    async fn save_refusals(
        &self,
        known: &mut Refusals,
        password: &Secret,
        suspension: (u32, Duration),
        durability: Durability,
    ) {
        let (secret, digest) = (self.digest_input(password), known.digest.take());
        let recorded = self.with_file(move |file, account| {
            let digest = digest.unwrap_or_else(|| PasswordDigest::new(&secret));
            file.record(account, digest.clone(), suspension, durability);
            digest
        });
        known.digest = recorded.await;
    }

    /// Runs `work`, which waits for the disk and computes slow digests, on a separate thread, if there is a file.
    async fn with_file<R: Send + 'static>(
        &self,
        work: impl FnOnce(&LogonFile, &str) -> R + Send + 'static,
    ) -> Option<R> {
        let (file, account) = (Arc::clone(self.file.as_ref()?), self.account.clone());
        spawn_blocking(move || work(&file, &account)).await.ok()
    }

    /// Returns the input of the digest, which differs for equal passwords of different accounts.
    fn digest_input(&self, password: &Secret) -> Zeroizing<String> {
        Zeroizing::new(format!("{}\n{}", self.account, password.expose()))
    }
}
