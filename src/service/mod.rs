//! The `UserAdmin` service: a pipeline for all rpcs, and one short file for each rpc.

pub mod call_context;
mod call_log;
mod delete_batch_node_user;
mod delete_hmc_user;
mod jwks;
mod operation;
mod pipeline;
pub(crate) mod reconcile;
pub(crate) mod refusal;
mod rpc;
pub mod rpcs;
mod run_to_end;
pub(crate) mod transport_errors;
mod validate;

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    access::{
        Access,
        quota::{LocalQuota, Quota, SharedQuota},
        refusals::Refusals,
    },
    audit::Audit,
    config::{Config, JwtIssuer},
    metrics::{Metrics, Snapshot},
    postgres::{self, Database},
    telemetry, trace,
    upstream::registry::Targets,
};

/// State that all calls share.
pub struct Shared {
    pub(crate) targets: Targets,
    access: ArcSwap<Access>,
    /// Deletions of the last minute, by caller. They are kept when the configuration is reloaded.
    quota: Box<dyn Quota>,
    /// Limits what refused calls and connections write to the log and to the audit log.
    pub(crate) refusals: Arc<Refusals>,
    pub(crate) metrics: Arc<Metrics>,
    /// The database of `[store]`; `None` if the state is kept locally.
    database: Option<Arc<Database>>,
    pub(crate) audit: Audit,
    /// Permits of calls in progress, from the arrival of their message to their end.
    pub(crate) call_permits: Arc<Semaphore>,
    max_calls: u32,
    /// Tracks the calls in progress, which run to their end even if the caller disconnects. Closed when the server
    /// stops: new calls are then refused.
    pub(crate) tasks: TaskTracker,
    /// Cancelled when the server stops: ends streams, and the server is not ready any more.
    pub(crate) draining: CancellationToken,
    /// Cancelled when the drain exceeds its time limit. The deadlines of all calls then end immediately.
    pub(crate) halt: CancellationToken,
}

impl Shared {
    /// Creates the state of a server with this configuration. Nothing is sent to upstreams. Fails if a client cannot
    /// be created or the audit log cannot be opened.
    pub async fn new(config: &Config) -> Result<Self, String> {
        let metrics = Arc::<Metrics>::default();
        let max_calls = config.server.limits.max_concurrent_calls;
        let source = |issuer: &JwtIssuer| jwks::source(issuer, &metrics);
        let access = Access::new(config, None, source, &metrics)?;
        let database = open_database(config, &metrics).await?;
        let quota: Box<dyn Quota> = match &database {
            Some(_) => Box::new(SharedQuota),
            None => Box::new(LocalQuota::default()),
        };
        Ok(Self {
            targets: Targets::new(config, &metrics, database.as_ref())?,
            access: ArcSwap::from_pointee(access),
            quota,
            database: database.clone(),
            refusals: Arc::default(),
            audit: Audit::start(&config.audit, database.as_ref(), &metrics)
                .await
                .map_err(|error| format!("audit log: {error}"))?,
            metrics,
            call_permits: Arc::new(Semaphore::new(max_calls as usize)),
            max_calls,
            tasks: TaskTracker::new(),
            draining: CancellationToken::new(),
            halt: CancellationToken::new(),
        })
    }

    pub(crate) fn access(&self) -> Guard<Arc<Access>> {
        self.access.load()
    }

    /// Returns all metrics as `OpenMetrics` text.
    pub(crate) fn metrics_text(&self) -> String {
        let free = u32::try_from(self.call_permits.available_permits()).unwrap_or(u32::MAX);
        let connections = self
            .database
            .as_ref()
            .map(|database| database.connections());
        self.metrics.text(&Snapshot {
            store_connections: connections.unwrap_or_default(),
            audit: self.audit.metrics(),
            targets: self.targets.states(),
            calls: self.max_calls.saturating_sub(free),
            max_calls: self.max_calls,
            log_lines_dropped: telemetry::dropped_lines(),
        })
    }

    /// Applies the callers, issuers, protected users and authorities of a changed configuration. If any of them
    /// cannot be used, returns an error and applies none.
    pub(crate) fn apply_config(&self, config: &Config) -> Result<(), String> {
        let before = self.access.load();
        let source = |issuer: &JwtIssuer| jwks::source(issuer, &self.metrics);
        let access = Access::new(config, Some(&before), source, &self.metrics)?;
        let changes = self.targets.prepare_roots(config)?;
        trace::export::prepare_roots(config.tracing.as_ref())?;
        for change in changes {
            change();
        }
        self.targets.set_protected_users(config);
        self.access.store(Arc::new(access));
        Ok(())
    }
}

/// Returns the database of `[store]`, or `None` if the state is kept locally. A database that cannot be reached is no
/// error, because the server can wait for it. Fails if its schema is missing or too old.
pub async fn open_database(
    config: &Config,
    metrics: &Metrics,
) -> Result<Option<Arc<Database>>, String> {
    let Some(settings) = config.store.postgres() else {
        return Ok(None);
    };
    let database = Database::new(&settings, metrics.store.clone());
    let database = database.map_err(|error| format!("[store]: {error}"))?;
    if let Err(postgres::Error::Schema(error)) = Box::pin(database.check()).await {
        return Err(format!("[store]: {error}"));
    }
    Ok(Some(Arc::new(database)))
}

#[derive(Clone)]
pub struct Service(pub Arc<Shared>);
