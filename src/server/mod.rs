//! The server: listener, layers, services and drain. Uses no HTTP client.

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
mod message_timeout;
mod metadata;
mod reflection;
mod reload;
mod request_body;
mod response_body;
mod tls;

use std::{future::Future, io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::TcpListener,
    time::{MissedTickBehavior, interval, sleep},
};
use tokio_util::task::AbortOnDropHandle;
use tonic::{codec::CompressionEncoding, service::RoutesBuilder};
use tonic_health::{
    pb::health_server::HealthServer,
    server::{HealthReporter, HealthService},
};

use self::{
    acceptor::Acceptor,
    admin::Admin,
    call_layer::CallLayer,
    connection::{Connections, Ending},
    connection_limit::{ConnectionLimit, LIMITS},
    connection_log::ConnectionLog,
    drain::drain,
    health::WatchUnknown,
    reflection::V1Alpha,
    reload::WatchedFiles,
    tls::Tls,
};
use crate::{
    config::{Config, Server as Settings},
    proto::user_admin_server::UserAdminServer,
    runtimes::Runtimes,
    service::{Service, Shared},
};

/// Interval between checks for refusals to summarize.
const SUMMARY_INTERVAL: Duration = Duration::from_secs(1);

/// A server with bound ports, which accepts calls as soon as it runs.
pub struct Server {
    listener: TcpListener,
    admin: Option<Admin>,
    shared: Arc<Shared>,
    tls: Option<Arc<Tls>>,
    watched: Vec<WatchedFiles>,
    runtimes: Runtimes,
    settings: Settings,
}

impl Server {
    /// Binds the ports and creates the clients. Nothing is sent to upstreams.
    pub async fn bind(config: &Config) -> Result<Self, String> {
        let shared = Arc::new(Shared::new(config).await?);
        let files = config.server.tls.clone();
        let tls = files.map(|files| Tls::new(files, &shared.metrics));
        let tls = tls.transpose()?.map(Arc::new);
        let listen = config.server.listen;
        let listener = acceptor::listen(listen)
            .map_err(|error| format!("cannot listen on {listen}: {error}"))?;
        let admin = Admin::bind(&config.server, Arc::clone(&shared)).await?;
        Ok(Self {
            listener,
            admin,
            watched: reload::watched(config, &shared, tls.as_ref()),
            shared,
            tls,
            runtimes: Runtimes::here(),
            settings: config.server.clone(),
        })
    }

    /// Uses these runtimes instead of the current one.
    #[must_use]
    pub fn with_runtimes(self, runtimes: Runtimes) -> Self {
        Self { runtimes, ..self }
    }

    /// Returns the address of the gRPC port.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Returns the address of the admin port.
    #[must_use]
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(Admin::address)
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
        let mut routes = RoutesBuilder::default();
        self.add_services(&mut routes, health.clone())?;
        if let Some(admin) = self.admin {
            tokio::spawn(admin.serve());
        }
        let limits = &self.settings.limits;
        let (shared, tls) = (Arc::clone(&self.shared), self.tls.clone());
        let service = CallLayer::new(routes.routes().prepare(), shared, tls, &self.settings);
        let ending = Ending::default();
        // Connections are closed even if this future is dropped.
        let _ended = (
            ending.goaway.clone().drop_guard(),
            ending.cut.clone().drop_guard(),
        );
        let log = Arc::new(ConnectionLog {
            metrics: Arc::clone(&self.shared.metrics),
            refusals: Arc::clone(&self.shared.refusals),
        });
        let connections = Connections::new(service, limits, Arc::clone(&log), ending.clone());
        let connections = Arc::new(connections);
        let metrics = &self.shared.metrics;
        metrics.expect_connections(limits.max_connections, &LIMITS);
        let acceptor = Acceptor {
            tls: self.tls.clone(),
            connection_limit: Arc::new(ConnectionLimit::new(limits)),
            log,
        };
        let runtimes = Arc::new(self.runtimes);
        let hand_on = move |connection| connections.spawn(connection);
        let accepting = acceptor::accept(self.listener, acceptor, Arc::clone(&runtimes), hand_on);
        let following = spawn(health::follow(health.clone(), Arc::clone(&self.shared)));
        let accepting = spawn(accepting);
        let _summarizing = spawn(summarize(Arc::clone(&self.shared)));
        let metrics = Arc::clone(&self.shared.metrics);
        let reloading = spawn(reload::watch(self.watched, metrics));
        stop.await;
        accepting.abort();
        following.abort();
        let time = async {
            tokio::select! {
                () = sleep(limits.drain) => {}
                () = force_stop => {}
            }
        };
        reloading.abort();
        tracing::info!(calls = self.shared.tasks.len(), limit = ?limits.drain, "draining; a second signal cuts it short");
        drain(&self.shared, &health, &ending, time).await;
        // The runtimes are needed until the drain has ended.
        drop(runtimes);
        Ok(())
    }
}

/// Spawns a task that ends when the handle is dropped.
fn spawn(task: impl Future<Output = ()> + Send + 'static) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(task))
}

/// Logs and records the refusals that were counted in each minute, until it is dropped.
async fn summarize(shared: Arc<Shared>) {
    let mut looks = interval(SUMMARY_INTERVAL);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        shared.summarize_refusals(false).await;
    }
}

impl Server {
    fn add_services(
        &self,
        routes: &mut RoutesBuilder,
        health: HealthReporter,
    ) -> Result<(), String> {
        let most = self.settings.limits.max_request_bytes as usize;
        let health = WatchUnknown {
            inner: HealthService::from_health_reporter(health),
            draining: self.shared.draining.clone(),
        };
        routes
            .add_service(
                HealthServer::new(health)
                    .accept_compressed(CompressionEncoding::Gzip)
                    .max_decoding_message_size(most),
            )
            .add_service(
                UserAdminServer::new(Service(Arc::clone(&self.shared)))
                    .accept_compressed(CompressionEncoding::Gzip)
                    .max_decoding_message_size(most),
            );
        if self.settings.reflection().is_some() {
            let reflection = reflection::service(self.shared.draining.clone())?
                .accept_compressed(CompressionEncoding::Gzip)
                .max_decoding_message_size(most);
            routes
                .add_service(V1Alpha(reflection.clone()))
                .add_service(reflection);
        }
        Ok(())
    }
}
