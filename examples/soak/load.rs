//! Callers and the results of their calls.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use rand::RngExt as _;
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval_at, timeout},
};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request};
use useradmin_client::{
    Client, Error, ErrorReason, Outcome,
    proto::{
        DeleteBatchNodeUserRequest, DeleteHmcUserRequest, DeleteOutcome,
        delete_hmc_user_request::User,
    },
};

use crate::{environment::Environment, environment::TARGETS, health::Health, upstream::Traits};

/// Outcome of a call that its caller cancelled before the response.
pub const CANCELLED: &str = "cancelled";
/// Outcome of a call whose deadline expired in the client before the response.
pub const LATE: &str = "late";

/// Result of a call, as its caller received it.
#[derive(Clone, Copy)]
pub struct CallResult {
    pub user: u32,
    pub target: usize,
    pub started: Instant,
    pub elapsed: Duration,
    /// Outcome as named in the audit log, or [`CANCELLED`] or [`LATE`].
    pub outcome: &'static str,
    /// Reason of the error. Empty if the call succeeded.
    pub reason: &'static str,
}

impl CallResult {
    /// Returns whether the result is as expected from a healthy target.
    pub fn is_expected(&self) -> bool {
        let missing = !Traits::of(self.user).exists;
        match self.outcome {
            "deleted" | "absent_after_retry" => true,
            "already_absent" => missing,
            _ => missing && self.reason == ErrorReason::UserNotFound.as_str_name(),
        }
    }

    pub fn is_overload(&self) -> bool {
        self.reason == ErrorReason::Overloaded.as_str_name()
    }

    pub fn ended(&self) -> Instant {
        self.started + self.elapsed
    }
}

/// State shared by all callers.
pub struct Load {
    /// Number of the next user.
    pub number: AtomicU32,
    /// Deadline of each call.
    pub deadline: Duration,
    /// Whether some callers cancel their calls before the response.
    pub cancel_some: bool,
    /// Receives the result of each call.
    pub health: Option<Arc<Health>>,
}

/// A group of callers of the same kind.
pub struct CallerGroup<'a> {
    /// Indices in `TARGETS`, assigned to the callers in turn.
    pub targets: &'a [usize],
    /// Number of callers.
    pub callers: usize,
    /// Calls per second of all callers together.
    pub rate: f64,
    /// Whether the time of a call starts when the call is due, even if its caller is still busy with the previous call.
    /// Otherwise, the call and all later ones are postponed.
    pub fixed_schedule: bool,
}

impl Load {
    pub fn new(deadline: Duration) -> Self {
        Self {
            number: AtomicU32::new(0),
            deadline,
            cancel_some: false,
            health: None,
        }
    }

    /// Starts callers. Each returns the results of its calls.
    pub fn start(
        self: &Arc<Self>,
        environment: &Environment,
        group: &CallerGroup<'_>,
        stop: &CancellationToken,
    ) -> JoinSet<Vec<CallResult>> {
        let clients = environment.clients(group.callers);
        let count = u32::try_from(group.callers).unwrap();
        let period = Duration::from_secs_f64(f64::from(count) / group.rate);
        let mut callers = JoinSet::new();
        for number in 0..count {
            let index = number as usize;
            let caller = Caller {
                load: Arc::clone(self),
                client: clients[index % clients.len()].clone(),
                target: group.targets[index % group.targets.len()],
                period,
                first: period * number / count,
                fixed_schedule: group.fixed_schedule,
            };
            callers.spawn(caller.run(stop.clone()));
        }
        callers
    }
}

struct Caller {
    load: Arc<Load>,
    client: Client,
    target: usize,
    period: Duration,
    first: Duration,
    fixed_schedule: bool,
}

impl Caller {
    /// Makes calls one after the other, each for a new user, until `stop` is cancelled.
    async fn run(self, stop: CancellationToken) -> Vec<CallResult> {
        let mut results = Vec::new();
        let mut ticks = interval_at(tokio::time::Instant::now() + self.first, self.period);
        if !self.fixed_schedule {
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        }
        while let Some(expected) = stop.run_until_cancelled(ticks.tick()).await {
            let started = if self.fixed_schedule {
                expected.into_std()
            } else {
                Instant::now()
            };
            results.push(self.load.call(&self.client, self.target, started).await);
        }
        results
    }
}

impl Load {
    /// Makes one call for a new user.
    pub async fn call(&self, client: &Client, target: usize, started: Instant) -> CallResult {
        let user = self.number.fetch_add(1, Ordering::Relaxed);
        let call = send_call(client.clone(), target, user, self.deadline);
        let (outcome, reason) = if self.cancel_some && Traits::of(user).may_cancel {
            timeout(cancel_after(self.deadline), call)
                .await
                .unwrap_or((CANCELLED, ""))
        } else {
            call.await
        };
        let result = CallResult {
            user,
            target,
            started,
            elapsed: started.elapsed(),
            outcome,
            reason,
        };
        if let Some(health) = &self.health {
            health.record(&result);
        }
        result
    }
}

/// Returns the time after which a caller cancels its call. At least half of the times are below 15 ms, so that some
/// calls are cancelled while a healthy target processes them.
fn cancel_after(deadline: Duration) -> Duration {
    let max = if rand::random() {
        Duration::from_millis(15)
    } else {
        deadline
    };
    max.mul_f64(rand::rng().random_range(0.0..1.0))
}

async fn send_call(
    client: Client,
    target: usize,
    user: u32,
    deadline: Duration,
) -> (&'static str, &'static str) {
    let Traits {
        by_id,
        allow_missing,
        ..
    } = Traits::of(user);
    let alias = TARGETS[target].to_owned();
    let response = if target < 2 {
        let mut request = Request::new(DeleteBatchNodeUserRequest {
            account: alias,
            pool_id: "pool-1".to_owned(),
            node_id: "node-1".to_owned(),
            user_name: format!("u{user}"),
            allow_missing,
            ..DeleteBatchNodeUserRequest::default()
        });
        request.set_timeout(deadline);
        let response = client.delete_batch_node_user(request).await;
        response.map(|response| response.get_ref().outcome())
    } else {
        let user_identifier = if by_id {
            User::UserId(format!("id-{user}"))
        } else {
            User::UserName(format!("u{user}"))
        };
        let mut request = Request::new(DeleteHmcUserRequest {
            hmc: alias,
            user: Some(user_identifier),
            allow_missing,
            ..DeleteHmcUserRequest::default()
        });
        request.set_timeout(deadline);
        let response = client.delete_hmc_user(request).await;
        response.map(|response| response.get_ref().outcome())
    };
    match response {
        Ok(outcome) => (outcome_name(outcome), ""),
        Err(error) => error_outcome(&error),
    }
}

fn outcome_name(outcome: DeleteOutcome) -> &'static str {
    match outcome {
        DeleteOutcome::Deleted => "deleted",
        DeleteOutcome::AlreadyAbsent => "already_absent",
        DeleteOutcome::AbsentAfterRetry => "absent_after_retry",
        _ => "",
    }
}

fn error_outcome(error: &Error) -> (&'static str, &'static str) {
    let Some(service) = error.service() else {
        // The server did not return this error. An empty outcome does not match any record.
        let expired_in_client = error.code() == Code::DeadlineExceeded;
        return (if expired_in_client { LATE } else { "" }, "");
    };
    let outcome = match service.outcome {
        Outcome::NotSent => "not_sent",
        Outcome::NotDeleted => "not_deleted",
        Outcome::Unknown => "unknown",
    };
    (outcome, service.reason.as_str_name())
}
