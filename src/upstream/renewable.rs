//! Something that is obtained once for many calls, used until it lapses or is refused, and then renewed:
//! an access token, a session. However many calls need it at once, it is obtained once (single flight), in a
//! task of its own, so that a caller that goes away does not take it from the others.

use std::{
    future::Future,
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::future::{FutureExt as _, Shared};
use tokio::time::Instant;

use super::deadline::Deadline;
use crate::error::Failure;

/// After a failed refresh of something that still works, the next one waits this long.
const REFRESH_PAUSE: Duration = Duration::from_secs(5);

/// Nothing is believed to last longer.
const MAX_LIFE: Duration = Duration::from_hours(24);

/// The work of one renewal.
pub type Obtaining<T> = Pin<Box<dyn Future<Output = Result<Lease<T>, Failure>> + Send>>;

type Flight<T> = Shared<Pin<Box<dyn Future<Output = Result<Arc<Lease<T>>, Failure>> + Send>>>;

/// Where it comes from.
pub trait Source<T>: Send + Sync + 'static {
    /// Obtains a new one.
    fn obtain(self: Arc<Self>) -> Obtaining<T>;

    /// Is told when one has been replaced or refused, and will not be handed out again.
    fn retire(self: Arc<Self>, _old: Arc<Lease<T>>) {}
}

/// One that was obtained.
pub struct Lease<T> {
    /// The thing itself.
    pub value: T,
    refresh_at: Option<Instant>,
    lapses_at: Option<Instant>,
}

impl<T> Lease<T> {
    /// Valid until it is refused.
    pub const fn endless(value: T) -> Self {
        Self {
            value,
            refresh_at: None,
            lapses_at: None,
        }
    }

    /// Valid for this long; refreshed ahead at 80 % of its life.
    pub fn lasting(value: T, life: Duration) -> Self {
        let now = Instant::now();
        let life = life.min(MAX_LIFE);
        Self {
            value,
            refresh_at: Some(now + life.mul_f64(0.8)),
            lapses_at: Some(now + life),
        }
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
    flight: Option<Flight<T>>,
    not_before: Option<Instant>,
}

/// The renewable thing.
pub struct Renewable<T, S> {
    source: Arc<S>,
    state: Arc<Mutex<State<T>>>,
}

impl<T: Send + Sync + 'static, S: Source<T>> Renewable<T, S> {
    /// Not yet obtained.
    pub fn new(source: S) -> Self {
        Self {
            source: Arc::new(source),
            state: Arc::new(Mutex::new(State {
                current: None,
                flight: None,
                not_before: None,
            })),
        }
    }

    /// Where it comes from.
    #[must_use]
    pub fn source(&self) -> &Arc<S> {
        &self.source
    }

    /// The current one, or a new one. Every waiter has its own deadline; a failure reaches all waiters.
    pub async fn get(&self, deadline: &Deadline) -> Result<Arc<Lease<T>>, Failure> {
        let flight = {
            let mut state = crate::lock(&self.state);
            let now = Instant::now();
            match state.current.clone().filter(|lease| !lease.lapsed(now)) {
                Some(lease) => {
                    if lease.due(now) && state.not_before.is_none_or(|at| now >= at) {
                        let _refreshing = self.join(&mut state);
                    }
                    return Ok(lease);
                }
                None => self.join(&mut state),
            }
        };
        match deadline.bound(flight).await {
            Some(result) => result,
            None => Err(Deadline::exceeded("waiting for credentials")),
        }
    }

    /// Tells that the upstream refused this one. Only the current one is dropped: a call that used an older
    /// one simply takes the current one next.
    pub fn refuse(&self, refused: &Arc<Lease<T>>) {
        let mut state = crate::lock(&self.state);
        if let Some(current) = state
            .current
            .take_if(|current| Arc::ptr_eq(current, refused))
        {
            drop(state);
            Arc::clone(&self.source).retire(current);
        }
    }

    /// Takes the current one away for good, after a renewal in progress has ended.
    pub async fn take(&self) -> Option<Arc<Lease<T>>> {
        let flight = crate::lock(&self.state).flight.clone();
        if let Some(flight) = flight {
            // Its failure has been told to those who wait for it.
            let _ = flight.await;
        }
        crate::lock(&self.state).current.take()
    }

    /// Joins the renewal in progress, or starts one.
    fn join(&self, state: &mut State<T>) -> Flight<T> {
        if let Some(flight) = &state.flight {
            return flight.clone();
        }
        let work = Arc::clone(&self.source).obtain();
        let (store, source) = (Arc::clone(&self.state), Arc::clone(&self.source));
        let task = tokio::spawn(async move {
            // A panic must not leave its flight behind for ever.
            let result = AssertUnwindSafe(work).catch_unwind().await;
            let result = result.unwrap_or_else(|_| Err(Failure::internal("a renewal panicked")));
            let result = result.map(Arc::new);
            let mut state = crate::lock(&store);
            state.flight = None;
            match &result {
                Ok(lease) => {
                    state.not_before = None;
                    if let Some(old) = state.current.replace(Arc::clone(lease)) {
                        drop(state);
                        source.retire(old);
                    }
                }
                Err(_) => state.not_before = Some(Instant::now() + REFRESH_PAUSE),
            }
            result
        });
        let flight = async move {
            task.await
                .unwrap_or_else(|_| Err(Failure::internal("a renewal was cut off")))
        };
        let flight = flight.boxed().shared();
        state.flight = Some(flight.clone());
        flight
    }
}
