//! The requests to the token endpoint, and the files that contain their credentials.

use std::{collections::BTreeMap, fs};

use useradmin_testkit::{
    ReceivedRequest, batch_deleted, batch_error, batch_request, canary::CLIENT_SECRET,
};

use super::{start_account, start_account_with, token, token_requests};

#[tokio::test]
async fn secret_file_is_read_for_each_token() {
    let (app, upstream) = start_account(token, |_| batch_error(401, "AuthenticationFailed")).await;
    let file = app.folder.join("client.secret");
    // A changed file, as with a mounted secret, and unusual characters.
    for secret in ["8Q~+&=%20 x", "\u{e9}\u{1F4A9}"] {
        fs::write(&file, format!("{secret}\r\n")).unwrap();
        app.delete_batch_node_user(batch_request("alice"))
            .await
            .unwrap_err();
        assert_eq!(
            token_requests(&upstream).pop().unwrap()["client_secret"],
            secret
        );
    }
    // While the file is unreadable, the last valid secret is used.
    fs::remove_file(&file).unwrap();
    app.delete_batch_node_user(batch_request("alice"))
        .await
        .unwrap_err();
    let secret = &token_requests(&upstream).pop().unwrap()["client_secret"];
    assert_eq!(secret, "\u{e9}\u{1F4A9}");
}

fn pairs(list: &[(&str, &str)]) -> BTreeMap<String, String> {
    let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    list.iter().map(owned).collect()
}

#[tokio::test]
async fn client_secret_is_sent_as_form() {
    let rows = [
        ("", "https://batch.core.windows.net//.default"),
        (
            "scope = \"https://batch.core.usgovcloudapi.net//.default\"",
            "https://batch.core.usgovcloudapi.net//.default",
        ),
    ];
    for (more, scope) in rows {
        let change = |section: String| format!("{section}{more}\n");
        let (app, upstream) = start_account_with(token, |_| batch_deleted(), &change).await;
        app.delete_batch_node_user(batch_request("alice"))
            .await
            .unwrap();
        let expected = [
            ("client_id", "client-1"),
            ("client_secret", CLIENT_SECRET),
            ("grant_type", "client_credentials"),
            ("scope", scope),
        ];
        assert_eq!(token_requests(&upstream), [pairs(&expected)]);
    }
}

#[tokio::test]
async fn workload_identity_sends_federated_token() {
    let change = |section: String| {
        let section = section.replace("\"client_secret\"", "\"workload_identity\"");
        section.replace(
            "secret_file = \"client.secret\"",
            "token_file = \"federated.jwt\"",
        )
    };
    let refuse = |request: &ReceivedRequest| match request.header("authorization") {
        Some("Bearer kanari-token-1") => batch_error(401, "AuthenticationFailed"),
        _ => batch_deleted(),
    };
    let (app, upstream) = start_account_with(token, refuse, &change).await;
    // Projected tokens expire after an hour; the file contains a new one by then.
    app.delete_batch_node_user(batch_request("alice"))
        .await
        .unwrap();
    let expected = [
        ("client_assertion", "kanari-assertion-1"),
        (
            "client_assertion_type",
            "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        ),
        ("client_id", "client-1"),
        ("grant_type", "client_credentials"),
        ("scope", "https://batch.core.windows.net//.default"),
    ];
    assert_eq!(
        token_requests(&upstream),
        [pairs(&expected), pairs(&expected)]
    );
}
