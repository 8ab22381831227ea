//! `SharedKey`: the signature, computed here a second time from the vendor's description, and the rotation of keys.

use std::fs;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use tonic::Code;
use useradmin::{
    proto::{DeleteBatchNodeUserRequest, DeleteOutcome},
    sandbox::Sandbox,
};
use useradmin_testkit::{
    App, ReceivedRequest, Upstream, batch_deleted, batch_error, batch_request, batch_response,
};

const FIRST: &[u8] = b"kanari-key, the first one of the account";
const SECOND: &[u8] = b"kanari-key, the second one of the account";

/// Signed header values, in this order; `date` stays empty if `ocp-date` is sent.
const SIGNED: [&str; 11] = [
    "content-encoding",
    "content-language",
    "content-length",
    "content-md5",
    "content-type",
    "date",
    "if-modified-since",
    "if-match",
    "if-none-match",
    "if-unmodified-since",
    "range",
];

/// Returns the expected `Authorization` header of the request.
fn signature(request: &ReceivedRequest, key: &[u8]) -> String {
    let (path, query) = request.target.split_once('?').unwrap();
    let mut text = format!("{}\n", request.method);
    for name in SIGNED {
        text += request.header(name).unwrap_or_default();
        text += "\n";
    }
    let date = request.header("ocp-date").unwrap();
    text += "ocp-date:";
    text += date;
    text += "\n/account1";
    text += path;
    let mut parameters: Vec<_> = url::form_urlencoded::parse(query.as_bytes()).collect();
    parameters.sort();
    for (name, value) in parameters {
        text.extend(["\n", &name, ":", &value]);
    }
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(text.as_bytes());
    format!(
        "SharedKey account1:{}",
        BASE64_STANDARD.encode(mac.finalize().into_bytes())
    )
}

fn section(url: &str, account: &str) -> String {
    format!(
        r#"
[batch_accounts.batch]
url = "{url}"
[batch_accounts.batch.credential]
kind = "shared_key"
account_name = "{account}"
key_file = "batch.key"
"#
    )
}

fn write_key(app: &App, text: &str) {
    fs::write(app.folder.join("batch.key"), text).unwrap();
}

