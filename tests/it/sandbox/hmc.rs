//! Every user of the simulated HMC, by name and by object ID, with the result that the vendor documents.

use futures_util::future::join_all;
use tonic::Code::{self, Aborted, FailedPrecondition, NotFound, PermissionDenied, Unavailable};
use useradmin::{
    proto::{DeleteHmcUserRequest, DeleteOutcome},
    sandbox::Sandbox,
};
use useradmin_testkit::{delete_by_id, delete_by_name};

/// The users that can be deleted: first group of the object ID, and name.
const DELETABLE: [(&str, &str); 7] = [
    ("e9e8d20a", "alice"),
    ("00000b0b", "bob"),
    ("000ca401", "carol"),
    ("00000a0b", "A.B"),
    ("00000acb", "AxB"),
    ("0ac5ad00", "ACSADMIN"),
    ("00000204", "template-free"),
];

/// A user that cannot be deleted: first group of the object ID, name, code, reason, status and reason of the HMC,
/// number of DELETEs started, outcome.
type Refused = (
    &'static str,
    &'static str,
    Code,
    &'static str,
    Option<(u32, u32)>,
    &'static str,
    &'static str,
);

#[rustfmt::skip]
const REFUSED: [Refused; 13] = [
    ("00000312", "pattern-user", FailedPrecondition, "PATTERN_BASED_USER", Some((400, 312)), "1", "not_deleted"),
    ("00000b18", "protected", FailedPrecondition, "PROTECTED_USER", None, "0", "not_sent"),
    ("00000313", "svc-useradmin", FailedPrecondition, "OWN_USER", None, "0", "not_sent"),
    ("00400313", "own-object", FailedPrecondition, "OWN_USER", Some((400, 313)), "1", "not_deleted"),
    ("00000317", "template-in-use", FailedPrecondition, "TEMPLATE_USER_IN_USE", Some((409, 317)), "1", "not_deleted"),
    ("00000320", "auto-logon", FailedPrecondition, "AUTOMATIC_LOGON_USER", Some((409, 320)), "1", "not_deleted"),
    ("00000321", "last-admin", FailedPrecondition, "LAST_LOCAL_ADMINISTRATOR", Some((409, 321)), "1", "not_deleted"),
    ("00403001", "no-permission", PermissionDenied, "UPSTREAM_PERMISSION_DENIED", Some((403, 1)), "1", "not_deleted"),
    ("00409001", "wrong-state", Aborted, "UPSTREAM_CONFLICT", Some((409, 1)), "1", "not_deleted"),
    ("00409002", "busy", Aborted, "UPSTREAM_CONFLICT", Some((409, 2)), "1", "not_deleted"),
    ("00500012", "hmc-defect", Unavailable, "UPSTREAM_UNAVAILABLE", Some((500, 12)), "3", "unknown"),
    ("00503000", "hmc-unavailable", Unavailable, "UPSTREAM_UNAVAILABLE", None, "3", "not_deleted"),
    ("00404001", "invisible", NotFound, "USER_NOT_FOUND", Some((404, 1)), "0", "not_sent"),
];

fn id(first: &str) -> String {
    format!("{first}-4a7a-11e4-91ee-1c6f65065a91")
}

/// Returns requests for a user by ID and by name, in upper and lower case.
fn requests(first: &str, name: &str) -> [DeleteHmcUserRequest; 3] {
    [
        delete_by_id(&id(first)),
        delete_by_name(name),
        delete_by_name(&name.to_uppercase()),
    ]
}

#[tokio::test]
async fn deletable_hmc_users_are_deleted() {
    for way in 0..3 {
        let sandbox = Sandbox::start().await.unwrap();
        let app = super::serve_sandbox(&sandbox).await;
        for (first, name) in DELETABLE {
            let mut request = requests(first, name)[way].clone();
            request.validate_only = true;
            let validation = app.delete_hmc_user(request.clone()).await.unwrap();
            assert_eq!(
                (validation.outcome(), validation.attempts),
                (DeleteOutcome::Validated, 0),
                "{name}"
            );
            let facts = validation.validation.unwrap();
            let replicated = facts.replication_overwrite_possible;
            assert_eq!(replicated, Some(name == "carol"), "{name}");
            assert_eq!(facts.disabled, Some(false), "{name}");
            let is_template = name.starts_with("template");
            assert_eq!(
                facts.required_task.contains("Template"),
                is_template,
                "{name}"
            );
            request.validate_only = false;
            let response = app.delete_hmc_user(request.clone()).await.unwrap();
            assert_eq!(
                (response.outcome(), response.attempts),
                (DeleteOutcome::Deleted, 1),
                "{name}"
            );
            assert_eq!(
                (response.user_id, response.user_name),
                (id(first), name.to_owned())
            );
            request.allow_missing = true;
            let again = app.delete_hmc_user(request).await.unwrap();
            assert_eq!(
                (again.outcome(), again.attempts),
                (DeleteOutcome::AlreadyAbsent, 0)
            );
        }
        let traffic = sandbox.traffic();
        assert_eq!((traffic.hmc_logons, traffic.hmc_deletes), (1, 7));
    }
}

