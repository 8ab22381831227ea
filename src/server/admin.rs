//! The admin port: `/livez`, `/readyz` and `/metrics` over HTTP.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Router,
    extract::State,
    http::{
        HeaderMap, StatusCode,
        header::{ACCEPT, CONTENT_TYPE, VARY},
    },
    response::IntoResponse,
    routing::get,
};
use tokio::net::TcpListener;

use super::{acceptor::cannot_listen, admin_listener};
use crate::{config::Config, metrics::Format, service::Shared};

pub struct Admin {
    listener: TcpListener,
    shared: Arc<Shared>,
}

impl Admin {
    /// Binds the port. Returns `None` if the port is disabled, or if the default address cannot be bound, which is
    /// only logged. Fails if an address that the configuration names cannot be bound.
    pub async fn bind(config: &Config, shared: Arc<Shared>) -> Result<Option<Self>, String> {
        let Some(address) = config.server.admin_listen else {
            return Ok(None);
        };
        match TcpListener::bind(address).await {
            Ok(listener) => Ok(Some(Self { listener, shared })),
            Err(error) if config.server.admin_listen_is_explicit => {
                Err(cannot_listen(config, "admin_listen", address, &error))
            }
            Err(error) => {
                tracing::warn!(%address, %error, "admin port not bound");
                Ok(None)
            }
        }
    }

    pub fn address(&self) -> Option<SocketAddr> {
        self.listener.local_addr().ok()
    }

    /// Serves requests until the process exits, so that probes continue during the drain.
    pub async fn serve(self) {
        let routes = Router::new()
            .route("/livez", get(|| async { "ok\n" }))
            .route("/readyz", get(readyz))
            .route("/metrics", get(metrics))
            .with_state(self.shared);
        admin_listener::serve(self.listener, routes).await;
    }
}

async fn readyz(State(shared): State<Arc<Shared>>) -> (StatusCode, &'static str) {
    if shared.draining.is_cancelled() {
        (StatusCode::SERVICE_UNAVAILABLE, "draining\n")
    } else if !shared.audit.is_healthy() {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            "the audit log cannot be written\n",
        )
    } else {
        (StatusCode::OK, "ok\n")
    }
}

async fn metrics(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> impl IntoResponse {
    let accept = headers.get_all(ACCEPT).into_iter();
    let format = Format::accepted(accept.filter_map(|value| value.to_str().ok()));
    // A cache must not serve one format to a scraper that requests the other.
    let headers = [(CONTENT_TYPE, format.content_type()), (VARY, "accept")];
    (headers, format.convert(shared.metrics_text()))
}
