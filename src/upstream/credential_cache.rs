//! Something that is obtained once for many calls, used until it lapses or is refused, and then renewed:
//! an access token, a session. However many calls need it at once, it is obtained once (single flight), in a
//! task of its own, so that a caller that goes away does not take it from the others.

use std::{
    future::Future,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::future::{FutureExt as _, Shared};
use opentelemetry::context::FutureExt as _;
use rand::RngExt as _;
use tokio::{
    task::AbortHandle,
    time::{Instant, sleep, timeout},
};

use super::{
    call_limits::CallLimits,
    deadline::{Deadline, MIN_ATTEMPT},
    retry_budget::RetryBudget,
};
use crate::{
    error::{Failure, Repeat},
    proto::ErrorReason,
};

/// A renewal that takes longer has failed, and the next call begins another one: what hung once is not waited for when
/// it is well again.
const LONGEST: Duration = Duration::from_secs(8);

/// Upper bound of the pause after a first failed renewal; it doubles with each further failure. A pause is at least
/// half as long as its upper bound.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// Longest pause, unless `Retry-After` asks for more. It ends before a circuit breaker admits a probe.
const MAX_PAUSE: Duration = Duration::from_secs(4);
/// After a transient failure, a call waits for the rest of a pause that is no longer than this.
const SHORT_PAUSE: Duration = Duration::from_secs(1);

/// Nothing is believed to last longer.
const MAX_LIFE: Duration = Duration::from_hours(24);

/// The work of one renewal.
pub type Obtaining<T> = Pin<Box<dyn Future<Output = Result<Lease<T>, Failure>> + Send>>;

type Flight<T> = Shared<Pin<Box<dyn Future<Output = Result<Arc<Lease<T>>, Failure>> + Send>>>;

/// Where it comes from.
pub trait Source<T>: Send + Sync + 'static {
    /// Obtains a new one.
    fn obtain(self: Arc<Self>) -> Obtaining<T>;

    /// How long that may take.
    fn patience(&self) -> Duration {
        LONGEST
    }

    /// Returns how long a call waits for a renewal, if that is less than [`Self::patience`]. A later result serves the
    /// next call.
    fn call_timeout(&self) -> Option<Duration> {
        None
    }

    /// Returns the failure of a renewal that takes longer.
    fn late(&self) -> Failure {
        let context = "credentials were not obtained in time";
        Failure {
            target_down: true,
            ..Failure::new(ErrorReason::UpstreamUnreachable, context).repeatable()
        }
    }

    /// Returns whether this failure delays the next renewal. A source whose failures are limited in another way
    /// returns false for them.
    fn pauses_after(&self, _failure: &Failure) -> bool {
        true
    }

    /// Is told how a renewal has ended: with this failure, or well.
    fn renewed(&self, _failure: Option<&Failure>) {}

    /// Is told when one has been replaced or refused, and will not be handed out again.
    fn retire(self: Arc<Self>, _old: Arc<Lease<T>>) {}
}

/// One that was obtained.
pub struct Lease<T> {
    /// The thing itself.
    pub value: T,
    obtained: Instant,
    refresh_at: Option<Instant>,
    lapses_at: Option<Instant>,
    /// It has replaced one that was refused, and nothing was accepted with it yet.
    suspect: AtomicBool,
}

impl<T> Lease<T> {
    /// Valid until it is refused.
    pub fn endless(value: T) -> Self {
        Self {
            value,
            obtained: Instant::now(),
            refresh_at: None,
            lapses_at: None,
            suspect: AtomicBool::new(false),
        }
    }

    /// Valid for this long; refreshed ahead at 80 % of its life.
    pub fn lasting(value: T, life: Duration) -> Self {
        let now = Instant::now();
        let life = life.min(MAX_LIFE);
        Self {
            value,
            obtained: now,
            refresh_at: Some(now + life.mul_f64(0.8)),
            lapses_at: Some(now + life),
            suspect: AtomicBool::new(false),
        }
    }

    /// Tells that the upstream has accepted it.
    pub fn accepted(&self) {
        self.suspect.store(false, Ordering::Relaxed);
    }

    fn lapsed(&self, now: Instant) -> bool {
        self.lapses_at.is_some_and(|at| now >= at)
    }

