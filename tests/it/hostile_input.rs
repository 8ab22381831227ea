//! Hostile values in every string field: each is refused before a request is sent, or is sent unchanged.

use std::sync::Arc;

use percent_encoding::percent_decode_str;
use tonic::Code;
use useradmin::proto::{
    DeleteBatchNodeUserRequest, DeleteHmcUserRequest, delete_hmc_user_request::User,
};
use useradmin_testkit::{
    App, CallFailure, Reply, Upstream, batch_deleted, batch_request, batch_section, delete_by_name,
    hmc_reply_or, hmc_section, token_reply_or,
};

/// Texts that have caused vulnerabilities or failures in other software.
const TEXTS: &[&str] = &[
    "",
    ".",
    "..",
    "...",
    "./",
    "../",
    "..\\",
    "%2e",
    "%2e%2e",
    ".%2e",
    "%252e%252e",
    "a/../b",
    "a/..",
    "../../users/root",
    "..;/x",
    "a%2fb",
    "a%5cb",
    "//evil.example",
    "http://evil.example/",
    "@evil.example",
    "a?api-version=1",
    "a#x",
    "a&timeout=0",
    "a%00b",
    "%",
    "%zz",
    "%F0%9F",
    "a%0d%0aX-Evil: 1",
    "\r\nX-Evil: 1",
    "${jndi:ldap://evil}",
    "{{7*7}}",
    "' OR 1=1 --",
    "<script>",
    "$(reboot)",
    "`reboot`",
    "| reboot",
    "\u{0}",
    "Robert'); DROP TABLE users;--",
    "admin\u{0}",
    "ad\u{AD}min",
    "ＡＤＭＩＮ",
    "K",
    "ſ",
    "İ",
    "ß",
    "e\u{301}",
    "\u{1F468}\u{200D}\u{1F469}",
    "CON",
    "~",
    "*",
    ".*",
    "\\Q.*\\E",
    "(a|b)",
    "[a-z]+",
    "^a$",
    "a{1,9}",
    "NULL",
    "undefined",
    "true",
    "0",
    "-1",
    "1e308",
    "{9C4D50EE-2D56-4CD3-8152-34347DC9F2B0}",
    "9C4D50EE2D564CD3815234347DC9F2B0",
    "9C4D50EE-2D56-4CD3-8152-34347DC9F2B",
    "GGGGGGGG-2D56-4CD3-8152-34347DC9F2B0",
    "9C4D50EE-2D56-4CD3-8152-34347DC9F2B0\n",
    " 9C4D50EE-2D56-4CD3-8152-34347DC9F2B0",
    "9c4d50ee-2d56-4cd3-8152-34347dc9f2b0",
    "azure_batch",
    "sandbox.",
    "ACSADMIN",
];

/// Blanks, separators, bidirectional controls and other invisible characters, and the ends of some ranges.
const ODD: [u32; 18] = [
    0x061C, 0x1680, 0x2000, 0x200B, 0x200E, 0x200F, 0x2028, 0x2029, 0x202A, 0x202E, 0x2066, 0x2069,
    0x3000, 0xFEFF, 0xFFFD, 0xFFFF, 0x1F4A9, 0x10_FFFF,
];

/// Returns more than 300 values.
fn hostile_values() -> Vec<String> {
    let mut values: Vec<String> = TEXTS.iter().map(|text| (*text).to_owned()).collect();
    let unusual_characters = (0..=0x20).chain(0x7F..=0xA0).chain(ODD);
    for c in unusual_characters.filter_map(char::from_u32) {
        values.extend([format!("{c}"), format!("a{c}b"), format!("a{c}")]);
    }
    for c in r#"!"$&'()*+,/:;<=>?@[\]^`{|}~#%"#.chars() {
        values.extend([format!("{c}"), format!("a{c}b")]);
    }
    for length in [63, 64, 65, 127, 128, 129, 255, 256, 257, 1_000, 60_000] {
        values.extend(["a", "%", "é", "💩"].map(|c| c.repeat(length / c.len())));
        values.push(format!("{}é", "a".repeat(length - 1)));
    }
    values
}

type FieldSetter = fn(&mut DeleteBatchNodeUserRequest, String);

/// Asserts that the call was refused before a request was sent, because of this field or because the target is unknown.
fn assert_refused(field: &str, value: &str, failure: &CallFailure) {
    let refusal = failure.code == Code::InvalidArgument
        && failure.bad_request.iter().any(|(f, _)| f == field);
    let unknown = failure.code == Code::NotFound && failure.reason == "ERROR_REASON_UNKNOWN_TARGET";
    assert!(refusal || unknown, "{field} {value:?}: {failure:?}");
    assert_eq!(failure.metadata_value("outcome"), "not_sent");
    assert!(failure.size <= 3_072);
}

