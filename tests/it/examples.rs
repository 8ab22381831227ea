//! Runs the Rust examples against the sandbox.

#![allow(dead_code, reason = "their `main` is not called")]

#[path = "../../examples/delete_batch_node_user.rs"]
mod delete_batch_node_user;
#[path = "../../examples/delete_hmc_user.rs"]
mod delete_hmc_user;

use std::{fs, path::PathBuf};

use useradmin_client::{Client, ErrorReason, proto::DeleteBatchNodeUserRequest};
use useradmin_testkit::{App, Process};

fn sandbox() -> (Process, PathBuf) {
    let folder = App::folder();
    let arguments = ["serve", "--sandbox", "--listen", "127.0.0.1:0", "--secure"];
    let arguments = [&arguments[..], &[folder.to_str().unwrap()]].concat();
    let log = fs::File::create(folder.join("log")).unwrap();
    (Process::start_with_log(&arguments, log, ""), folder)
}

#[tokio::test]
async fn hmc_example_deletes_users() {
    let (sandbox, folder) = sandbox();
    let server = format!("https://{}", sandbox.address);
    for (user, printed) in [
        ("alice", "DELETE_OUTCOME_DELETED"),
        ("nobody", "DELETE_OUTCOME_ALREADY_ABSENT"),
        (
            "template-in-use",
            "remove the users that refer to it first: The object cannot be deleted at this time. One or more users or \
             User Patterns refer to this template user.",
        ),
        ("busy", "the same call may succeed after 2s"),
        (
            "a\nb",
            "the same call would fail again: ERROR_REASON_INVALID_REQUEST",
        ),
    ] {
        let response = delete_hmc_user::delete(&server, &folder, user).await;
        assert_eq!(response.unwrap(), printed);
    }
    let failure = delete_hmc_user::delete(&server, &folder.join("gone"), "alice").await;
    let failure = failure.unwrap_err().to_string();
    assert!(failure.starts_with("No such file"), "{failure}");
    sandbox.stop();
    fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
async fn batch_example_deletes_users() {
    let (sandbox, folder) = sandbox();
    let client = Client::builder(format!("https://{}", sandbox.address))
        .ca_certificate(fs::read(folder.join("ca.pem")).unwrap())
        .bearer_token_file(folder.join("token"));
    let client = client.build().unwrap();
    for (node, user, expected) in [
        ("node-idle", "alice", Ok("DELETE_OUTCOME_DELETED")),
        ("node-idle", "alice", Ok("DELETE_OUTCOME_ALREADY_ABSENT")),
        ("node-rebooting", "alice", Err(ErrorReason::NodeNotReady)),
    ] {
        let request = DeleteBatchNodeUserRequest {
            pool_id: "pool-1".to_owned(),
            node_id: node.to_owned(),
            user_name: user.to_owned(),
            allow_missing: true,
            ..DeleteBatchNodeUserRequest::default()
        };
        let response = delete_batch_node_user::delete(&client, &request).await;
        let response = response.as_deref().map_err(|error| error.reason().unwrap());
        assert_eq!(response, expected);
    }
    sandbox.stop();
    fs::remove_dir_all(folder).unwrap();
}
