//! The examples for clients in Rust do what they say.

#![allow(dead_code, reason = "their `main` is not called")]

#[path = "../../examples/delete_batch_node_user.rs"]
mod delete_batch_node_user;
#[path = "../../examples/delete_hmc_user.rs"]
mod delete_hmc_user;

use std::{fs, path::PathBuf};

use useradmin::proto::DeleteBatchNodeUserRequest;

use crate::support::{App, Process};

fn sandbox() -> (Process, PathBuf) {
    let folder = App::folder();
    let arguments = ["serve", "--sandbox", "--listen", "127.0.0.1:0", "--secure"];
    let arguments = [&arguments[..], &[folder.to_str().unwrap()]].concat();
    let log = fs::File::create(folder.join("log")).unwrap();
    (Process::logging(&arguments, log, ""), folder)
}

#[tokio::test]
async fn users_of_an_hmc() {
    let (sandbox, folder) = sandbox();
    for (user, told) in [
        (
            "alice",
            "e9e8d20a-4a7a-11e4-91ee-1c6f65065a91: DELETE_OUTCOME_DELETED",
        ),
        ("nobody", ": DELETE_OUTCOME_ALREADY_ABSENT"),
        (
            "template-in-use",
            "ERROR_REASON_TEMPLATE_USER_IN_USE: remove the users that refer to it first (the HMC says 409/317: The \
             object cannot be deleted at this time. One or more users or User Patterns refer to this template user.)",
        ),
        (
            "busy",
            "ERROR_REASON_UPSTREAM_CONFLICT: the same call may succeed later (the HMC says 409/2: The operation \
             cannot be performed because the object is currently busy with another operation.)",
        ),
        (
            "a\nb",
            "ERROR_REASON_INVALID_REQUEST: the same call will fail again",
        ),
    ] {
        let done = delete_hmc_user::delete(&sandbox.address, &folder, user).await;
        assert_eq!(done.unwrap_or_else(|error| error.to_string()), told);
    }
    let gone = folder.join("gone");
    let failed = delete_hmc_user::delete(&sandbox.address, &gone, "alice").await;
    let failed = failed.unwrap_err().to_string();
    assert!(failed.starts_with("ca.pem: "), "{failed}");
    sandbox.stop();
    fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
async fn users_of_a_node() {
    let (sandbox, folder) = sandbox();
    for (node, user, told) in [
        ("node-idle", "alice", "DELETE_OUTCOME_DELETED"),
        ("node-idle", "alice", "DELETE_OUTCOME_ALREADY_ABSENT"),
        ("node-rebooting", "alice", "ERROR_REASON_NODE_NOT_READY"),
    ] {
        let request = DeleteBatchNodeUserRequest {
            pool_id: "pool-1".to_owned(),
            node_id: node.to_owned(),
            user_name: user.to_owned(),
            allow_missing: true,
            ..DeleteBatchNodeUserRequest::default()
        };
        let done = delete_batch_node_user::delete(&sandbox.address, &folder, request).await;
        assert_eq!(done.unwrap_or_else(|error| error.to_string()), told);
    }
    sandbox.stop();
    fs::remove_dir_all(folder).unwrap();
}
