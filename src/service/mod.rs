//! The `UserAdmin` service: one short file per rpc that says what is particular to it, and one pipeline that
//! every rpc passes.

pub mod call_context;
mod call_log;
mod delete_batch_node_user;
mod delete_hmc_user;
pub mod instrument;
mod jwks;
mod operation;
mod pipeline;
mod refusal;
mod rpc;
pub mod rpcs;
pub mod transport_errors;
pub mod validate;

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    access::{Access, quota::Quotas, refusals::Refusals},
    audit::Audit,
    config::{Config, JwtIssuer},
    metrics::{Metrics, Snapshot},
    telemetry, trace,
    upstream::registry::Targets,
};

/// Everything that calls share.
pub struct Shared {
    /// What can be called.
    pub targets: Targets,
    access: ArcSwap<Access>,
    /// The deletions of the last minute, by caller. A changed configuration forgets none.
    pub quotas: Quotas,
    /// Limits what refused calls and connections write to the log and to the audit log.
    pub refusals: Arc<Refusals>,
    /// The numbers for monitoring.
    pub metrics: Arc<Metrics>,
    /// The audit log.
    pub audit: Audit,
    /// One place for each call in progress, from when its message is there until it has ended.
    pub room: Arc<Semaphore>,
    most_calls: u32,
    /// Calls in progress, and their records; they end even when their callers have gone.
    pub tasks: TaskTracker,
    /// Cancelled when the server stops: no call is begun any more.
    pub draining: CancellationToken,
    /// Cancelled when the drain has taken too long: the deadline of every call is now.
    pub halt: CancellationToken,
}

impl Shared {
    /// From the configuration.
    pub async fn new(config: &Config) -> Result<Self, String> {
        let metrics = Arc::<Metrics>::default();
        let source = |issuer: &JwtIssuer| jwks::source(issuer, &metrics);
        let access = Access::new(config, None, source, &metrics)?;
        Ok(Self {
            targets: Targets::new(config, &metrics)?,
            access: ArcSwap::from_pointee(access),
            quotas: Quotas::default(),
            refusals: Arc::default(),
            audit: Audit::start(&config.audit, &metrics)
                .await
                .map_err(|error| format!("audit log: {error}"))?,
            metrics,
            room: Arc::new(Semaphore::new(
                config.server.limits.max_concurrent_calls as usize,
            )),
            most_calls: config.server.limits.max_concurrent_calls,
            tasks: TaskTracker::new(),
            draining: CancellationToken::new(),
            halt: CancellationToken::new(),
        })
    }

    /// Who may call, and what they may do, as of now.
    #[must_use]
    pub fn access(&self) -> Guard<Arc<Access>> {
        self.access.load()
    }

    /// The text that monitoring reads.
    #[must_use]
    pub fn numbers(&self) -> String {
        let free = u32::try_from(self.room.available_permits()).unwrap_or(u32::MAX);
        self.metrics.text(&Snapshot {
            audit: self.audit.metrics(),
            targets: self.targets.states(),
            calls: self.most_calls.saturating_sub(free),
            most_calls: self.most_calls,
            log_lines_dropped: telemetry::dropped(),
        })
    }

    /// Takes up what a changed configuration says of callers, issuers, protected users and authorities: all of it, or
    /// nothing.
    pub fn apply_config(&self, config: &Config) -> Result<(), String> {
        let before = self.access.load();
        let source = |issuer: &JwtIssuer| jwks::source(issuer, &self.metrics);
        let access = Access::new(config, Some(&before), source, &self.metrics)?;
        let changes = self.targets.trust(config)?;
        trace::export::trust(&config.tracing)?;
        for change in changes {
            change();
        }
        self.targets.protect(config);
        self.access.store(Arc::new(access));
        Ok(())
    }
}

/// The service.
#[derive(Clone)]
pub struct Service(pub Arc<Shared>);
