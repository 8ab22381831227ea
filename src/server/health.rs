//! The health service. `UserAdmin` is serving as long as the audit log can be written.

use std::{sync::Arc, time::Duration};

use futures_util::{
    Stream, StreamExt as _,
    stream::{self, BoxStream},
};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status, server::NamedService as _};
use tonic_health::{
    ServingStatus,
    pb::{HealthCheckRequest, HealthCheckResponse, health_check_response, health_server::Health},
    server::{HealthReporter, HealthService},
};

use crate::{
    proto::user_admin_server::UserAdminServer,
    service::{Service, Shared},
};

/// Interval between checks of the audit log.
const CHECK_INTERVAL: Duration = Duration::from_millis(250);

/// Updates the health status of `UserAdmin` when the audit log starts or stops working, until the future is dropped.
/// The server as a whole (`""`) stays healthy, because a restart would not help.
pub async fn update_health(health: HealthReporter, shared: Arc<Shared>) {
    let mut reported = None;
    loop {
        let status = if shared.audit.is_healthy() {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        };
        if reported != Some(status) {
            reported = Some(status);
            let name = UserAdminServer::<Service>::NAME;
            health.set_service_status(name, status).await;
        }
        sleep(CHECK_INTERVAL).await;
    }
}

/// The health service of `tonic-health`, except that `Watch` of an unknown service reports `SERVICE_UNKNOWN` and
/// stays open (health.proto). No service is added after the server has started, so no other report of an unknown
/// service follows. When the server drains, `Watch` ends; for a known service, it reports `NOT_SERVING` first.
pub struct HealthServiceWithUnknownWatch {
    pub inner: HealthService,
    pub draining: CancellationToken,
}

type ReportStream = BoxStream<'static, Result<HealthCheckResponse, Status>>;

#[tonic::async_trait]
impl Health for HealthServiceWithUnknownWatch {
    type WatchStream = ReportStream;

    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        self.inner.check(request).await
    }

    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<ReportStream>, Status> {
        let draining = self.draining.clone();
        match self.inner.watch(request).await {
            Ok(response) => {
                Ok(response.map(|reports| until_drained(reports.boxed(), draining).boxed()))
            }
            Err(status) if status.code() == Code::NotFound => {
                let unknown = HealthCheckResponse {
                    status: health_check_response::ServingStatus::ServiceUnknown.into(),
                };
                let drained = stream::pending().take_until(draining.cancelled_owned());
                Ok(Response::new(
                    stream::iter([Ok(unknown)]).chain(drained).boxed(),
                ))
            }
            Err(status) => Err(status),
        }
    }
}

/// Returns the reports up to the first `NOT_SERVING` after the drain has started, inclusive.
fn until_drained(
    reports: ReportStream,
    draining: CancellationToken,
) -> impl Stream<Item = Result<HealthCheckResponse, Status>> + Send {
    stream::unfold((Some(reports), draining), |(reports, draining)| async {
        let mut reports = reports?;
        let report = reports.next().await?;
        let serves = matches!(&report, Ok(report) if report.status() == health_check_response::ServingStatus::Serving);
        let reports = (serves || !draining.is_cancelled()).then_some(reports);
        Some((report, (reports, draining)))
    })
}
