//! The gRPC services of the server.

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::future::BoxFuture;
use http::{Request, Response};
use tonic::{
    body::Body,
    codec::CompressionEncoding,
    server::NamedService,
    service::{Routes, RoutesBuilder},
};
use tonic_health::{
    pb::health_server::HealthServer,
    server::{HealthReporter, HealthService},
};
use tower::Service;

use super::{health::HealthServiceWithUnknownWatch, reflection};
use crate::{
    config::Server as Settings,
    proto::user_admin_server::UserAdminServer,
    service::{self, Shared},
};

/// The gRPC services. Calls of `UserAdmin` bypass the router of the other services, because the router takes
/// almost 2,000 instructions for each call.
#[derive(Clone)]
pub struct Services {
    user_admin: UserAdminServer<service::Service>,
    others: Routes,
}

impl Services {
    /// Creates the services. Fails if the service for reflection cannot be created.
    pub fn new(
        shared: &Arc<Shared>,
        health: HealthReporter,
        settings: &Settings,
    ) -> Result<Self, String> {
        let max_bytes = settings.limits.max_request_bytes as usize;
        let health = HealthServiceWithUnknownWatch {
            inner: HealthService::from_health_reporter(health),
            draining: shared.draining.clone(),
        };
        let mut others = RoutesBuilder::default();
        others.add_service(
            HealthServer::new(health)
                .accept_compressed(CompressionEncoding::Gzip)
                .max_decoding_message_size(max_bytes),
        );
        if settings.reflection {
            let reflection = reflection::service(shared.draining.clone())?
                .accept_compressed(CompressionEncoding::Gzip)
                .max_decoding_message_size(max_bytes);
            others.add_service(reflection);
        }
        Ok(Self {
            user_admin: UserAdminServer::new(service::Service(Arc::clone(shared)))
                .accept_compressed(CompressionEncoding::Gzip)
                .max_decoding_message_size(max_bytes),
            others: others.routes().prepare(),
        })
    }
}

/// Returns whether a path is that of a method of `UserAdmin`.
fn is_user_admin(path: &str) -> bool {
    let service = path.strip_prefix('/').and_then(|path| path.split_once('/'));
    service.is_some_and(|(service, _)| service == UserAdminServer::<service::Service>::NAME)
}

impl Service<Request<Body>> for Services {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // `UserAdmin` is always ready.
        Service::<Request<Body>>::poll_ready(&mut self.others, cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        if is_user_admin(request.uri().path()) {
            self.user_admin.call(request)
        } else {
            Box::pin(self.others.call(request))
        }
    }
}
