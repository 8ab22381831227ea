//! The versions of the Azure Batch API: the requests of each one, and versions that are no longer served.

use std::{fs, time::Duration};

use time::OffsetDateTime;
use tonic::{Code, Request};
use useradmin::{
    config::{API_VERSIONS, ApiVersion},
    proto::{BatchNodeUserValidation, DeleteOutcome},
    sandbox::Sandbox,
};
use useradmin_testkit::{
    App, Upstream, batch_deleted, batch_document, batch_request, batch_response, batch_section,
    run, start_batch, token_reply_or,
};

use crate::sandbox::sandbox_configuration;

/// The versions, and the name of the time limit in each, from the vendor's specifications.
const VERSIONS: [(&str, &str); 5] = [
    ("2023-11-01.18.0", "timeout"),
    ("2024-02-01.19.0", "timeout"),
    ("2024-07-01.20.0", "timeOut"),
    ("2025-06-01", "timeOut"),
    ("2026-10-01", "timeOut"),
];

const SERVER: &str = r#"
[server]
listen = "127.0.0.1:0"
admin_listen = "127.0.0.1:0"
[[callers]]
identity = "anonymous"
allow = [{ rpc = "DeleteBatchNodeUser", targets = ["batch"] }]
"#;

/// Returns the section of a Batch account with this version.
fn section_with_version(section: &str, version: &str) -> String {
    let key = format!("api_version = \"{version}\"\nurl = ");
    section.replacen("url = ", &key, 1)
}

#[tokio::test]
async fn requests_name_configured_version_and_its_time_limit() {
    let names = API_VERSIONS.iter().map(|version| version.name);
    assert!(names.eq(VERSIONS.iter().map(|(name, _)| *name)));
    for (version, limit) in VERSIONS {
        let upstream = Upstream::start(|request| token_reply_or(request, batch_deleted)).await;
        let folder = App::folder();
        let section = section_with_version(&batch_section(&folder, &upstream.url), version);
        let app = App::start_with_text(folder, &format!("{SERVER}{section}")).await;
        for (seconds, query) in [
            (60, format!("?api-version={version}")),
            (10, format!("?{limit}=9&api-version={version}")),
        ] {
            let mut request = Request::new(batch_request("alice"));
            request.set_timeout(Duration::from_secs(seconds));
            let response = app.client().delete_batch_node_user(request).await.unwrap();
            assert_eq!(response.into_inner().outcome(), DeleteOutcome::Deleted);
            let received = upstream.requests("DELETE", "").pop().unwrap();
            let expected = format!("/pools/pool-1/nodes/node-1/users/alice{query}");
            assert_eq!(received.target, expected);
        }
        let line = format!(
            "useradmin_upstream_api_version_info{{upstream=\"azure_batch\",target=\"batch\",api_version=\"{version}\"}} 1"
        );
        app.await_metric(&line).await;
    }
}

/// The sandbox refuses a parameter that the version does not have.
#[tokio::test]
async fn sandbox_serves_every_version() {
    let sandbox = Sandbox::start().await.unwrap();
    for version in &API_VERSIONS {
        let mut config = sandbox_configuration(&sandbox);
        for account in config.targets.batch_accounts.values_mut() {
            account.own.api_version = version;
        }
        let app = App::run(App::folder(), &config).await;
        let mut request = batch_request("no-such-user");
        request.node_id = "node-idle".to_owned();
        let failure = app.delete_batch_node_user(request.clone()).await;
        failure
            .unwrap_err()
            .expect(Code::NotFound, "USER_NOT_FOUND");
        request.validate_only = true;
        // The pool of the sandbox defines `carol`.
        for (name, defined_by_pool) in [("carol", true), ("alice", false)] {
            name.clone_into(&mut request.user_name);
            let response = app.delete_batch_node_user(request.clone()).await.unwrap();
            assert_eq!(response.outcome(), DeleteOutcome::Validated, "{version}");
            let validation = BatchNodeUserValidation {
                node_state: "idle".to_owned(),
                defined_by_pool: Some(defined_by_pool),
            };
            assert_eq!(response.validation, Some(validation), "{version} {name}");
        }
        app.stop().await;
    }
}

