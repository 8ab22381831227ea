//! `validate_only` with an HMC: the response contains the properties of the user and the task that the deletion
//! requires.

use futures_util::future::join_all;
use serde_json::{Value, json};
use tonic::Code::{FailedPrecondition, NotFound};
use useradmin::proto::{DeleteHmcUserRequest, DeleteOutcome, HmcUserValidation};
use useradmin_testkit::{
    HmcSetup, Reply,
    ScriptedReply::{self, Hmc, Html, Json, Reset},
    Step, default_reply, delete_by_id, delete_by_name, error_reply,
};

fn validate(request: DeleteHmcUserRequest) -> DeleteHmcUserRequest {
    DeleteHmcUserRequest {
        validate_only: true,
        ..request
    }
}

fn validation(
    kind: &str,
    task: &str,
    disabled: Option<bool>,
    replicated: Option<bool>,
) -> HmcUserValidation {
    HmcUserValidation {
        user_type: kind.to_owned(),
        disabled,
        replication_overwrite_possible: replicated,
        required_task: task.to_owned(),
    }
}

/// Properties of a user, and the expected content of the response.
fn users() -> Vec<(Value, HmcUserValidation)> {
    let flags = |disabled: Value, replicated: Value| json!({"type": "standard", "disabled": disabled, "replication-overwrite-possible": replicated});
    let standard =
        |disabled, replicated| validation("standard", "Manage Users", disabled, replicated);
    vec![
        (
            flags(json!(true), json!(false)),
            standard(Some(true), Some(false)),
        ),
        (
            flags(json!(false), json!(true)),
            standard(Some(false), Some(true)),
        ),
        (flags(json!("true"), json!(1)), standard(None, None)),
        (flags(Value::Null, Value::Null), standard(None, None)),
        (
            json!({"type": "template"}),
            validation("template", "Manage User Templates", None, None),
        ),
        (
            json!({"type": "system-defined"}),
            validation("system-defined", "Manage Users", None, None),
        ),
        (
            json!({"type": "a type of tomorrow"}),
            validation("", "", None, None),
        ),
        (json!({}), validation("", "", None, None)),
    ]
}

#[tokio::test]
async fn response_contains_properties_of_user() {
    let cases = users().into_iter().flat_map(|(properties, expected)| {
        [delete_by_id("id-1"), delete_by_name("alice")]
            .map(|request| (properties.clone(), request, expected.clone()))
    });
    join_all(cases.map(|(properties, request, expected)| async move {
        let case = properties.to_string();
        let mut user =
            json!({"object-uri": "/api/users/id-1", "object-id": "id-1", "name": "alice"});
        user.as_object_mut()
            .unwrap()
            .extend(properties.as_object().unwrap().clone());
        let kind = &properties["type"];
        let entry = json!({"object-uri": "/api/users/id-1", "name": "alice", "type": kind});
        let entry = json!({ "users": [entry] });
        let setup = HmcSetup::start(move |request| match Step::of(request) {
            Step::Read => Reply::json(200, &user.to_string()),
            Step::List => Reply::json(200, &entry.to_string()),
            _ => default_reply(request, 1),
        })
        .await;
        let response = setup.app.delete_hmc_user(validate(request)).await.unwrap();
        assert_eq!(response.outcome(), DeleteOutcome::Validated);
        assert_eq!(response.validation.as_ref(), Some(&expected), "{case}");
        assert_eq!(setup.count(Step::Read), 1, "{case}");
        assert_eq!(setup.count(Step::Delete), 0);
    }))
    .await;
}

/// A list has only the type. The request is valid even if the user cannot be read afterwards.
#[tokio::test]
async fn properties_that_cannot_be_read_are_absent() {
    let reads: [ScriptedReply; 6] = [
        Hmc(404, 2),
        Hmc(403, 1),
        Html(500),
        Reset,
        Json(
            200,
            "another user",
            r#"{"object-id":"id-2","name":"alice"}"#,
        ),
        Json(200, "no object", "[]"),
    ];
    join_all(reads.map(|read| async move {
        let case = read.to_string();
        let setup = HmcSetup::with_replies(vec![(Step::Read, vec![read])]).await;
        let request = validate(delete_by_name("alice"));
        let response = setup.app.delete_hmc_user(request).await.unwrap();
        assert_eq!(response.outcome(), DeleteOutcome::Validated, "{case}");
        let expected = validation("standard", "Manage Users", None, None);
        assert_eq!(response.validation.as_ref(), Some(&expected), "{case}");
        assert_eq!(
            setup.count(Step::Read),
            1,
            "the read is not repeated: {case}"
        );
    }))
    .await;
}

/// The second read finds an obstacle that the list does not show.
#[tokio::test]
async fn second_read_is_checked() {
    let rows = [
        (
            r#"{"name":"alice","type":"pattern-based"}"#,
            FailedPrecondition,
            "PATTERN_BASED_USER",
        ),
        ("", NotFound, "USER_NOT_FOUND"),
    ];
    for (user, code, reason) in rows {
        let setup = HmcSetup::start(move |request| match Step::of(request) {
            Step::List => Reply::json(
                200,
                r#"{"users":[{"object-uri":"/api/users/id-1","name":"alice"}]}"#,
            ),
            Step::Read if user.is_empty() => error_reply(request, 404, 1),
            Step::Read => Reply::json(200, user),
            _ => default_reply(request, 1),
        })
        .await;
        let failure = setup.fail(validate(delete_by_name("alice"))).await;
        failure.expect(code, reason);
        setup.assert_not_sent(&failure);
    }
}

/// A user whose type is not documented, and which cannot be read alone, exists nevertheless.
#[tokio::test]
async fn type_of_list_is_kept_and_may_be_unknown() {
    let rows = [
        (
            r#""standard""#,
            r#"{"name":"ALICE"}"#,
            validation("standard", "Manage Users", None, None),
        ),
        (
            r#""standard""#,
            r#"{"name":"bob","disabled":true}"#,
            validation("standard", "Manage Users", None, None),
        ),
        ("1", "[]", validation("", "", None, None)),
    ];
    for (kind, user, expected) in rows {
        let list = format!(
            r#"{{"users":[{{"object-uri":"/api/users/id-1","name":"alice","type":{kind}}}]}}"#
        );
        let setup = HmcSetup::start(move |request| match Step::of(request) {
            Step::List => Reply::json(200, &list),
            Step::Read => Reply::json(200, user),
            _ => default_reply(request, 1),
        })
        .await;
        let request = validate(delete_by_name("alice"));
        let response = setup.app.delete_hmc_user(request).await.unwrap();
        assert_eq!(response.validation, Some(expected), "{user}");
    }
}

#[tokio::test]
async fn only_validation_of_existing_user_has_properties() {
    let setup = HmcSetup::start(|request| match Step::of(request) {
        Step::List => Reply::json(200, r#"{"users":[]}"#),
        _ => default_reply(request, 1),
    })
    .await;
    let mut request = validate(delete_by_name("alice"));
    request.allow_missing = true;
    let response = setup.app.delete_hmc_user(request).await.unwrap();
    assert_eq!(response.outcome(), DeleteOutcome::Validated);
    assert_eq!(response.validation, None);
    let response = setup
        .app
        .delete_hmc_user(delete_by_id("id-1"))
        .await
        .unwrap();
    assert_eq!(response.outcome(), DeleteOutcome::Deleted);
    assert_eq!(response.validation, None);
}
