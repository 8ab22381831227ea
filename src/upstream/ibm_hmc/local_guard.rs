//! The logon guard of one server, which keeps refused logons in memory and in a file.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::{
    select,
    sync::{Mutex, OwnedMutexGuard},
    task::spawn_blocking,
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::{
    logon_file::{Durability, LogonFile, PasswordDigest},
    logon_guard::{
        self, AcceptedPassword, Logon, LogonGuard, LogonResult, MAX_REFUSED, SUSPENSION,
    },
};
use crate::{
    config::secret::{Secret, SecretSource},
    error::Failure,
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

pub struct LocalGuard {
    account: String,
    /// The file that the guards of all HMCs share. Without it, refused logons are forgotten at a restart.
    file: Option<Arc<LogonFile>>,
    /// The refused logons with the last password. `None` until the first logon, which reads the file.
    refusals: Mutex<Option<Refusals>>,
    accepted: AcceptedPassword,
    /// Lock that is held during a logon whose password may be wrong, so that only one such logon is in progress.
    logon_lock: Arc<Mutex<()>>,
}

/// A logon in progress.
struct LocalLogon {
    guard: Arc<LocalGuard>,
    password: Secret,
    /// The lock of a logon whose password may be wrong.
    _lock: Option<OwnedMutexGuard<()>>,
}

#[async_trait]
impl LogonGuard for LocalGuard {
    async fn begin_logon(
        self: Arc<Self>,
        password: &SecretSource,
        _limit: Duration,
        abandoned: &CancellationToken,
    ) -> Result<Box<dyn Logon>, Failure> {
        let was_accepted = |password| self.was_accepted(&password);
        let lock = if password.read().is_ok_and(was_accepted) {
            None
        } else {
            select! {
                lock = Arc::clone(&self.logon_lock).lock_owned() => Some(lock),
                () = abandoned.cancelled() => return Err(logon_guard::abandoned()),
            }
        };
        // The file may have changed while the lock was held by another logon.
        let password = logon_guard::read(password)?;
        self.record_pending(&password).await?;
        Ok(Box::new(LocalLogon {
            guard: self,
            password,
            _lock: lock,
        }))
    }

    fn was_accepted(&self, password: &Secret) -> bool {
        self.accepted.is(password)
    }

    /// The wait for the lock is a part of the time limit of the logon.
    fn max_wait(&self, _limit: Duration) -> Duration {
        Duration::ZERO
    }
}

#[async_trait]
impl Logon for LocalLogon {
    fn password(&self) -> &Secret {
        &self.password
    }

    async fn end(self: Box<Self>, result: LogonResult) {
        let (guard, password) = (&self.guard, &self.password);
        match result {
            LogonResult::Accepted => guard.accepted(password).await,
            LogonResult::Refused => guard.refused(password).await,
            LogonResult::Failed => guard.failed_for_other_reason(password).await,
        }
    }
}

impl LocalGuard {
    pub fn new(account: String, file: Option<Arc<LogonFile>>) -> Self {
        Self {
            account,
            file,
            refusals: Mutex::new(None),
            accepted: AcceptedPassword::default(),
            logon_lock: Arc::default(),
        }
    }

    /// Fails if logons with this password are suspended. Otherwise records the logon as refused.
    async fn record_pending(&self, password: &Secret) -> Result<(), Failure> {
        let mut refusals = self.refusals.lock().await;
        let known = match refusals.take() {
            None => self.load_refusals(password).await,
            Some(known) if known.password != *password => Refusals::none(password),
            Some(known) => known,
        };
        let known = refusals.insert(known);
        if known.is_suspended() {
            return Err(logon_guard::suspended());
        }
        let pending = known.count.saturating_add(1);
        self.save_refusals(known, password, (pending, SUSPENSION), Durability::Process)
            .await;
        Ok(())
    }

    async fn refused(&self, password: &Secret) {
        let mut refusals = self.refusals.lock().await;
        self.accepted.forget();
        let known = refusals.get_or_insert_with(|| Refusals::none(password));
        if known.password != *password {
            (known.password, known.digest) = (password.clone(), None);
        }
        known.count = known.count.saturating_add(1);
        known.until = Instant::now() + SUSPENSION;
        let count = known.count;
        if count >= MAX_REFUSED {
            logon_guard::log_suspension(&self.account, count);
        }
        self.save_refusals(known, password, (count, SUSPENSION), Durability::Power)
            .await;
    }

    async fn accepted(&self, password: &Secret) {
        let mut refusals = self.refusals.lock().await;
        self.accepted.set(password);
        match &mut *refusals {
            Some(known) if known.password == *password => known.count = 0,
            other => *other = Some(Refusals::none(password)),
        }
        self.with_file(LogonFile::remove).await;
    }

    async fn failed_for_other_reason(&self, password: &Secret) {
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
