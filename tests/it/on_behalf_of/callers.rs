//! Callers without the token of a user: they are refused after the policy and before anything is recorded or sent.

use serde_json::{Value, json};
use tonic::Code;
use useradmin::proto::DeleteBatchNodeUserRequest;
use useradmin_testkit::{SecureClient, batch_deleted, batch_request, default_claims};

use super::{issue, start, user_claims};
use crate::callers::{ISSUER, SecureServer, uri};

const CERTIFICATE: &str = "spiffe://corp/offboarding";

fn with_certificate(server: &SecureServer) -> SecureClient {
    server.with_names(vec![uri(CERTIFICATE)])
}

/// Returns the token of the application `daemon`, with these claims and without scopes.
fn app_token(server: &SecureServer, claims: &Value) -> String {
    let mut all = default_claims(ISSUER, "daemon");
    for (name, value) in claims.as_object().unwrap() {
        all[name] = value.clone();
    }
    server.signer.token(&all)
}

#[tokio::test]
async fn callers_without_token_of_user_are_refused() {
    let mut server = start(issue, |_| batch_deleted()).await;
    let app = |claims: Value| server.client(None).with_token(&app_token(&server, &claims));
    let rows = [
        (with_certificate(&server), "user_token_required"),
        (server.client(None), "nothing_shown"),
        (app(json!({ "idtyp": "app" })), "app_only_token"),
        (
            app(json!({ "idtyp": "app", "scp": "access_as_user" })),
            "app_only_token",
        ),
        (app(json!({ "roles": ["Users.Delete"] })), "app_only_token"),
        (app(json!({ "oid": "daemon" })), "app_only_token"),
    ];
    for (client, cause) in &rows {
        let failure = client.delete_batch_node_user(batch_request("jdoe")).await;
        let failure = failure.unwrap_err();
        failure.expect(Code::Unauthenticated, "CALLER_UNAUTHENTICATED");
        assert_eq!(failure.metadata_value("cause"), *cause);
        assert_eq!(failure.metadata_value("outcome"), "not_sent");
        assert_eq!(failure.retry_delay, None);
    }
    assert!(server.upstream.received().is_empty());
    let counted = server
        .app
        .metrics("useradmin_unidentified_calls_total{cause=\"app_only_token\"} 4")
        .await;
    assert_eq!(counted.len(), 1);
    server.app.drain().await;
    let records = server.app.audit();
    assert_eq!(records.len(), rows.len());
    for (record, (_, cause)) in records.iter().zip(&rows) {
        assert_eq!(record["event"], "outcome");
        assert_eq!(record["outcome"], "denied");
        assert_eq!(record["cause"], *cause);
        assert_eq!(record.get("upstream_identity"), None);
    }
    assert_eq!(records[0]["caller"], CERTIFICATE);
}

/// Microsoft Entra judges all tokens that are not clearly those of an application.
#[tokio::test]
async fn other_tokens_are_exchanged() {
    let scopes_and_roles = json!({ "scp": "access_as_user", "roles": ["Users.Delete"] });
    for claims in [json!({}), json!({ "oid": "other" }), scopes_and_roles] {
        let server = start(issue, |_| batch_deleted()).await;
        let token = app_token(&server, &claims);
        server.delete(&token).await.unwrap();
        assert_eq!(server.exchanges().len(), 1, "{claims}");
    }
    let server = start(issue, |_| batch_deleted()).await;
    // The token decides if there is a certificate, too.
    let client = with_certificate(&server).with_token(&server.user_token("alice"));
    let response = client.delete_batch_node_user(batch_request("jdoe")).await;
    response.unwrap();
    let client = with_certificate(&server).with_token(&app_token(&server, &json!({ "roles": [] })));
    let failure = client.delete_batch_node_user(batch_request("jdoe")).await;
    assert_eq!(
        failure.unwrap_err().metadata_value("cause"),
        "app_only_token"
    );
    assert_eq!(server.exchanges().len(), 1);
}

/// A caller without permission learns nothing about the account.
#[tokio::test]
async fn policy_is_checked_before_token() {
    let server = start(issue, |_| batch_deleted()).await;
    let request = |account: &str, user: &str| DeleteBatchNodeUserRequest {
        account: account.to_owned(),
        ..batch_request(user)
    };
    let stranger = server.with_names(vec![uri("spiffe://corp/intern")]);
    let stranger_with_token = server
        .client(None)
        .with_token(&server.signer.token(&user_claims("mallory")));
    let allowed = with_certificate(&server);
    let denied = (Code::PermissionDenied, "CALLER_NOT_AUTHORIZED");
    let refused = (Code::Unauthenticated, "CALLER_UNAUTHENTICATED");
    #[rustfmt::skip]
    let rows = [
        (&stranger, request("batch", "jdoe"), denied),
        (&stranger, request("other", "jdoe"), denied),
        (&stranger_with_token, request("batch", "jdoe"), denied),
        (&allowed, request("other", "jdoe"), (Code::NotFound, "UNKNOWN_TARGET")),
        (&allowed, request("batch", "."), (Code::InvalidArgument, "INVALID_REQUEST")),
        (&allowed, request("batch", "root"), refused),
        (&allowed, request("batch", "jdoe"), refused),
    ];
    for (client, request, (code, reason)) in rows {
        let failure = client.delete_batch_node_user(request).await.unwrap_err();
        failure.expect(code, reason);
    }
    let token = server.user_token("alice");
    let failure = server.delete_user(&token, "root").await.unwrap_err();
    failure.expect(Code::FailedPrecondition, "PROTECTED_USER");
    assert!(server.upstream.received().is_empty());
}