/// Two users whose names differ only in case: a request by name is ambiguous, one by ID is not.
#[tokio::test]
async fn ambiguous_user_name_is_refused() {
    let sandbox = Sandbox::start().await.unwrap();
    let app = super::serve_sandbox(&sandbox).await;
    for name in ["Twin", "TWIN", "twin"] {
        let failure = app.delete_hmc_user(delete_by_name(name)).await.unwrap_err();
        failure.expect(FailedPrecondition, "AMBIGUOUS_USER_NAME");
    }
    let response = app
        .delete_hmc_user(delete_by_id(&id("00000b16")))
        .await
        .unwrap();
    assert_eq!(response.user_name, "Twin");
    let response = app.delete_hmc_user(delete_by_name("twin")).await.unwrap();
    assert_eq!(response.user_name, "TWIN");
}

#[tokio::test]
async fn undeletable_users_return_documented_errors() {
    let sandbox = Sandbox::start().await.unwrap();
    let rows = REFUSED
        .into_iter()
        .flat_map(|row| requests(row.0, row.1).map(|request| (row, request)));
    join_all(rows.map(|(row, request)| {
        let sandbox = &sandbox;
        async move {
            let (_, name, code, reason, actual, attempts, outcome) = row;
            let app = super::serve_sandbox(sandbox).await;
            let failure = app.delete_hmc_user(request.clone()).await.unwrap_err();
            failure.expect(code, reason);
            let got = (
                failure.metadata_value("attempts"),
                failure.metadata_value("outcome"),
            );
            assert_eq!(got, (attempts, outcome), "{name}");
            // An empty list for a name is not an error of the HMC.
            let actual =
                actual.filter(|_| name != "invisible" || request == delete_by_id(&id("00404001")));
            assert_eq!(
                failure.hmc.map(|hmc| (hmc.http_status, hmc.reason)),
                actual,
                "{name}"
            );
        }
    }))
    .await;
}

/// A dry run does not detect errors that only the deletion itself causes.
#[tokio::test]
async fn validate_only_reports_errors_of_reads() {
    let sandbox = Sandbox::start().await.unwrap();
    let app = super::serve_sandbox(&sandbox).await;
    for (first, name, code, reason, ..) in REFUSED {
        for mut request in requests(first, name) {
            request.validate_only = true;
            let response = app.delete_hmc_user(request).await;
            let received = ["pattern-user", "protected", "svc-useradmin", "invisible"];
            if received.contains(&name) {
                let failure = response.unwrap_err();
                failure.expect(code, reason);
                assert_eq!(
                    (
                        failure.metadata_value("attempts"),
                        failure.metadata_value("outcome")
                    ),
                    ("0", "not_sent")
                );
            } else {
                assert_eq!(
                    response.unwrap().outcome(),
                    DeleteOutcome::Validated,
                    "{name}"
                );
            }
        }
    }
    assert_eq!(sandbox.traffic().hmc_deletes, 0);
}

#[tokio::test]
async fn hmc_restart_requires_one_logon() {
    let sandbox = Sandbox::start().await.unwrap();
    let app = super::serve_sandbox(&sandbox).await;
    app.delete_hmc_user(delete_by_name("alice")).await.unwrap();
    sandbox.expire_sessions();
    let response = join_all(
        ["bob", "carol", "A.B", "AxB"].map(|name| app.delete_hmc_user(delete_by_name(name))),
    )
    .await;
    assert!(response.iter().all(Result::is_ok), "{response:?}");
    assert_eq!(sandbox.traffic().hmc_logons, 2);
}
