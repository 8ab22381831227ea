//! The logon guard of servers that share a database, which counts the refused logons of all of them. A logon is sent
//! only after the database has counted it. Without the database, only a password that this server has seen accepted is
//! sent.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use rand::RngExt as _;
use tokio::{
    select,
    sync::oneshot,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    logon_guard::{
        self, AcceptedPassword, Logon, LogonGuard, LogonResult, MAX_REFUSED, SUSPENSION,
    },
    logon_records::{Begun, LogonRecords},
};
use crate::{
    config::secret::{Secret, SecretSource},
    error::Failure,
    postgres::{Database, Error},
    proto::ErrorReason,
};

/// Time beyond the limit of a logon after which its turn ends, if the server has died meanwhile. Includes the logoff of
/// a session that the HMC has opened although it refused the logon.
const TURN_MARGIN: Duration = Duration::from_secs(5);
/// Bounds of the time between two requests for a turn while another server logs on, in milliseconds.
const POLL_INTERVAL: Range<u64> = 80..120;
/// Maximum time that a logon or its caller waits for the database.
const STORE_TIMEOUT: Duration = Duration::from_secs(1);
/// Time between two attempts to record the result of a logon.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

pub struct StoreGuard {
    records: LogonRecords,
    accepted: AcceptedPassword,
    /// Whether the last statement failed. Only the first of several failures is logged.
    failing: AtomicBool,
}

/// A logon in progress.
struct StoreLogon {
    guard: Arc<StoreGuard>,
    password: Secret,
    turn: Turn,
    /// Whether the database has counted the logon. If not, it is not reachable.
    counted: bool,
}

/// The right to log on, until its time has passed or [`StoreGuard::end_turn`] is called.
#[derive(Clone)]
struct Turn {
    /// Name of the logon among those of all servers.
    holder: String,
    /// Digest of the password. `None` if the key of the digests could not be read.
    digest: Option<String>,
}

#[async_trait]
impl LogonGuard for StoreGuard {
    async fn begin_logon(
        self: Arc<Self>,
        password: &SecretSource,
        limit: Duration,
        abandoned: &CancellationToken,
    ) -> Result<Box<dyn Logon>, Failure> {
        let holder = self.records.new_holder();
        loop {
            // The file may have changed while another server logged on.
            let password = logon_guard::read(password)?;
            let mut turn = Turn {
                holder: holder.clone(),
                digest: None,
            };
            let begun = self.request_turn(&password, &mut turn, limit).await;
            self.report(begun.as_ref().err());
            let counted = match begun {
                Ok(Begun::Granted) => true,
                Ok(Begun::Suspended) => {
                    self.accepted.forget();
                    return Err(logon_guard::suspended());
                }
                Err(error) if !self.was_accepted(&password) => return Err(not_counted(&error)),
                Err(_) => false,
                Ok(Begun::Busy) => {
                    let interval = rand::rng().random_range(POLL_INTERVAL);
                    select! {
                        () = sleep(Duration::from_millis(interval)) => continue,
                        () = abandoned.cancelled() => return Err(logon_guard::abandoned()),
                    }
                }
            };
            return Ok(Box::new(StoreLogon {
                guard: self,
                password,
                turn,
                counted,
            }));
        }
    }

    fn was_accepted(&self, password: &Secret) -> bool {
        self.accepted.is(password)
    }

    /// A server that died during a logon delays the next one until its turn has ended.
    fn max_wait(&self, limit: Duration) -> Duration {
        limit + TURN_MARGIN + STORE_TIMEOUT
    }
}

#[async_trait]
impl Logon for StoreLogon {
    fn password(&self) -> &Secret {
        &self.password
    }

