//! The embedded sandbox: every row of the two sandbox documents, over real HTTP through the real server.

mod hmc;
mod secure;

use std::collections::BTreeSet;

use tonic::Code;
use useradmin::{
    cli::sandbox_config,
    config::{Config, Targets},
    proto::{DeleteBatchNodeUserRequest, DeleteOutcome},
    sandbox::Sandbox,
};
use useradmin_testkit::{App, batch_request, delete_by_id, delete_by_name};

/// Returns the configuration of `serve --sandbox`, with a free port.
pub fn sandbox_configuration(sandbox: &Sandbox) -> Config {
    sandbox_config(sandbox, "127.0.0.1:0".parse().unwrap()).unwrap()
}

/// Starts the server as `serve --sandbox` does.
pub async fn serve_sandbox(sandbox: &Sandbox) -> App {
    App::run(App::folder(), &sandbox_configuration(sandbox)).await
}

#[tokio::test]
async fn sandbox_has_target_of_each_platform() {
    let sandbox = Sandbox::start().await.unwrap();
    let config = sandbox_configuration(&sandbox);
    let targets = config.targets.list();
    let tables = targets
        .iter()
        .filter_map(|target| target.table.split('.').next());
    assert_eq!(
        tables.collect::<BTreeSet<_>>(),
        Targets::TABLES.iter().copied().collect(),
        "add the target to src/cli/sandbox.rs and useradmin-sandbox"
    );
}

fn request_for_node(node_id: &str, user_name: &str) -> DeleteBatchNodeUserRequest {
    DeleteBatchNodeUserRequest {
        node_id: node_id.to_owned(),
        ..batch_request(user_name)
    }
}

#[tokio::test]
async fn deleted_batch_user_is_absent_afterwards() {
    let sandbox = Sandbox::start().await.unwrap();
    let app = serve_sandbox(&sandbox).await;
    for user in ["alice", "josé", "user name/with ?#%"] {
        let request = request_for_node("node-idle", user);
        let response = app.delete_batch_node_user(request.clone()).await.unwrap();
        assert_eq!(response.outcome(), DeleteOutcome::Deleted);
        assert_eq!(response.attempts, 1);
        assert_eq!(response.request_id.len(), 36);
        assert_eq!(response.client_request_id.len(), 36);

        let failure = app
            .delete_batch_node_user(request.clone())
            .await
            .unwrap_err();
        failure.expect(Code::NotFound, "USER_NOT_FOUND");
        assert_eq!(failure.batch.unwrap().code, "NodeUserNotFound");

        let request = DeleteBatchNodeUserRequest {
            allow_missing: true,
            ..request
        };
        let response = app.delete_batch_node_user(request).await.unwrap();
        assert_eq!(response.outcome(), DeleteOutcome::AlreadyAbsent);
    }
    assert_eq!(sandbox.traffic().token_requests, 1);
}

#[tokio::test]
async fn deleted_hmc_user_is_absent_afterwards() {
    let sandbox = Sandbox::start().await.unwrap();
    let app = serve_sandbox(&sandbox).await;
    let response = app.delete_hmc_user(delete_by_name("BOB")).await.unwrap();
    assert_eq!(response.outcome(), DeleteOutcome::Deleted);
    assert_eq!(response.user_name, "bob");
    assert_eq!(response.user_id, "00000b0b-4a7a-11e4-91ee-1c6f65065a91");

    let failure = app
        .delete_hmc_user(delete_by_name("bob"))
        .await
        .unwrap_err();
    failure.expect(Code::NotFound, "USER_NOT_FOUND");
    let failure = app
        .delete_hmc_user(delete_by_id(&response.user_id))
        .await
        .unwrap_err();
    failure.expect(Code::NotFound, "USER_NOT_FOUND");
    assert_eq!(failure.hmc.unwrap().reason, 1);

    app.stop().await;
    let traffic = sandbox.traffic();
    assert_eq!((traffic.hmc_logons, traffic.hmc_deletes), (1, 1));
    assert_eq!((traffic.hmc_logoffs, traffic.open_sessions), (1, 0));
}