    fn due(&self, now: Instant) -> bool {
        self.refresh_at.is_some_and(|at| now >= at)
    }
}

struct State<T> {
    current: Option<Arc<Lease<T>>>,
    /// The renewal in progress, and its task.
    flight: Option<(Flight<T>, AbortHandle)>,
    /// Renewals that failed in a row.
    failed: u32,
    /// When the next renewal may begin, and why the last one failed.
    pause: Option<(Instant, Failure)>,
    /// The last one was refused.
    refused: bool,
}

impl<T> Default for State<T> {
    fn default() -> Self {
        Self {
            current: None,
            flight: None,
            failed: 0,
            pause: None,
            refused: false,
        }
    }
}

impl<T> State<T> {
    fn pausing(&self, now: Instant) -> Option<(Duration, Failure)> {
        let (until, failure) = self.pause.as_ref().filter(|(until, _)| now < *until)?;
        Some((*until - now, failure.clone()))
    }

    /// Records a renewal, and returns the lease that it replaces.
    fn succeeded(&mut self, lease: &Arc<Lease<T>>) -> Option<Arc<Lease<T>>> {
        self.flight = None;
        (self.failed, self.pause) = (0, None);
        lease.suspect.store(self.refused, Ordering::Relaxed);
        self.refused = false;
        self.current.replace(Arc::clone(lease))
    }