    /// Records the result in the database. If this fails, it is repeated in the background; until then, the logon
    /// counts as refused.
    async fn end(self: Box<Self>, result: LogonResult) {
        let Self {
            guard,
            password,
            turn,
            counted,
        } = *self;
        match result {
            LogonResult::Accepted => guard.accepted.set(&password),
            LogonResult::Refused => guard.accepted.forget(),
            LogonResult::Failed => {}
        }
        let recorded = guard.end_turn(password, turn, result);
        if counted {
            let _in_background = timeout(STORE_TIMEOUT, recorded).await;
        }
    }
}

impl StoreGuard {
    pub fn new(account: String, database: Arc<Database>) -> Self {
        Self {
            records: LogonRecords::new(account, database),
            accepted: AcceptedPassword::default(),
            failing: AtomicBool::default(),
        }
    }

    /// Requests the right to log on, and sets the digest of the turn. A turn that is granted although this returns an
    /// error is given back.
    async fn request_turn(
        self: &Arc<Self>,
        password: &Secret,
        turn: &mut Turn,
        limit: Duration,
    ) -> Result<Begun, Error> {
        let late = || Error::Unavailable("the database does not answer in time".to_owned());
        let key = timeout(STORE_TIMEOUT, self.records.digest_key());
        let key = key.await.unwrap_or_else(|_| Err(late()))?;
        let digest = self.records.digest(&key, password).await?;
        turn.digest = Some(digest.clone());
        let (guard, password, turn) = (Arc::clone(self), password.clone(), turn.clone());
        let (tell, told) = oneshot::channel();
        tokio::spawn(async move {
            let time = limit + TURN_MARGIN;
            let begun = guard.records.begin(&digest, &turn.holder, time).await;
            let unknown = matches!(begun, Err(Error::Unavailable(_)));
            let unused = tell.send(begun);
            if unknown || matches!(unused, Err(Ok(Begun::Granted))) {
                guard.end_turn(password, turn, LogonResult::Failed);
            }
        });
        let begun = timeout(STORE_TIMEOUT, told).await;
        begun
            .unwrap_or(Ok(Err(late())))
            .unwrap_or_else(|_| Err(late()))
    }

    /// Records the result of a logon in a separate task, which tries again as long as the result matters.
    fn end_turn(
        self: &Arc<Self>,
        password: Secret,
        turn: Turn,
        result: LogonResult,
    ) -> JoinHandle<()> {
        let guard = Arc::clone(self);
        tokio::spawn(async move {
            let ended = Instant::now();
            loop {
                let recorded = guard.record_result(&password, &turn, result).await;
                guard.report(recorded.as_ref().err());
                match recorded {
                    Ok(refused) if refused >= MAX_REFUSED => {
                        logon_guard::log_suspension(guard.records.account(), refused);
                        return;
                    }
                    Ok(_) => return,
                    Err(_) if ended.elapsed() > SUSPENSION => return,
                    Err(_) => sleep(RETRY_INTERVAL).await,
                }
            }
        })
    }

    async fn record_result(
        &self,
        password: &Secret,
        turn: &Turn,
        result: LogonResult,
    ) -> Result<u32, Error> {
        let digest = if let Some(digest) = &turn.digest {
            digest.clone()
        } else {
            let key = self.records.digest_key().await?;
            self.records.digest(&key, password).await?
        };
        self.records.end(&digest, &turn.holder, result).await
    }

    /// Logs a failed statement, unless the previous one failed, too.
    fn report(&self, error: Option<&Error>) {
        let failed_before = self.failing.swap(error.is_some(), Ordering::Relaxed);
        if let Some(error) = error
            && !failed_before
        {
            let hmc_user = self.records.account();
            tracing::warn!(hmc_user, %error, "HMC logon not counted in the store");
        }
    }
}

/// Returns the failure of a logon that is not sent, because the database cannot count it.
fn not_counted(error: &Error) -> Failure {
    let context = format!(
        "no logon: the store is not available, so a refused logon could not be counted, and this server has not seen the password accepted: {error}"
    );
    Failure::new(ErrorReason::AuditUnavailable, context)
}
