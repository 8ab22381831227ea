//! Users that this service never deletes, and the dry run.

use futures_util::future::join_all;
use serde_json::json;
use tonic::Code::{FailedPrecondition, NotFound};
use useradmin::proto::{DeleteHmcUserRequest, DeleteOutcome};
use useradmin_testkit::{CallFailure, HmcSetup, Step, delete_by_id, delete_by_name};

use super::{setup_with_document, user_list};

const PROTECTED: &str = r#"protected_users = ["ACSADMIN", "break-glass-*", "*.Root", "JÖRG"]
"#;

/// Starts an HMC with one user, whose object ID is `id-7`.
async fn setup_with_user(name: &str, kind: &str) -> HmcSetup {
    let user = json!({
        "object-id": "id-7", "object-uri": "/api/users/id-7", "name": name, "type": kind,
        "users": [{"object-uri": "/api/users/id-7", "name": name, "type": kind}],
    });
    setup_with_document(user, PROTECTED).await
}

async fn assert_refused(
    setup: &HmcSetup,
    request: DeleteHmcUserRequest,
    reason: &str,
) -> CallFailure {
    let failure = setup.fail(request).await;
    failure.expect(FailedPrecondition, reason);
    setup.assert_not_sent(&failure);
    assert_eq!(failure.precondition.len(), 1, "{failure:?}");
    assert!(
        failure.hmc.is_none() && failure.retry_delay.is_none(),
        "{failure:?}"
    );
    failure
}

#[tokio::test]
async fn own_user_is_not_deleted() {
    let names = ["svc-useradmin", "SVC-USERADMIN", "Svc-UserAdmin"];
    join_all(names.map(|name| async move {
        let setup = setup_with_user(name, "standard").await;
        let failure = assert_refused(&setup, delete_by_id("id-7"), "OWN_USER").await;
        assert_eq!(
            (
                failure.metadata_value("user_id"),
                failure.metadata_value("user_name")
            ),
            ("id-7", name)
        );
        for asked in names {
            assert_refused(&setup, delete_by_name(asked), "OWN_USER").await;
        }
    }))
    .await;
}

#[tokio::test]
async fn protected_user_is_not_deleted() {
    let names = [
        "ACSADMIN",
        "acsadmin",
        "AcsAdmin",
        "break-glass-",
        "Break-Glass-7",
        "x.root",
        ".ROOT",
        "jörg",
    ];
    join_all(names.map(|name| async move {
        let setup = setup_with_user(name, "system-defined").await;
        let failure = assert_refused(&setup, delete_by_id("id-7"), "PROTECTED_USER").await;
        assert_eq!(failure.metadata_value("user_name"), name);
        assert_eq!(setup.count(Step::Read), 1);
    }))
    .await;
}

/// The request contains the name, so the service refuses it without a request to the HMC.
#[tokio::test]
async fn protected_name_is_refused_without_request() {
    let setup = setup_with_user("acsadmin", "system-defined").await;
    for name in ["ACSADMIN", "acsadmin", "break-glass-7", "x.root", "JÖRG"] {
        let failure = assert_refused(&setup, delete_by_name(name), "PROTECTED_USER").await;
        assert_eq!(failure.precondition[0].1, format!("hmcs/hmc/users/{name}"));
    }
    assert!(setup.upstream.received().is_empty());
}

#[tokio::test]
async fn names_outside_patterns_are_not_protected() {
    let names = [
        "ACSADMIN2",
        "xACSADMIN",
        "break-glass",
        "x.root2",
        "svc-useradmin2",
        "alice",
    ];
    join_all(names.map(|name| async move {
        let setup = setup_with_user(name, "standard").await;
        for request in [delete_by_id("id-7"), delete_by_name(name)] {
            let response = setup.app.delete_hmc_user(request).await.unwrap();
            assert_eq!(
                (response.outcome(), response.user_name.as_str()),
                (DeleteOutcome::Deleted, name)
            );
        }
    }))
    .await;
}

/// Name and type of a user, and the reason that a dry run returns; `None` if all checks pass.
const VALIDATE_ONLY: [(&str, &str, Option<&str>); 8] = [
    ("alice", "standard", None),
    ("ADVANCED", "system-defined", None),
    ("template-1", "template", None),
    ("alice", "", None),
    ("alice", "pattern-based", Some("PATTERN_BASED_USER")),
    ("SVC-useradmin", "standard", Some("OWN_USER")),
    ("acsadmin", "system-defined", Some("PROTECTED_USER")),
    ("break-glass-1", "pattern-based", Some("PROTECTED_USER")),
];

#[tokio::test]
async fn validate_only_reads_without_deleting() {
    join_all(VALIDATE_ONLY.map(|(name, kind, expected)| async move {
        let setup = setup_with_user(name, kind).await;
        for mut request in [delete_by_id("id-7"), delete_by_name(name)] {
            request.validate_only = true;
            match (setup.app.delete_hmc_user(request.clone()).await, expected) {
                (Ok(result), None) => {
                    assert_eq!(
                        (result.outcome(), result.attempts),
                        (DeleteOutcome::Validated, 0)
                    );
                    assert_eq!(
                        (result.user_id.as_str(), result.user_name.as_str()),
                        ("id-7", name)
                    );
                    let record = setup.app.audit().pop().unwrap();
                    assert_eq!(record["outcome"], "validated");
                }
                (Err(_), Some(reason)) => drop(assert_refused(&setup, request, reason).await),
                (response, expected) => panic!("{name} {kind}: wanted {expected:?}: {response:?}"),
            }
        }
        assert_eq!(setup.count(Step::Delete), 0);
        assert!(
            setup
                .app
                .audit()
                .iter()
                .all(|record| record["event"] != "intent")
        );
    }))
    .await;
}

#[tokio::test]
async fn validate_only_reports_absent_user() {
    let setup = setup_with_document(user_list(&[]), "").await;
    let mut request = delete_by_name("alice");
    request.validate_only = true;
    let failure = setup.fail(request.clone()).await;
    failure.expect(NotFound, "USER_NOT_FOUND");
    setup.assert_not_sent(&failure);

    request.allow_missing = true;
    let response = setup.app.delete_hmc_user(request).await.unwrap();
    assert_eq!(
        (response.outcome(), response.attempts),
        (DeleteOutcome::Validated, 0)
    );
    assert_eq!(setup.count(Step::Delete), 0);
}
