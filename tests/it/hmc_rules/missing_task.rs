//! 403 with reason 1: the task that the HMC user of the service lacks.

use futures_util::future::join_all;
use serde_json::json;
use tonic::Code::PermissionDenied;
use useradmin_testkit::{
    HmcSetup, Reply, Step, default_reply, delete_by_id, delete_by_name, error_reply,
};

/// The type of a user, and the task that its deletion requires ("Delete User", Authorization requirements).
/// Pattern-based users cannot be deleted.
const TASKS: [(&str, &str); 6] = [
    ("standard", "Manage Users"),
    ("system-defined", "Manage Users"),
    ("template", "Manage User Templates"),
    ("pattern-based", ""),
    ("a type of tomorrow", ""),
    ("", ""),
];

#[tokio::test]
async fn missing_task_depends_on_type_of_user() {
    let denied = "the upstream does not let this service delete the user";
    let cases = TASKS.iter().flat_map(|case| {
        [delete_by_id("id-1"), delete_by_name("alice")].map(|request| (*case, request))
    });
    join_all(cases.map(|((kind, task), request)| async move {
        let setup = HmcSetup::start(move |request| {
            let user = json!({"object-uri": "/api/users/id-1", "name": "alice", "type": kind});
            match Step::of(request) {
                Step::Read => Reply::json(200, &user.to_string()),
                Step::List => Reply::json(200, &json!({"users": [user]}).to_string()),
                Step::Delete => error_reply(request, 403, 1),
                _ => default_reply(request, 1),
            }
        })
        .await;
        let failure = setup.fail(request).await;
        failure.expect(PermissionDenied, "UPSTREAM_PERMISSION_DENIED");
        assert_eq!(failure.metadata_value("missing_task"), task, "{kind}");
        let description = if task.is_empty() {
            denied.to_owned()
        } else {
            format!("{denied}: the service's user lacks the task {task}")
        };
        assert_eq!(failure.resource_description, description);
    }))
    .await;
}

/// Another 403, and a 403 to the read, do not name a task.
#[tokio::test]
async fn other_refusals_name_no_task() {
    for (step, reason) in [(Step::Delete, 2), (Step::Delete, 0), (Step::Read, 1)] {
        let setup = HmcSetup::start(move |request| {
            if Step::of(request) == step {
                error_reply(request, 403, reason)
            } else {
                default_reply(request, 1)
            }
        })
        .await;
        let failure = setup.fail(delete_by_id("id-1")).await;
        failure.expect(PermissionDenied, "UPSTREAM_PERMISSION_DENIED");
        assert!(
            !failure.metadata.contains_key("missing_task"),
            "{failure:?}"
        );
    }
}
