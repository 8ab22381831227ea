//! The server: listener, layers, services and drain. This module uses no HTTP client.

pub(crate) mod acceptor;
mod admin;
pub(crate) mod admin_listener;
pub mod call_layer;
mod connection;
mod connection_io;
mod connection_limit;
mod connection_log;
mod credentials;
mod drain;
mod eviction;
mod health;
mod in_flight;
mod load_shed;
mod message;
mod metadata;
mod reflection;
mod reload;
mod response_body;
mod services;
mod tls;

use std::{future::Future, io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::TcpListener,
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_util::task::AbortOnDropHandle;
use tonic_health::server::HealthReporter;

use self::{
    acceptor::Acceptor,
    admin::Admin,
    call_layer::CallLayer,
    connection::{Connections, Ending},
    connection_limit::ConnectionLimit,
    connection_log::ConnectionLog,
    drain::drain,
    reload::WatchedFiles,
    services::Services,
    tls::Tls,
};
use crate::{
    config::{Config, Server as ServerConfig},
    proto::user_admin_server::UserAdminServer,
    runtimes::Runtimes,
    service::{Service, Shared, reconcile},
};

/// Interval between checks for refusals to summarize.
const SUMMARY_INTERVAL: Duration = Duration::from_secs(1);

/// A server whose ports are bound. It accepts calls once [`Server::run`] is called.
pub struct Server {
    listener: TcpListener,
    admin: Option<Admin>,
    shared: Arc<Shared>,
    tls: Option<Arc<Tls>>,
    watched: Vec<WatchedFiles>,
    runtimes: Runtimes,
    settings: ServerConfig,
}

impl Server {
    /// Creates a server: binds its ports and creates the clients. Nothing is sent to upstreams. Fails if a port
    /// cannot be bound, or if a file or the audit log cannot be used.
    pub async fn bind(config: &Config) -> Result<Self, String> {
        let shared = Arc::new(Shared::new(config).await?);
        let files = config.server.tls.clone();
        let tls = files.map(|files| Tls::new(files, &shared.metrics));
        let tls = tls.transpose()?.map(Arc::new);
        let listen = config.server.listen;
        let listener = acceptor::listen(listen)
            .map_err(|error| acceptor::cannot_listen(config, "listen", listen, &error))?;
        let admin = Admin::bind(config, Arc::clone(&shared)).await?;
        Ok(Self {
            listener,
            admin,
            watched: reload::watched(config, &shared, tls.as_ref()),
            shared,
            tls,
            runtimes: Runtimes::current(),
            settings: config.server.clone(),
        })
    }

    /// Returns the server, changed to serve connections on these runtimes instead of the current one.
    pub fn with_runtimes(self, runtimes: Runtimes) -> Self {
        Self { runtimes, ..self }
    }

    /// Returns the address of the gRPC port.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref().and_then(Admin::address)
    }

    /// Serves until `stop` completes, then drains: refuses new calls, waits for those in progress until a time limit or
    /// until `force_stop` completes, and closes the sessions on the upstreams.
    pub async fn run(
        self,
        stop: impl Future<Output = ()> + Send,
        force_stop: impl Future<Output = ()> + Send,
    ) -> Result<(), String> {
        let health = HealthReporter::new();
        health.set_serving::<UserAdminServer<Service>>().await;
        let services = Services::new(&self.shared, health.clone(), &self.settings)?;
        if let Some(admin) = self.admin {
            tokio::spawn(admin.serve());
        }
        let (shared, limits) = (self.shared, &self.settings.limits);
        let metrics = Arc::clone(&shared.metrics);
        let service = CallLayer::new(
            services,
            Arc::clone(&shared),
            self.tls.clone(),
            &self.settings,
        );
        let ending = Ending::default();
        // Connections are closed even if this future is dropped.
        let _ended = (
            ending.goaway.clone().drop_guard(),
            ending.cut.clone().drop_guard(),
        );
        let log = Arc::new(ConnectionLog {
            metrics: Arc::clone(&metrics),
            refusals: Arc::clone(&shared.refusals),
        });
        let connections = Connections::new(service, limits, Arc::clone(&log), ending.clone());
        let connections = Arc::new(connections);
        let acceptor = Acceptor {
            tls: self.tls,
            connection_limit: Arc::new(ConnectionLimit::new(limits, Arc::clone(&metrics))),
            max_header_list: limits.max_metadata_bytes,
            log,
        };
        let runtimes = Arc::new(self.runtimes);
        let serve = move |connection| connections.spawn(connection);
        let accepting = acceptor::accept(self.listener, acceptor, Arc::clone(&runtimes), serve);
        let accepting = spawn(accepting);
        let health_updates = spawn(health::update_health(health.clone(), Arc::clone(&shared)));
        let reloading = spawn(reload::watch(self.watched, metrics));
        let reconciling = spawn(reconcile::after_crashes(Arc::clone(&shared)));
        let _summarizing = spawn(summarize(Arc::clone(&shared)));
        stop.await;
        for task in [accepting, health_updates, reloading, reconciling] {
            task.abort();
        }
        tracing::info!(
            calls = shared.tasks.len(),
            limit_seconds = limits.drain.as_secs(),
            "drain started"
        );
        let time = async {
            let _ = timeout(limits.drain, force_stop).await;
        };
        drain(&shared, &health, &ending, time).await;
        // The runtimes are needed until the drain has ended.
        drop(runtimes);
        Ok(())
    }
}

/// Spawns a task that ends when the handle is dropped.
fn spawn(task: impl Future<Output = ()> + Send + 'static) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(task))
}

/// Logs and records summaries of the refusals that were counted instead of reported, until the future is dropped.
async fn summarize(shared: Arc<Shared>) {
    let mut checks = interval(SUMMARY_INTERVAL);
    checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        checks.tick().await;
        shared.summarize_refusals(false).await;
    }
}