#[tokio::test]
async fn hostile_values_do_not_alter_batch_requests() {
    assert!(hostile_values().len() > 300, "{}", hostile_values().len());
    let upstream = Upstream::start(|received| token_reply_or(received, batch_deleted)).await;
    let folder = App::folder();
    let section = batch_section(&folder, &upstream.url);
    let app = App::start_in(folder, &section).await;
    let fields: [(&str, FieldSetter); 5] = [
        ("account", |r, v| r.account = v),
        ("pool_id", |r, v| r.pool_id = v),
        ("node_id", |r, v| r.node_id = v),
        ("user_name", |r, v| r.user_name = v),
        ("client_request_id", |r, v| r.client_request_id = v),
    ];
    for (field, set) in fields {
        for value in hostile_values() {
            let start = upstream.requests("DELETE", "").len();
            let mut request = batch_request("alice");
            set(&mut request, value.clone());
            let result = app.delete_batch_node_user(request.clone()).await;
            let sent = upstream.requests("DELETE", "").split_off(start);
            if let Err(failure) = result {
                assert_refused(field, &value, &failure);
                assert!(sent.is_empty(), "{field} {value:?}");
                continue;
            }
            let target = sent[0].target.split('?').next().unwrap();
            let decoded = |s| percent_decode_str(s).decode_utf8().unwrap().into_owned();
            let found: Vec<String> = target.split('/').skip(1).map(decoded).collect();
            let node = ["pools", &request.pool_id, "nodes", &request.node_id];
            assert_eq!(found[..4], node, "{field} {value:?}");
            assert_eq!(
                found[4..],
                ["users", &request.user_name],
                "{field} {value:?}"
            );
            assert_eq!(sent.len(), 1);
        }
    }
}

#[tokio::test]
async fn hostile_values_do_not_alter_hmc_requests() {
    let users = r#"{"users":[]}"#;
    let upstream = Upstream::start(move |seen| match seen.method.as_str() {
        "GET" if seen.target.starts_with("/api/console/users?") => Reply::json(200, users),
        "GET" => Reply::json(200, r#"{"name":"somebody"}"#),
        _ => hmc_reply_or(seen, || Reply::empty(204)),
    })
    .await;
    let folder = App::folder();
    let section = hmc_section(&folder, &upstream.url);
    let app = Arc::new(App::start_in(folder, &section).await);
    for value in hostile_values() {
        let start = upstream.received().len();
        let named = app
            .delete_hmc_user(delete_by_name(&value))
            .await
            .unwrap_err();
        let requests = upstream.received().split_off(start);
        let looked_up = requests.iter().find(|seen| seen.method == "GET");
        if named.reason == "ERROR_REASON_USER_NOT_FOUND" {
            let filter = looked_up
                .unwrap()
                .target
                .strip_prefix("/api/console/users?name=")
                .unwrap()
                .to_owned();
            let filter = percent_decode_str(&filter)
                .decode_utf8()
                .unwrap()
                .into_owned();
            assert_eq!(unescape(&filter), value);
        } else {
            assert_refused("user_name", &value, &named);
            assert!(requests.is_empty(), "{value:?}");
        }

        let start = upstream.requests("DELETE", "/api/users/").len();
        let request = DeleteHmcUserRequest {
            user: Some(User::UserId(value.clone())),
            ..DeleteHmcUserRequest::default()
        };
        let by_id = app.delete_hmc_user(request).await;
        let sent = upstream.requests("DELETE", "/api/users/").split_off(start);
        match by_id {
            Ok(response) => {
                assert_eq!(response.user_id, value);
                assert_eq!(sent[0].target, format!("/api/users/{value}"));
            }
            Err(failure) => {
                assert_refused("user_id", &value, &failure);
                assert!(sent.is_empty(), "{value:?}");
            }
        }

        let request = DeleteHmcUserRequest {
            hmc: value.clone(),
            ..delete_by_name("alice")
        };
        let failure = app.delete_hmc_user(request).await.unwrap_err();
        if !value.is_empty() {
            assert_refused("hmc", &value, &failure);
        }
    }
}

/// Returns the text that a filter with backslash escapes matches. Fails if an operator is not escaped.
fn unescape(filter: &str) -> String {
    let mut text = String::new();
    let mut chars = filter.chars();
    while let Some(c) = chars.next() {
        if c == '\\' {
            let escaped = chars.next().unwrap();
            assert!(escaped.is_ascii() && !escaped.is_ascii_alphanumeric());
            text.push(escaped);
        } else {
            assert!(!c.is_ascii() || c.is_ascii_alphanumeric(), "{filter}");
            text.push(c);
        }
    }
    text
}
