//! The user is read before it is deleted, by object ID or by name. Only the user that was asked for is deleted, never
//! the service's own user and never a protected one.

mod by_name;
mod protected_users;
mod user_lists;
mod validation;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tonic::Code::{self, Internal, NotFound, PermissionDenied, Unavailable};
use useradmin::proto::DeleteOutcome;
use useradmin_testkit::{
    HmcSetup, Reply,
    ScriptedReply::{self, Empty, Hmc, Html, Json},
    Step, default_reply, delete_by_id,
};

/// Starts an HMC that answers every look-up, by ID or by name, with this document.
async fn setup_with_document(document: Value, keys: &str) -> HmcSetup {
    HmcSetup::with(keys, move |request| match Step::of(request) {
        Step::Read | Step::List => Reply::json(200, &document.to_string()),
        _ => default_reply(request, 1),
    })
    .await
}

/// Returns a list of users, each given as object ID and name.
fn user_list(users: &[(&str, &str)]) -> Value {
    let entry = |(id, name): &(&str, &str)| {
        let uri = format!("/api/users/{id}");
        json!({"object-uri": uri, "name": name, "type": "standard"})
    };
    json!({ "users": users.iter().map(entry).collect::<Vec<_>>() })
}

#[tokio::test]
async fn user_given_by_id_is_read_and_reported_with_its_name() {
    let id = "E9e8d20a-4a7a.11e4_91ee";
    let user = json!({"object-id": id.to_lowercase(), "name": "Jörg Ö", "type": "standard"});
    let setup = setup_with_document(user, "").await;
    let response = setup.app.delete_hmc_user(delete_by_id(id)).await.unwrap();
    assert_eq!(
        (response.outcome(), response.attempts),
        (DeleteOutcome::Deleted, 1)
    );
    assert_eq!(
        (response.user_id.as_str(), response.user_name.as_str()),
        (id, "Jörg Ö")
    );
    let requests = setup.upstream.received().into_iter();
    let steps: Vec<_> = requests
        .map(|request| (Step::of(&request), request.target))
        .collect();
    let target = format!("/api/users/{id}");
    let expected = [
        (Step::Logon, "/api/sessions".to_owned()),
        (Step::Read, target.clone()),
        (Step::Delete, target),
    ];
    assert_eq!(steps, expected);
}

#[tokio::test]
async fn failure_after_read_contains_user_name() {
    let setup = HmcSetup::with_replies(vec![(Step::Delete, vec![Hmc(403, 1)])]).await;
    let failure = setup.fail(delete_by_id("id-1")).await;
    assert_eq!(
        (
            failure.metadata_value("user_id"),
            failure.metadata_value("user_name")
        ),
        ("id-1", "alice")
    );
    let outcome = setup.app.audit().pop().unwrap();
    assert_eq!(
        (&outcome["user"], &outcome["outcome"]),
        (&json!("alice"), &json!("not_deleted"))
    );
}

/// Look-ups whose responses do not contain the name.
#[rustfmt::skip]
fn unreadable_responses() -> Vec<(ScriptedReply, Code, &'static str)> {
    let protocol_error = |reply| (reply, Unavailable, "UPSTREAM_PROTOCOL_ERROR");
    vec![
        protocol_error(Json(200, "no name", r#"{"object-id":"id-1","type":"standard"}"#)),
        protocol_error(Json(200, "empty name", r#"{"object-id":"id-1","name":""}"#)),
        protocol_error(Json(200, "name as number", r#"{"object-id":"id-1","name":7}"#)),
        protocol_error(Json(200, "name as null", r#"{"object-id":"id-1","name":null}"#)),
        protocol_error(Json(200, "another user", r#"{"object-id":"id-2","name":"alice"}"#)),
        protocol_error(Json(200, "array", r#"[{"object-id":"id-1","name":"alice"}]"#)),
        protocol_error(Json(200, "text", r#""alice""#)),
        protocol_error(Json(200, "cut", r#"{"object-id":"id-1","name":"alice""#)),
        protocol_error(Json(200, "list", r#"{"users":[{"object-uri":"/api/users/id-1","name":"alice"}]}"#)),
        protocol_error(Html(200)),
        protocol_error(Empty(200)),
        protocol_error(Empty(204)),
        protocol_error(Json(202, "job", r#"{"object-id":"id-1","name":"alice"}"#)),
        protocol_error(Empty(302)),
        protocol_error(Html(404)),
        protocol_error(Empty(404)),
        (Hmc(404, 2), NotFound, "UPSTREAM_RESOURCE_NOT_FOUND"),
        (Hmc(403, 1), PermissionDenied, "UPSTREAM_PERMISSION_DENIED"),
        (Hmc(401, 0), Internal, "UPSTREAM_CREDENTIALS_REJECTED"),
        (Hmc(400, 1), Internal, "UPSTREAM_REJECTED_REQUEST"),
        (Html(501), Internal, "UPSTREAM_REJECTED_REQUEST"),
    ]
}

/// If the name cannot be read, nothing is deleted.
#[tokio::test]
async fn unreadable_user_is_not_deleted() {
    join_all(
        unreadable_responses()
            .into_iter()
            .map(|(reply, code, reason)| async move {
                let case = reply.to_string();
                let setup = HmcSetup::with_replies(vec![(Step::Read, vec![reply])]).await;
                let mut request = delete_by_id("id-1");
                request.allow_missing = true;
                let response = setup.app.delete_hmc_user(request).await;
                let failure = response.expect_err(&case);
                failure.expect(code, reason);
                setup.assert_not_sent(&failure);
                assert!(failure.retry_delay.is_none(), "{case}: {failure:?}");
                let renewals = usize::from(reason == "UPSTREAM_CREDENTIALS_REJECTED");
                assert_eq!(setup.count(Step::Read), 1 + renewals, "{case}");
            }),
    )
    .await;
}

/// With and without `allow_missing`: only the error 404/1 of the HMC means that the user does not exist.
#[tokio::test]
async fn absent_user_given_by_id_is_detected_by_read() {
    let setup = HmcSetup::with_replies(vec![(Step::Read, vec![Hmc(404, 1)])]).await;
    let failure = setup.fail(delete_by_id("id-1")).await;
    failure.expect(NotFound, "USER_NOT_FOUND");
    setup.assert_not_sent(&failure);
    assert_eq!(failure.hmc.as_ref().unwrap().reason, 1);
    assert_eq!(
        failure.resource,
        Some(("useradmin/HmcUser".into(), "hmcs/hmc/users/id-1".into()))
    );

    let mut request = delete_by_id("id-1");
    request.allow_missing = true;
    let response = setup.app.delete_hmc_user(request).await.unwrap();
    assert_eq!(
        (response.outcome(), response.attempts),
        (DeleteOutcome::AlreadyAbsent, 0)
    );
    assert_eq!(
        (response.user_id.as_str(), response.user_name.as_str()),
        ("id-1", "")
    );
    assert_eq!(setup.count(Step::Delete), 0);
}