    /// Records a failed renewal. The next one does not begin before the pause has passed.
    fn failed(&mut self, failure: &Failure, pauses: bool) {
        self.flight = None;
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

/// What a call finds.
enum Found<T> {
    Lease(Arc<Lease<T>>),
    Flight(Flight<T>),
    /// The last renewal failed, and the next one does not begin for this long.
    Pausing(Duration, Failure),
}

/// The renewable thing.
pub struct CredentialCache<T, S> {
    source: Arc<S>,
    state: Arc<Mutex<State<T>>>,
}

impl<T: Send + Sync + 'static, S: Source<T>> CredentialCache<T, S> {
    /// Not yet obtained.
    pub fn new(source: S) -> Self {
        Self {
            source: Arc::new(source),
            state: Arc::default(),
        }
    }

    /// Where it comes from.
    #[must_use]
    pub fn source(&self) -> &Arc<S> {
        &self.source
    }

    /// Since when the current one is there, and how long it will last, where that is known.
    #[must_use]
    pub fn age(&self) -> Option<(Duration, Option<Duration>)> {
        let state = crate::lock(&self.state);
        let lease = state.current.as_ref()?;
        let left = |at: Instant| at.saturating_duration_since(Instant::now());
        Some((lease.obtained.elapsed(), lease.lapses_at.map(left)))
    }

    /// The current one, or a new one. Every waiter has its own limits; a failure reaches all waiters.
    pub async fn get(&self, limits: &CallLimits) -> Result<Arc<Lease<T>>, Failure> {
        let waiting = || Failure {
            cause: self.source.late().cause,
            ..Deadline::exceeded("waiting for credentials")
        };
        let mut found = self.find();
        if let Found::Pausing(rest, failure) = &found
            && failure.repeat == Repeat::Together
            && *rest <= SHORT_PAUSE
            && limits.deadline.remaining() >= *rest + MIN_ATTEMPT
        {
            limits.bound(sleep(*rest)).await.ok_or_else(waiting)?;
            found = self.find();
        }
        match found {
            Found::Lease(lease) => Ok(lease),
            Found::Flight(flight) => {
                let flight = limits.bound(flight);
                let ended = match self.source.call_timeout() {
                    Some(longest) => timeout(longest, flight).await,
                    None => Ok(flight.await),
                };
                let ended = ended.map_err(|_| Failure {
                    repeat: Repeat::Never,
                    ..self.source.late()
                })?;
                ended.ok_or_else(waiting)?
            }
            Found::Pausing(rest, failure) => Err(Failure {
                repeat: Repeat::Never,
                retry_after: failure.retry_after.map(|_| rest.max(SHORT_PAUSE)),
                ..failure
            }),
        }
    }

    fn find(&self) -> Found<T> {
        let mut state = crate::lock(&self.state);
        let now = Instant::now();
        let current = state.current.clone().filter(|lease| !lease.lapsed(now));
        let pausing = state.pausing(now);
        match (current, pausing) {
            (Some(lease), pausing) => {
                if lease.due(now) && pausing.is_none() {
                    let _refreshing = self.join(&mut state);
                }
                Found::Lease(lease)
            }
            (None, Some((rest, failure))) if state.flight.is_none() => {
                Found::Pausing(rest, failure)
            }
            (None, _) => Found::Flight(self.join(&mut state)),
        }
    }

    /// Tells that the upstream refused this one. Is another one to be tried? Only the current one is dropped: a call
    /// that used an older one simply takes the current one next. What has replaced a refused one, and is refused as
    /// well, shows that renewals do not help: each call that repeats its request all the same pays for that.
    pub fn refuse(&self, refused: &Arc<Lease<T>>, budget: &RetryBudget) -> bool {
        if refused.suspect.load(Ordering::Relaxed) && !budget.withdraw() {
            return false;
        }
        self.discard(refused);
        true
    }

    /// Discards a lease that the upstream probably no longer accepts. Always costs one token of the retry budget.
    /// Returns whether the lease was the current one and is discarded.
    pub fn replace(&self, doubtful: &Arc<Lease<T>>, budget: &RetryBudget) -> bool {
        let current = crate::lock(&self.state).current.clone();
        let is_current = current.is_some_and(|current| Arc::ptr_eq(&current, doubtful));
        is_current && budget.withdraw() && self.discard(doubtful)
    }

    /// Returns whether the lease was the current one. An older one is not in use any more.
    fn discard(&self, refused: &Arc<Lease<T>>) -> bool {
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

    /// Takes the current one away for good, after a renewal in progress has ended.
    pub async fn take(&self) -> Option<Arc<Lease<T>>> {
        let flight = crate::lock(&self.state).flight.clone();
        if let Some((flight, _)) = flight {
            // Its failure has been told to those who wait for it.
            let _ = flight.await;
        }
        crate::lock(&self.state).current.take()
    }

    /// Cancels a renewal in progress, and waits until it has ended.
    pub async fn cancel(&self) {
        let flight = crate::lock(&self.state).flight.take();
        if let Some((flight, task)) = flight {
            task.abort();
            let _cancelled = flight.await;
        }
    }

    /// Joins the renewal in progress, or starts one.
    fn join(&self, state: &mut State<T>) -> Flight<T> {
        if let Some((flight, _)) = &state.flight {
            return flight.clone();
        }
        let (store, source) = (Arc::clone(&self.state), Arc::clone(&self.source));
        let work = async move {
            // A source may read files, which nobody is to wait for who holds the lock.
            let work = async { timeout(source.patience(), Arc::clone(&source).obtain()).await };
            // A panic must not leave its flight behind for ever.
            let result = AssertUnwindSafe(work).catch_unwind().await;
            let result = match result {
                Ok(Ok(result)) => result,
                Ok(Err(_)) => Err(source.late()),
                Err(_) => Err(Failure::internal("a renewal panicked")),
            };
            let result = result.map(Arc::new).map_err(shared);
            source.renewed(result.as_ref().err());
            let old = match &result {
                Ok(lease) => crate::lock(&store).succeeded(lease),
                Err(failure) => {
                    let pauses = source.pauses_after(failure);
                    crate::lock(&store).failed(failure, pauses);
                    None
                }
            };
            if let Some(old) = old {
                source.retire(old);
            }
            result
        };
        // It shows in the trace of the call that has begun it.
        let task = tokio::spawn(work.with_current_context());
        let handle = task.abort_handle();
        let flight = async move {
            task.await
                .unwrap_or_else(|_| Err(Failure::internal("a renewal was cut off")))
        };
        let flight = flight.boxed().shared();
        state.flight = Some((flight.clone(), handle));
        flight
    }
}

/// What may be repeated is repeated by one request for all.
fn shared(failure: Failure) -> Failure {
    match failure.repeat {
        Repeat::Backoff => Failure {
            repeat: Repeat::Together,
            ..failure
        },
        _ => failure,
    }
}
