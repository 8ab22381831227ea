//! What health says while the server runs: deletions are possible as long as the audit log can be written.

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;
use tonic::server::NamedService as _;
use tonic_health::{ServingStatus, server::HealthReporter};

use crate::{
    proto::user_admin_server::UserAdminServer,
    service::{Service, Shared},
};

/// How often the audit log is asked.
const PAUSE: Duration = Duration::from_millis(250);

/// Tells changes of the audit log, for as long as it runs. The server as a whole (`""`) goes on serving: a restart
/// would not help.
pub async fn follow(health: HealthReporter, shared: Arc<Shared>) {
    let mut told = None;
    loop {
        let works = shared.audit.works();
        if told != Some(works) {
            told = Some(works);
            let status = if works {
                ServingStatus::Serving
            } else {
                ServingStatus::NotServing
            };
            let name = UserAdminServer::<Service>::NAME;
            health.set_service_status(name, status).await;
        }
        sleep(PAUSE).await;
    }
}