/// A version that is not served is reported for reads, too, and is not the fault of the caller.
#[tokio::test]
async fn version_that_is_not_served_is_reported() {
    let named = [("QueryParameterName", "api-version")];
    let documents = [
        batch_document("UnsupportedRequestVersion", "Not supported.", &[]),
        batch_document("InvalidQueryParameterValue", "Not valid.", &named),
        batch_document("OutOfRangeQueryParameterValue", "Not in range.", &named),
    ];
    for document in documents {
        for validate_only in [false, true] {
            let reply = batch_response(400, &document);
            let (app, upstream) = start_batch(move |_| reply.clone()).await;
            let mut request = batch_request("alice");
            request.validate_only = validate_only;
            let failure = app.delete_batch_node_user(request).await.unwrap_err();
            failure.expect(Code::Internal, "UPSTREAM_API_VERSION_UNSUPPORTED");
            assert_eq!(failure.retry_delay, None);
            assert_eq!(failure.metadata_value("upstream_http_status"), "400");
            let outcome = if validate_only {
                "not_sent"
            } else {
                "not_deleted"
            };
            assert_eq!(failure.metadata_value("outcome"), outcome);
            let requests =
                upstream.requests("DELETE", "").len() + upstream.requests("GET", "").len();
            assert_eq!(requests, 1, "the request is not repeated");
            app.assert_recorded(&failure);
        }
    }
}

/// Runs `check-config` on an account with this version and this credential. Returns exit code, standard output and
/// standard error.
fn check(version: &str, credential: &str) -> (i32, String, String) {
    let folder = App::folder();
    fs::write(folder.join("batch.key"), "c2VjcmV0\n").unwrap();
    let text = format!(
        "[batch_accounts.prod]\nurl = \"https://b.example\"\n{version}\n[batch_accounts.prod.credential]\n{credential}\n\
         [[callers]]\nidentity = \"anonymous\"\nallow = [{{ rpc = \"DeleteBatchNodeUser\", targets = [\"prod\"] }}]\n"
    );
    let file = folder.join("useradmin.toml");
    fs::write(&file, text).unwrap();
    let result = run(&[
        "check-config",
        "--verbose",
        "--config",
        file.to_str().unwrap(),
    ]);
    fs::remove_dir_all(folder).unwrap();
    result
}

const SHARED_KEY: &str = "kind = \"shared_key\"\naccount_name = \"b\"\nkey_file = \"batch.key\"";

#[test]
fn check_config_shows_version_and_warns_of_old_ones() {
    let identity = "kind = \"managed_identity\"";
    let is_old = |version: &ApiVersion| version.is_out_of_support(OffsetDateTime::now_utc());
    for version in &API_VERSIONS {
        let (code, out, err) = check(&format!("api_version = \"{version}\""), identity);
        assert_eq!(code, 0, "{err}");
        let summary = format!(
            "batch_accounts.prod: https://b.example/, api_version {version}, managed_identity"
        );
        assert!(out.contains(&summary), "{out}");
        let warned = err.contains(":3:15: warning: `api_version` is older than two years");
        assert_eq!(warned, is_old(version), "{version}: {err}");
    }
    assert!(is_old(ApiVersion::DEFAULT));
    let (code, out, err) = check("", identity);
    assert_eq!(
        (code, err.as_str()),
        (0, ""),
        "the default is not warned of"
    );
    assert!(out.contains("api_version 2023-11-01.18.0"), "{out}");
}

#[test]
fn check_config_warns_of_shared_key_that_the_version_does_not_document() {
    for version in &API_VERSIONS {
        let (code, _, err) = check(&format!("api_version = \"{version}\""), SHARED_KEY);
        assert_eq!(code, 0, "{err}");
        let warned = err.contains("does not describe shared keys");
        assert_eq!(warned, version.name == "2026-10-01", "{version}: {err}");
    }
}

#[test]
fn unknown_version_is_error_that_lists_known_ones() {
    for version in ["2022-01-01.15.0", "2025-06-01.0", "latest", "2026-10-01 "] {
        let (code, out, err) = check(&format!("api_version = \"{version}\""), SHARED_KEY);
        assert_eq!((code, out.as_str()), (2, ""));
        let known = "`api_version` must be one of 2023-11-01.18.0, 2024-02-01.19.0, 2024-07-01.20.0, 2025-06-01, 2026-10-01";
        assert!(err.contains(":3:15: ") && err.contains(known), "{err}");
    }
}
