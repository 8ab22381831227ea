//! The request to the token endpoint, and the requests to the account.

use std::fs;

use serde_json::{Value, json};
use tonic::Code;
use useradmin::proto::{DeleteBatchNodeUserRequest, DeleteOutcome};
use useradmin_testkit::{
    Reply, batch_deleted, batch_document, batch_request, batch_response, canary,
    canary::CLIENT_SECRET, http_get, verify,
};

use super::{ENDPOINT, Exchange, Form, issue, issued, start, start_with};

fn fields(list: &[(&str, &str)]) -> Form {
    let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    list.iter().map(owned).collect()
}

#[tokio::test]
async fn token_of_caller_is_exchanged_with_client_secret() {
    let server = start(issue, |_| batch_deleted()).await;
    let token = server.user_token("alice");
    let response = server.delete(&token).await.unwrap();
    assert_eq!(
        (response.outcome(), response.attempts),
        (DeleteOutcome::Deleted, 1)
    );
    let expected = [
        ("assertion", &*token),
        ("client_id", "client-1"),
        ("client_secret", CLIENT_SECRET),
        ("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"),
        ("requested_token_use", "on_behalf_of"),
        ("scope", "https://batch.core.windows.net//.default"),
    ];
    assert_eq!(server.exchanges(), [fields(&expected)]);
    let expected = format!("Bearer {}", issued("alice", 1));
    assert_eq!(server.authorizations(), [expected]);
}

#[tokio::test]
async fn federated_token_is_read_for_each_exchange() {
    let change = |account: String| {
        let account = account.replace(
            "secret_file = \"client.secret\"",
            "token_file = \"federated.jwt\"",
        );
        account + "scope = \"https://batch.core.windows.net//user_impersonation\"\n"
    };
    let server = start_with(issue, |_| batch_deleted(), change).await;
    let mut expected = Vec::new();
    for (subject, federated) in [
        ("alice", "kanari-assertion-1"),
        ("bob", "kanari-assertion-2"),
    ] {
        let file = server.app.folder.join("federated.jwt");
        fs::write(file, format!("\u{feff}{federated}\r\n")).unwrap();
        let token = server.user_token(subject);
        server.delete(&token).await.unwrap();
        let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
        expected.push(fields(&[
            ("assertion", &*token),
            ("client_assertion", federated),
            ("client_assertion_type", kind),
            ("client_id", "client-1"),
            ("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"),
            ("requested_token_use", "on_behalf_of"),
            (
                "scope",
                "https://batch.core.windows.net//user_impersonation",
            ),
        ]));
    }
    assert_eq!(server.exchanges(), expected);
    fs::remove_file(server.app.folder.join("federated.jwt")).unwrap();
    let failure = server.delete(&server.user_token("carol")).await;
    let failure = failure.unwrap_err();
    failure.expect(Code::Internal, "UPSTREAM_CREDENTIALS_REJECTED");
    assert_eq!(failure.metadata_value("cause"), "credential_unusable");
    assert_eq!(server.exchanges().len(), 2);
}

/// The reads of `validate_only` are made under the same identity.
#[tokio::test]
async fn validation_is_made_under_identity_of_caller() {
    let node = |_: &_| batch_response(200, r#"{"state":"idle"}"#);
    let server = start(issue, node).await;
    let request = DeleteBatchNodeUserRequest {
        validate_only: true,
        ..batch_request("jdoe")
    };
    let client = server.client(None).with_token(&server.user_token("alice"));
    let response = client.delete_batch_node_user(request).await.unwrap();
    assert_eq!(response.outcome(), DeleteOutcome::Validated);
    let reads = server.upstream.requests("GET", "/pools/").len();
    assert!(reads > 0);
    let expected = format!("Bearer {}", issued("alice", 1));
    assert_eq!(server.authorizations(), vec![expected; reads]);
}

/// The account repeats everything that it received in its error, and the token endpoint does the same.
#[tokio::test]
async fn tokens_do_not_leak() {
    let refuse_bob = |exchange: &Exchange| {
        if exchange.subject() == "alice" {
            return issue(exchange);
        }
        let echo = format!("AADSTS1: {}{:?}", exchange.claims, exchange.form);
        let claims = json!({ "x": exchange.form["client_secret"] }).to_string();
        let echo = json!({ "error": "invalid_grant", "error_description": echo, "claims": claims });
        Reply::json(400, &echo.to_string())
    };
    let server = start(refuse_bob, |request| {
        let echo = format!("{request:?}");
        let document = batch_document("NodeNotFound", &echo, &[("echo", &echo)]);
        batch_response(404, &document)
    })
    .await;
    let tokens = [server.user_token("alice"), server.user_token("bob")];
    for token in &tokens {
        // Failures are checked for canaries when they are decoded.
        server.delete(token).await.unwrap_err();
    }
    let admin = server.app.admin.unwrap();
    canary::check("the metrics", &http_get(admin, "/metrics").await);
    for request in server.upstream.received() {
        let mut request = request;
        if request.target == ENDPOINT {
            request.body.clear();
        }
        let text = format!("{request:?}");
        assert!(!tokens.iter().any(|token| text.contains(token)), "{text}");
    }
}

#[tokio::test]
async fn records_state_whose_identity_is_used() {
    let records = super::audit_records().await;
    let events: Vec<_> = records.iter().map(|record| &record["event"]).collect();
    assert_eq!(events, ["intent", "outcome"]);
    for record in &records {
        assert_eq!(record["upstream_identity"], "caller");
        assert_eq!(record["caller"], "https://login.corp.example#alice");
        assert_eq!(record["auth"], "token");
    }
}

/// Another account of the same server is called under the identity of the service, and its records do not change.
#[tokio::test]
async fn other_accounts_keep_identity_of_service() {
    let other = |account: String| {
        let url = account.split('"').nth(1).unwrap().to_owned();
        let keys = "kind = \"shared_key\"\naccount_name = \"a\"\nkey_file = \"batch.key\"";
        format!(
            "{account}[batch_accounts.other]\nurl = \"{url}\"\n[batch_accounts.other.credential]\n{keys}\n"
        )
    };
    let mut server = start_with(issue, |_| batch_deleted(), other).await;
    let request = |account: &str| DeleteBatchNodeUserRequest {
        account: account.to_owned(),
        ..batch_request("jdoe")
    };
    for (account, scheme) in [
        ("other", "SharedKey a:"),
        ("batch", "Bearer kanari-token-of"),
    ] {
        let client = server.client(None).with_token(&server.user_token("alice"));
        let response = client.delete_batch_node_user(request(account)).await;
        response.unwrap();
        let sent = server.authorizations().pop().unwrap();
        assert!(sent.starts_with(scheme), "{account}");
    }
    server.app.drain().await;
    let records = server.app.audit();
    let identities: Vec<_> = records
        .iter()
        .map(|record| record.get("upstream_identity"))
        .collect();
    let caller = Value::from("caller");
    assert_eq!(identities, [None, None, Some(&caller), Some(&caller)]);
    let (code, _, errors) = verify([server.app.folder.join("audit.jsonl")]);
    assert_eq!((code, errors.as_str()), (0, ""));
}
