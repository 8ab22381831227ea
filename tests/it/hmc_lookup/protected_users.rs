//! Users that this service never deletes, and the dry run.

use futures_util::future::join_all;
use serde_json::json;
use tonic::Code::{FailedPrecondition, NotFound};
use useradmin::proto::{DeleteHmcUserRequest, DeleteOutcome};
use useradmin_testkit::{Console, Failed, Step, by_id, by_name};

use super::{console_telling, listed};

const PROTECTED: &str = r#"protected_users = ["ACSADMIN", "break-glass-*", "*.Root", "JÖRG"]
"#;

/// Starts an HMC with one user, whose object ID is `id-7`.
async fn console_of(name: &str, kind: &str) -> Console {
    let user = json!({
        "object-id": "id-7", "object-uri": "/api/users/id-7", "name": name, "type": kind,
        "users": [{"object-uri": "/api/users/id-7", "name": name, "type": kind}],
    });
    console_telling(user, PROTECTED).await
}

async fn expect_guarded(console: &Console, request: DeleteHmcUserRequest, reason: &str) -> Failed {
    let failed = console.fail(request).await;
    failed.expect(FailedPrecondition, reason);
    console.expect_not_sent(&failed);
    assert_eq!(failed.precondition.len(), 1, "{failed:?}");
    assert!(
        failed.hmc.is_none() && failed.retry_delay.is_none(),
        "{failed:?}"
    );
    failed
}

#[tokio::test]
async fn own_user_is_not_deleted() {
    let names = ["svc-useradmin", "SVC-USERADMIN", "Svc-UserAdmin"];
    join_all(names.map(|name| async move {
        let console = console_of(name, "standard").await;
        let failed = expect_guarded(&console, by_id("id-7"), "OWN_USER").await;
        assert_eq!(
            (failed.meta("user_id"), failed.meta("user_name")),
            ("id-7", name)
        );
        for asked in names {
            expect_guarded(&console, by_name(asked), "OWN_USER").await;
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
        let console = console_of(name, "system-defined").await;
        let failed = expect_guarded(&console, by_id("id-7"), "PROTECTED_USER").await;
        assert_eq!(failed.meta("user_name"), name);
        assert_eq!(console.count(Step::Read), 1);
    }))
    .await;
}

/// The request contains the name, so the service refuses it without a request to the HMC.
#[tokio::test]
async fn protected_name_is_refused_without_request() {
    let console = console_of("acsadmin", "system-defined").await;
    for name in ["ACSADMIN", "acsadmin", "break-glass-7", "x.root", "JÖRG"] {
        let failed = expect_guarded(&console, by_name(name), "PROTECTED_USER").await;
        assert_eq!(failed.precondition[0].1, format!("hmcs/hmc/users/{name}"));
    }
    assert!(console.upstream.seen().is_empty());
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
        let console = console_of(name, "standard").await;
        for request in [by_id("id-7"), by_name(name)] {
            let done = console.app.delete_hmc_user(request).await.unwrap();
            assert_eq!(
                (done.outcome(), done.user_name.as_str()),
                (DeleteOutcome::Deleted, name)
            );
        }
    }))
    .await;
}

/// Name and type of a user, and the reason that a dry run returns; `None` if all checks pass.
const DRY: [(&str, &str, Option<&str>); 8] = [
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
    join_all(DRY.map(|(name, kind, wanted)| async move {
        let console = console_of(name, kind).await;
        for mut request in [by_id("id-7"), by_name(name)] {
            request.validate_only = true;
            match (console.app.delete_hmc_user(request.clone()).await, wanted) {
                (Ok(done), None) => {
                    assert_eq!(
                        (done.outcome(), done.attempts),
                        (DeleteOutcome::Validated, 0)
                    );
                    assert_eq!(
                        (done.user_id.as_str(), done.user_name.as_str()),
                        ("id-7", name)
                    );
                    let record = console.app.audit().pop().unwrap();
                    assert_eq!(record["outcome"], "validated");
                }
                (Err(_), Some(reason)) => drop(expect_guarded(&console, request, reason).await),
                (answer, wanted) => panic!("{name} {kind}: wanted {wanted:?}: {answer:?}"),
            }
        }
        assert_eq!(console.count(Step::Delete), 0);
        assert!(
            console
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
    let console = console_telling(listed(&[]), "").await;
    let mut request = by_name("alice");
    request.validate_only = true;
    let failed = console.fail(request.clone()).await;
    failed.expect(NotFound, "USER_NOT_FOUND");
    console.expect_not_sent(&failed);

    request.allow_missing = true;
    let done = console.app.delete_hmc_user(request).await.unwrap();
    assert_eq!(
        (done.outcome(), done.attempts),
        (DeleteOutcome::Validated, 0)
    );
    assert_eq!(console.count(Step::Delete), 0);
}
