//! A cache for one credential, such as an access token or a session. The credential is used until it expires or is
//! refused, and is then renewed. Calls that need the credential at the same time share one renewal. The renewal runs
//! in a separate task: a caller that disconnects does not cancel it for the others.

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, atomic::Ordering},
    time::Duration,
};

use futures_util::future::{BoxFuture, FutureExt as _, Shared};
use opentelemetry::{Context, context::FutureExt as _};
use rand::RngExt as _;
use tokio::{
    task::AbortHandle,
    time::{Instant, sleep, timeout},
};

pub use super::lease::Lease;
use super::{
    call_limits::CallLimits,
    deadline::{Deadline, MIN_ATTEMPT},
    retry_budget::RetryBudget,
};
use crate::{
    error::{Failure, Repeat},
    metrics::CredentialState,
    proto::ErrorReason,
};

/// Default timeout of a renewal. After it, the renewal fails, and the next call starts another one.
const RENEWAL_TIMEOUT: Duration = Duration::from_secs(8);

/// Bound of the pause after a failed renewal, which is at least half as long. Each further failure doubles it.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// Longest pause, unless the upstream's `Retry-After` is longer. It is shorter than the pause of the circuit breaker
/// (5 s), so that it has ended when the breaker admits a probe.
const MAX_PAUSE: Duration = Duration::from_secs(4);
/// Longest rest of a pause that a call waits for after a transient failure. If the rest is longer, the call fails.
const SHORT_PAUSE: Duration = Duration::from_secs(1);

pub type ObtainFuture<T> = BoxFuture<'static, Result<Lease<T>, Failure>>;
type SharedRenewal<T> = Shared<BoxFuture<'static, Result<Arc<Lease<T>>, Failure>>>;

pub trait CredentialSource<T>: Send + Sync + 'static {
    /// Obtains a new credential. The future is dropped when the renewal times out or is cancelled.
    fn obtain(self: Arc<Self>) -> ObtainFuture<T>;

    fn timeout(&self) -> Duration {
        RENEWAL_TIMEOUT
    }

    /// Returns the maximum time that a call waits for a renewal, if that is shorter than [`Self::timeout`]. The
    /// renewal continues afterwards, and the next call uses its result.
    fn call_timeout(&self) -> Option<Duration> {
        None
    }

    /// Returns the failure of a renewal that takes longer than its timeout.
    fn timeout_failure(&self) -> Failure {
        let context = "credentials were not obtained in time";
        Failure::target_down(ErrorReason::UpstreamUnreachable, context)
    }

    /// Returns whether this failure delays the next renewal. An implementation returns false if it limits repetitions
    /// by other means, as the logon guard does for refused logons.
    fn pauses_after(&self, _failure: &Failure) -> bool {
        true
    }

    /// Called after each renewal. `failure` is `None` if the renewal succeeded.
    fn on_renewal_finished(&self, _failure: Option<&Failure>) {}

    /// Called with a credential that was replaced or refused and is no longer used.
    fn retire(self: Arc<Self>, _old: Arc<Lease<T>>) {}
}

struct State<T> {
    current: Option<Arc<Lease<T>>>,
    /// The renewal in progress, and the handle that aborts its task.
    renewal: Option<(SharedRenewal<T>, AbortHandle)>,
    /// Number of renewals that failed in a row.
    failed: u32,
    /// Earliest time of the next renewal, and the failure of the last one.
    pause: Option<(Instant, Failure)>,
    /// Whether the last credential was refused and has not been replaced yet.
    refused: bool,
}

impl<T> State<T> {
    /// Returns the rest of the pause and the failure that caused it, or `None` if no pause is in progress.
    fn pausing(&self, now: Instant) -> Option<(Duration, Failure)> {
        let (until, failure) = self.pause.as_ref().filter(|(until, _)| now < *until)?;
        Some((*until - now, failure.clone()))
    }

    /// Records a successful renewal. Returns the lease that the new one replaces.
    fn succeeded(&mut self, lease: &Arc<Lease<T>>) -> Option<Arc<Lease<T>>> {
        self.renewal = None;
        (self.failed, self.pause) = (0, None);
        lease
            .replaced_refused
            .store(self.refused, Ordering::Relaxed);
        self.refused = false;
        self.current.replace(Arc::clone(lease))
    }

    /// Records a failed renewal. If `pauses` is true, the next renewal does not start before a pause has passed.
    fn record_failure(&mut self, failure: &Failure, pauses: bool) {
        self.renewal = None;
        if !pauses {
            return;
        }
        let longest = FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(self.failed));
        self.failed = self.failed.saturating_add(1);
        let part = rand::rng().random_range(0.5..=1.0);
        let pause = longest.min(MAX_PAUSE).mul_f64(part);
        let pause = pause.max(failure.retry_after.unwrap_or_default());
        self.pause = Some((Instant::now() + pause, failure.clone()));
    }
}

