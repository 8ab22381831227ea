//! Malformed lists of users: the service deletes no user because of one.

use futures_util::future::join_all;
use tonic::Code::{self, Internal, NotFound, PermissionDenied, Unavailable};
use useradmin_testkit::{
    HmcSetup, Reply,
    ScriptedReply::{self, Custom, Empty, Hmc, Html, Json},
    Step, delete_by_name,
};

async fn assert_not_deleted(replies: Vec<ScriptedReply>, code: Code, reason: &'static str) {
    join_all(replies.into_iter().map(|reply| async move {
        let case = reply.to_string();
        let setup = HmcSetup::with_replies(vec![(Step::List, vec![reply])]).await;
        let mut request = delete_by_name("alice");
        request.allow_missing = true;
        let response = setup.app.delete_hmc_user(request).await;
        let failure = response.expect_err(&case);
        failure.expect(code, reason);
        setup.assert_not_sent(&failure);
        assert_eq!(setup.count(Step::List), 1, "{case}");
    }))
    .await;
}

#[tokio::test]
async fn invalid_user_list_is_protocol_error() {
    let replies = vec![
        Html(200),
        Empty(200),
        Empty(204),
        Empty(301),
        Json(200, "cut", r#"{"users":["#),
        Json(
            200,
            "array",
            r#"[{"object-uri":"/api/users/id-1","name":"alice"}]"#,
        ),
        Json(200, "no users", "{}"),
        Json(200, "users as null", r#"{"users":null}"#),
        Json(
            200,
            "users as object",
            r#"{"users":{"object-uri":"/api/users/id-1","name":"alice"}}"#,
        ),
        Json(
            200,
            "no name",
            r#"{"users":[{"object-uri":"/api/users/id-1"}]}"#,
        ),
        Json(
            200,
            "name as number",
            r#"{"users":[{"object-uri":"/api/users/id-1","name":7}]}"#,
        ),
        Json(200, "no URI", r#"{"users":[{"name":"alice"}]}"#),
        Json(
            200,
            "URI as null",
            r#"{"users":[{"object-uri":null,"name":"alice"}]}"#,
        ),
        Json(200, "entry as text", r#"{"users":["alice"]}"#),
        Json(200, "entry as null", r#"{"users":[null]}"#),
        Json(206, "part", r#"{"users":[]}"#),
        Custom(200, "huge", |_| {
            let one = r#"{"object-uri":"/api/users/id-1","name":"alice"}"#;
            Reply::json(
                200,
                &format!(r#"{{"users":[{one}],"more":"{}"}}"#, "x".repeat(70_000)),
            )
        }),
    ];
    assert_not_deleted(replies, Unavailable, "UPSTREAM_PROTOCOL_ERROR").await;
}

/// The object ID must be one plain path segment, and the object a user.
#[tokio::test]
async fn object_uri_must_name_a_user() {
    let uris = [
        "/api/user-roles/id-1",
        "/api/users/",
        "/api/users/.",
        "/api/users/..",
        "/api/users/../cpcs/id-1",
        "/api/users/id-1/",
        "/api/users/id-1/x",
        "/api/users//id-1",
        "/api/users/id-1?force=true",
        "/api/users/id-1#x",
        "/api/users/a%2Fb",
        "/api/users/%2e%2e",
        "/api/users/a b",
        "/api/users/ä",
        "/API/users/id-1",
        "api/users/id-1",
        "https://elsewhere.example/api/users/id-1",
        "//elsewhere.example/api/users/id-1",
        "/api/sessions/this-session",
        "id-1",
        "",
    ];
    let too_long = format!("/api/users/{}", "a".repeat(65));
    let uris = uris.iter().copied().chain([too_long.as_str()]);
    let consoles = uris.map(|uri| {
        let entry = serde_json::json!({"object-uri": uri, "name": "alice", "type": "standard"});
        let list = serde_json::json!({ "users": [entry] });
        async move {
            let setup = super::setup_with_document(list, "").await;
            let failure = setup.fail(delete_by_name("alice")).await;
            failure.expect(Unavailable, "UPSTREAM_PROTOCOL_ERROR");
            setup.assert_not_sent(&failure);
            assert_eq!(setup.count(Step::Other), 0, "{uri}");
        }
    });
    join_all(consoles).await;
}

/// A failed request for the list is not evidence about the user: even a 404 for the list does not mean that the user
/// does not exist.
#[tokio::test]
async fn refused_lookup_does_not_mean_absent() {
    assert_not_deleted(
        vec![Html(404), Empty(404)],
        Unavailable,
        "UPSTREAM_PROTOCOL_ERROR",
    )
    .await;
    assert_not_deleted(
        vec![Hmc(404, 1), Hmc(404, 2)],
        NotFound,
        "UPSTREAM_RESOURCE_NOT_FOUND",
    )
    .await;
    assert_not_deleted(
        vec![Hmc(403, 1)],
        PermissionDenied,
        "UPSTREAM_PERMISSION_DENIED",
    )
    .await;
    assert_not_deleted(
        vec![Hmc(400, 1), Hmc(400, 14)],
        Internal,
        "UPSTREAM_REJECTED_REQUEST",
    )
    .await;
}
