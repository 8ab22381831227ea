//! Stops the server: refuses new calls, waits for those in progress, records the calls that do not end as unknown, and
//! closes the sessions on the upstreams.

use std::time::Duration;

use tokio::time::timeout;
use tonic::server::NamedService as _;
use tonic_health::{ServingStatus, server::HealthReporter};

use super::connection::Ending;
use crate::{
    proto::user_admin_server::UserAdminServer,
    service::{Service, Shared},
    trace,
};

/// Time limit for interrupted calls to record their outcomes and to respond.
const HALT_TIMEOUT: Duration = Duration::from_secs(2);
/// Time limit, after the last call has ended, for sending responses and closing connections.
const LINGER: Duration = Duration::from_secs(1);
/// Time limit for closing sessions on upstreams, and for the audit log to write its queue.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Drains a server. Completes within seconds after all calls have ended or `time` has completed.
pub async fn drain(
    shared: &Shared,
    health: &HealthReporter,
    ending: &Ending,
    time: impl Future<Output = ()> + Send,
) {
    shared.draining.cancel();
    shared.tasks.close();
    for name in ["", UserAdminServer::<Service>::NAME] {
        health
            .set_service_status(name, ServingStatus::NotServing)
            .await;
    }
    ending.goaway.cancel();
    ending.connections.close();
    let done = tokio::select! {
        () = finished(shared) => true,
        () = time => false,
    };
    if !done {
        tracing::warn!(
            remaining = shared.tasks.len(),
            "drain ended early; remaining calls are cancelled"
        );
        shared.halt.cancel();
        let _unfinished = timeout(HALT_TIMEOUT, finished(shared)).await;
    }
    let (_silent_peers, closed, ()) = tokio::join!(
        timeout(LINGER, ending.connections.wait()),
        timeout(CLOSE_TIMEOUT, shared.targets.close()),
        trace::export::shutdown(),
    );
    ending.cut.cancel();
    if closed.is_err() {
        tracing::warn!("session logoff timed out");
    }
    if shared.summarize_refusals(true).await > 0 {
        let _unwritten = timeout(CLOSE_TIMEOUT, shared.audit.flush()).await;
    }
    let outcomes = shared.audit.pending();
    if outcomes > 0 {
        tracing::error!(outcomes, "audit outcomes not written");
    }
    let audit_head = shared.audit.head().to_string();
    tracing::info!(audit_head, "server stopped");
}

/// Waits until all calls have ended and their outcomes have been written.
async fn finished(shared: &Shared) {
    shared.tasks.wait().await;
    shared.audit.flush().await;
}