/// Starts an account that accepts this key, and a server with the first key.
async fn start_account(accepted: &'static [u8]) -> (App, Upstream) {
    let upstream = Upstream::start(move |request| {
        if request.header("authorization") != Some(&*signature(request, accepted)) {
            return batch_error(403, "AuthenticationFailed");
        }
        match request.method.as_str() {
            "GET" if request.target.starts_with("/pools/pool-1?") => {
                batch_response(200, r#"{"id":"pool-1"}"#)
            }
            "GET" => batch_response(200, r#"{"id":"node-1","state":"idle"}"#),
            _ => batch_deleted(),
        }
    })
    .await;
    let folder = App::folder();
    fs::write(
        folder.join("batch.key"),
        BASE64_STANDARD.encode(FIRST) + "\r\n",
    )
    .unwrap();
    let app = App::start_in(folder, &section(&upstream.url, "account1")).await;
    (app, upstream)
}

#[tokio::test]
async fn signature_matches_documented_algorithm() {
    let (app, _upstream) = start_account(FIRST).await;
    for name in [
        "alice",
        "a/b",
        "jos\u{e9}",
        "a+b c",
        "%2e%2e",
        "q?x=1&timeout=5#f",
    ] {
        let request = batch_request(name);
        let response = app.delete_batch_node_user(request.clone()).await.unwrap();
        assert_eq!(
            (response.outcome(), response.attempts),
            (DeleteOutcome::Deleted, 1),
            "{name}"
        );
        // Without `timeout` in the query, and with another method.
        let mut long = tonic::Request::new(request.clone());
        long.set_timeout(std::time::Duration::from_mins(1));
        app.client().delete_batch_node_user(long).await.unwrap();
        let validate_only = DeleteBatchNodeUserRequest {
            validate_only: true,
            ..request
        };
        let response = app.delete_batch_node_user(validate_only).await.unwrap();
        assert_eq!(response.outcome(), DeleteOutcome::Validated, "{name}");
        // The request for the pool has a parameter with characters that the signature decodes.
        let defined_by_pool = response.validation.unwrap().defined_by_pool;
        assert_eq!(defined_by_pool, Some(false), "{name}");
    }
}

#[tokio::test]
async fn sandbox_accepts_signature() {
    let sandbox = Sandbox::start().await.unwrap();
    let folder = App::folder();
    fs::write(folder.join("batch.key"), &sandbox.credentials().batch_key).unwrap();
    let account = &sandbox.credentials().batch_account_name;
    let app = App::start_in(folder, &section(sandbox.batch_url(), account)).await;
    for name in ["alice", "jos\u{e9}", "user name/with ?#%"] {
        let request = DeleteBatchNodeUserRequest {
            node_id: "node-idle".to_owned(),
            ..batch_request(name)
        };
        let response = app.delete_batch_node_user(request).await.unwrap();
        assert_eq!(
            (response.outcome(), response.attempts),
            (DeleteOutcome::Deleted, 1),
            "{name}"
        );
    }
    assert_eq!(sandbox.traffic().token_requests, 0);
}

#[tokio::test]
async fn changed_key_file_is_reloaded() {
    let (app, upstream) = start_account(SECOND).await;
    write_key(&app, &BASE64_STANDARD.encode(FIRST));
    // Azure Batch refuses the key, and the file contains no other one.
    let failure = app
        .delete_batch_node_user(batch_request("alice"))
        .await
        .unwrap_err();
    failure.expect(Code::Internal, "UPSTREAM_CREDENTIALS_REJECTED");
    assert_eq!(
        (
            failure.metadata_value("attempts"),
            failure.metadata_value("outcome")
        ),
        ("1", "not_deleted")
    );

    write_key(&app, &BASE64_STANDARD.encode(SECOND));
    let response = app
        .delete_batch_node_user(batch_request("alice"))
        .await
        .unwrap();
    assert_eq!(
        (response.outcome(), response.attempts),
        (DeleteOutcome::Deleted, 2)
    );
    let response = app
        .delete_batch_node_user(batch_request("bob"))
        .await
        .unwrap();
    assert_eq!(response.attempts, 1);
    assert_eq!(upstream.requests("DELETE", "").len(), 4);
}

#[tokio::test]
async fn refused_changed_key_is_not_retried() {
    let (app, upstream) = start_account(SECOND).await;
    app.delete_batch_node_user(batch_request("alice"))
        .await
        .unwrap_err();
    write_key(&app, &BASE64_STANDARD.encode("a third key"));
    let failure = app
        .delete_batch_node_user(batch_request("alice"))
        .await
        .unwrap_err();
    failure.expect(Code::Internal, "UPSTREAM_CREDENTIALS_REJECTED");
    assert_eq!(failure.metadata_value("attempts"), "2");
    assert_eq!(upstream.requests("DELETE", "").len(), 3);
}

#[tokio::test]
async fn invalid_key_file_is_reread_until_valid() {
    let (app, upstream) = start_account(SECOND).await;
    for invalid in ["not base64!", ""] {
        write_key(&app, invalid);
        for _ in 0..2 {
            let failure = app
                .delete_batch_node_user(batch_request("alice"))
                .await
                .unwrap_err();
            failure.expect(Code::Internal, "UPSTREAM_CREDENTIALS_REJECTED");
        }
    }
    write_key(&app, &BASE64_STANDARD.encode(SECOND));
    let response = app
        .delete_batch_node_user(batch_request("alice"))
        .await
        .unwrap();
    assert_eq!(response.outcome(), DeleteOutcome::Deleted);
    // Without a usable key, no retry was started.
    assert!(upstream.requests("DELETE", "").len() <= 6);
}