/// The result of looking a credential up in the cache.
enum CacheState<T> {
    Lease(Arc<Lease<T>>),
    Renewing(SharedRenewal<T>),
    /// The last renewal failed with this failure. The next one does not start before this time has passed.
    Pausing(Duration, Failure),
}

pub struct CredentialCache<T, S> {
    pub source: Arc<S>,
    state: Arc<Mutex<State<T>>>,
}

impl<T: Send + Sync + 'static, S: CredentialSource<T>> CredentialCache<T, S> {
    pub fn new(source: S) -> Self {
        Self::after(source, false)
    }

    /// Creates a cache that replaces another one, whose last credential was refused if `refused` is true.
    pub fn after(source: S, refused: bool) -> Self {
        let state = State {
            current: None,
            renewal: None,
            failed: 0,
            pause: None,
            refused,
        };
        Self {
            source: Arc::new(source),
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// Returns the state of the current credential, which is of this kind, or `None` if there is no credential.
    pub fn state(&self, kind: &'static str) -> Option<CredentialState> {
        let state = crate::lock(&self.state);
        let lease = state.current.as_ref()?;
        let left = |at: Instant| at.saturating_duration_since(Instant::now());
        Some(CredentialState {
            kind,
            age: lease.obtained.elapsed(),
            expires_in: lease.expires_at.map(left),
        })
    }

    /// Returns whether there is a credential that has not expired.
    pub fn has_credential(&self) -> bool {
        let state = crate::lock(&self.state);
        let current = state.current.as_ref();
        current.is_some_and(|lease| !lease.is_expired(Instant::now()))
    }

    pub fn is_renewing(&self) -> bool {
        crate::lock(&self.state).renewal.is_some()
    }

    /// Returns the failure that caused the pause in progress, or `None` if no pause is in progress.
    pub fn pausing(&self) -> Option<Failure> {
        let pause = crate::lock(&self.state).pausing(Instant::now());
        pause.map(|(_, failure)| failure)
    }

    /// Returns whether the last credential was refused and has not been replaced yet.
    pub fn was_refused(&self) -> bool {
        crate::lock(&self.state).refused
    }

    /// Starts a renewal if it is due. `trace` is the parent of its spans.
    pub fn start(&self, trace: &Context) {
        drop(self.find(trace));
    }

    /// Returns the current credential. If there is none, waits for a renewal until the deadline of the call or until
    /// the caller disconnects. If the renewal fails, all calls that wait for it receive its failure. During a pause
    /// after a failed renewal, most calls fail at once with the same failure.
    pub async fn get(&self, limits: &CallLimits) -> Result<Arc<Lease<T>>, Failure> {
        match self.find(&limits.trace) {
            CacheState::Lease(lease) => Ok(lease),
            // Boxed, because the future is large, and most calls do not wait.
            found => Box::pin(self.wait(found, limits)).await,
        }
    }

    async fn wait(
        &self,
        mut found: CacheState<T>,
        limits: &CallLimits,
    ) -> Result<Arc<Lease<T>>, Failure> {
        let waiting = || Failure {
            cause: self.source.timeout_failure().cause,
            ..Deadline::exceeded("waiting for credentials")
        };
        if let CacheState::Pausing(rest, failure) = &found
            && failure.repeat == Repeat::Coalesced
            && *rest <= SHORT_PAUSE
            && limits.deadline.remaining() >= *rest + MIN_ATTEMPT
        {
            limits.bound(sleep(*rest)).await.ok_or_else(waiting)?;
            found = self.find(&limits.trace);
        }
        match found {
            CacheState::Lease(lease) => Ok(lease),
            CacheState::Renewing(renewal) => {
                let renewal = limits.bound(renewal);
                let ended = match self.source.call_timeout() {
                    Some(longest) => timeout(longest, renewal).await,
                    None => Ok(renewal.await),
                };
                let ended = ended.map_err(|_| Failure {
                    repeat: Repeat::Never,
                    ..self.source.timeout_failure()
                })?;
                ended.ok_or_else(waiting)?
            }
            CacheState::Pausing(rest, failure) => Err(Failure {
                repeat: Repeat::Never,
                retry_after: failure.retry_after.map(|_| rest.max(SHORT_PAUSE)),
                ..failure
            }),
        }
    }

    /// Returns the current credential, or the renewal or pause to wait for. Starts a renewal if it is due;
    /// `trace` is the parent of its spans.
    fn find(&self, trace: &Context) -> CacheState<T> {
        let mut state = crate::lock(&self.state);
        let now = Instant::now();
        let current = state.current.clone().filter(|lease| !lease.is_expired(now));
        let pausing = state.pausing(now);
        match (current, pausing) {
            (Some(lease), pausing) => {
                if lease.is_due(now) && pausing.is_none() {
                    let _refreshing = self.join_or_start_renewal(&mut state, trace);
                }
                CacheState::Lease(lease)
            }
            (None, Some((rest, failure))) if state.renewal.is_none() => {
                CacheState::Pausing(rest, failure)
            }
            (None, _) => CacheState::Renewing(self.join_or_start_renewal(&mut state, trace)),
        }
    }

    /// Records that the upstream refused a credential. Returns whether the request may be repeated with another one.
    /// Only the current credential is discarded: a call that used an older one repeats its request with the current
    /// one. If the replacement of a refused credential is refused, too, another renewal probably does not help. In
    /// this case the repetition costs a token of the retry budget, and false is returned if there is none.
    pub fn discard_refused(&self, refused: &Arc<Lease<T>>, budget: &RetryBudget) -> bool {
        if refused.replaced_refused.load(Ordering::Relaxed) && !budget.withdraw() {
            return false;
        }
        self.discard(refused);
        true
    }

    /// Discards a lease that the upstream probably no longer accepts, if it is the current one and the retry budget
    /// has a token, which this costs. Returns whether the lease was discarded.
    pub fn discard_doubtful(&self, doubtful: &Arc<Lease<T>>, budget: &RetryBudget) -> bool {
        let current = crate::lock(&self.state).current.clone();
        let is_current = current.is_some_and(|current| Arc::ptr_eq(&current, doubtful));
        is_current && budget.withdraw() && self.discard(doubtful)
    }

    /// Discards a lease if it is the current one. Returns whether it was.
    pub fn discard(&self, refused: &Arc<Lease<T>>) -> bool {
        let mut state = crate::lock(&self.state);
        let is_current = |current: &mut Arc<Lease<T>>| Arc::ptr_eq(current, refused);
        let Some(old) = state.current.take_if(is_current) else {
            return false;
        };
        state.refused = true;
        drop(state);
        Arc::clone(&self.source).retire(old);
        true
    }

    /// Waits for a renewal in progress. Removes and returns the current credential, if there is one.
    pub async fn take(&self) -> Option<Arc<Lease<T>>> {
        let renewal = crate::lock(&self.state).renewal.clone();
        if let Some((renewal, _)) = renewal {
            // The calls that wait for the renewal handle its failure.
            let _ = renewal.await;
        }
        crate::lock(&self.state).current.take()
    }

    /// Cancels a renewal in progress, and waits until its task has ended.
    pub async fn cancel(&self) {
        let renewal = crate::lock(&self.state).renewal.take();
        if let Some((renewal, task)) = renewal {
            task.abort();
            let _cancelled = renewal.await;
        }
    }

    fn join_or_start_renewal(&self, state: &mut State<T>, trace: &Context) -> SharedRenewal<T> {
        if let Some((renewal, _)) = &state.renewal {
            return renewal.clone();
        }
        let (store, source) = (Arc::clone(&self.state), Arc::clone(&self.source));
        let work = async move {
            // A source may read files, and must not do so while this function holds the lock.
            let work = async { timeout(source.timeout(), Arc::clone(&source).obtain()).await };
            // Without `catch_unwind`, a panic would leave the renewal in `State`, and no other one would start.
            let result = AssertUnwindSafe(work).catch_unwind().await;
            let result = match result {
                Ok(Ok(result)) => result,
                Ok(Err(_)) => Err(source.timeout_failure()),
                Err(_) => Err(Failure::internal("a renewal panicked")),
            };
            let result = result.map(Arc::new).map_err(shared);
            source.on_renewal_finished(result.as_ref().err());
            let old = match &result {
                Ok(lease) => crate::lock(&store).succeeded(lease),
                Err(failure) => {
                    let pauses = source.pauses_after(failure);
                    crate::lock(&store).record_failure(failure, pauses);
                    None
                }
            };
            if let Some(old) = old {
                source.retire(old);
            }
            result
        };
        // The renewal is part of the trace of the call that starts it.
        let task = tokio::spawn(work.with_context(trace.clone()));
        let handle = task.abort_handle();
        let renewal = async move {
            task.await
                .unwrap_or_else(|_| Err(Failure::internal("a renewal was cut off")))
        };
        let renewal = renewal.boxed().shared();
        state.renewal = Some((renewal.clone(), handle));
        renewal
    }
}

/// Converts the failure of a renewal so that all calls that wait for the renewal repeat it by one request.
fn shared(failure: Failure) -> Failure {
    match failure.repeat {
        Repeat::Backoff => Failure {
            repeat: Repeat::Coalesced,
            ..failure
        },
        _ => failure,
    }
}
