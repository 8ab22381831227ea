//! The canaries of `useradmin-testkit` detect leaks, and the program leaks no secret even if everything is logged.

use std::{
    fs::{self, File},
    path::Path,
    sync::Mutex,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use futures_util::future::join_all;
use tonic::{Code, Request, metadata::MetadataValue};
use tracing::Metadata;
use useradmin_testkit::{
    App, Process, ReceivedRequest, Reply, SecureClient, Signer, Step, Upstream, batch_deleted,
    batch_error, batch_request, batch_section,
    canary::{
        CALLERS_TOKEN, CLIENT_SECRET, DATABASE_PASSWORD, LogCapture, PASSWORD, SESSION, SHARED_KEY,
        TOKEN, find, logged_crates,
    },
    default_claims, default_reply, delete_by_id, delete_by_name, error_reply, free_port,
    hmc_section, http_get, token_reply_or,
};

use crate::callers::{ISSUER, issuer_section};

#[test]
fn canary_is_detected_in_every_encoding() {
    for (canary, name) in [
        (CLIENT_SECRET, "the client secret"),
        (SHARED_KEY, "the shared key"),
        (PASSWORD, "the HMC's password"),
        (SESSION, "a session ID"),
        (TOKEN, "an access token"),
        (CALLERS_TOKEN, "the token of a caller"),
        (DATABASE_PASSWORD, "the password of the database"),
    ] {
        let form: String = url::form_urlencoded::byte_serialize(canary.as_bytes()).collect();
        let mut texts = vec![canary.to_owned(), form, format!("{:?}", canary.as_bytes())];
        for before in ["", "a", "ab", "abc", "Bearer "] {
            texts.push(BASE64_STANDARD.encode(format!("{before}{canary}")));
        }
        for text in texts {
            assert_eq!(find(&format!("in the {text} middle")), Some(name), "{text}");
        }
    }
    assert_eq!(find("Sensitive, sensitive, (redacted)"), None);
}

#[test]
fn canary_in_log_line_is_detected() {
    static RECORDED: Mutex<Vec<(String, Option<&str>)>> = Mutex::new(Vec::new());
    fn on_record(metadata: &Metadata<'_>, text: &str) {
        let mut actual = RECORDED.lock().unwrap();
        actual.push((metadata.target().to_owned(), find(text)));
    }
    tracing::subscriber::with_default(LogCapture { on_record }, || {
        tracing::trace!(target: "a_crate::deep", value = SESSION, "a field");
        tracing::error!(target: "b", "a message with {PASSWORD}");
        tracing::info!(target: "c", value = ?Some(TOKEN), "a Debug");
        let _span = tracing::trace_span!(target: "d", "span", value = %CLIENT_SECRET);
        tracing::info!(target: "e", "nothing");
    });
    let expected = [
        ("a_crate::deep", Some("a session ID")),
        ("b", Some("the HMC's password")),
        ("c", Some("an access token")),
        ("d", Some("the client secret")),
        ("e", None),
    ];
    let actual = RECORDED.lock().unwrap();
    let actual: Vec<_> = actual
        .iter()
        .map(|(target, name)| (target.as_str(), *name))
        .collect();
    assert_eq!(actual, expected);
}

/// Returns a request with a bearer token of the caller.
fn with_bearer_token<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    let value = format!("Bearer {CALLERS_TOKEN}");
    let value = MetadataValue::try_from(value).unwrap();
    request.metadata_mut().insert("authorization", value);
    request
}

#[tokio::test]
async fn library_logs_contain_no_canaries() {
    let upstream = upstream("usual").await;
    let folder = App::folder();
    let sections = sections(&folder, &upstream.url);
    let app = App::start_in(folder, &sections).await;
    let mut client = app.client();
    for account in ["batch", "keyed"] {
        let mut request = batch_request("alice");
        request.account = account.to_owned();
        client
            .delete_batch_node_user(with_bearer_token(request))
            .await
            .unwrap();
    }
    client
        .delete_hmc_user(with_bearer_token(delete_by_id("id-1")))
        .await
        .unwrap();
    let crates_with_logs = logged_crates();
    for root in ["useradmin", "h2", "hyper_util", "tonic", "azure_identity"] {
        assert!(
            crates_with_logs.contains(root),
            "{root}: {crates_with_logs:?}"
        );
    }
}

/// Returns both kinds of Batch credentials and an HMC, all at one upstream.
fn sections(folder: &Path, url: &str) -> String {
    fs::write(folder.join("batch.key"), BASE64_STANDARD.encode(SHARED_KEY)).unwrap();
    let (batch, hmc) = (batch_section(folder, url), hmc_section(folder, url));
    format!(
        r#"{batch}{hmc}
[batch_accounts.keyed]
url = "{url}"
[batch_accounts.keyed.credential]
kind = "shared_key"
account_name = "account1"
key_file = "batch.key"
"#
    )
}

/// Returns everything that was received with a request, to be echoed.
fn request_as_text(request: &ReceivedRequest) -> String {
    let headers = request.headers.iter();
    let headers: Vec<_> = headers
        .map(|(name, value)| format!("{name}: {value}; "))
        .collect();
    let headers = headers.concat();
    format!("{} {headers}{}", request.target, request.body)
}

/// Returns a response that echoes the request in its body and its headers.
fn echo_reply(request: &ReceivedRequest, status: u16) -> Reply {
    let text = request_as_text(request);
    let body = serde_json::json!({
        "error": "invalid_client", "error_description": format!("AADSTS7000215: {text}"),
        "code": "AuthenticationFailed", "message": {"lang": "en-US", "value": text},
        "values": [{"key": "AuthenticationErrorDetail", "value": text}],
    });
    let header = text.replace(['\r', '\n'], " ");
    Reply::json(status, &body.to_string())
        .with_header("request-id", &header)
        .with_header("client-request-id", &header)
        .with_header("WWW-Authenticate", &header)
        .with_header(
            "Location",
            &format!(
                "/elsewhere?{}",
                request.header("authorization").unwrap_or_default()
            ),
        )
}

/// Returns whether the request is signed with the account key.
fn is_signed(request: &ReceivedRequest) -> bool {
    let value = request.header("authorization");
    value.is_some_and(|value| value.starts_with("SharedKey "))
}

/// Starts an upstream that serves as Azure Batch and as an HMC, with this named fault.
async fn upstream(error: &'static str) -> Upstream {
    let mut count = 0;
    Upstream::start(move |request| {
        let token = request.target.ends_with("/oauth2/v2.0/token");
        let step = Step::of(request);
        match (error, step) {
            ("token endpoint", _) if token => echo_reply(request, 400),
            ("token endpoint down", _) if token => echo_reply(request, 503),
            ("token refused", Step::Other) if !token => echo_reply(request, 401),
            ("keys refused", Step::Other) if is_signed(request) => echo_reply(request, 401),
            ("busy", Step::Other) if !token => echo_reply(request, 409),
            ("redirect", _) => echo_reply(request, 307),
            ("cut", Step::Other | Step::Delete) if !token => Reply::Close,
            ("no HTTP", _) => Reply::Raw(request_as_text(request).into_bytes()),
            ("password refused", Step::Logon) => error_reply(request, 403, 0),
            ("session expired", Step::Read | Step::Delete) => {
                count += 1;
                if count % 2 == 1 {
                    error_reply(request, 403, 5)
                } else {
                    default_reply(request, count)
                }
            }
            ("session refused", Step::Read | Step::Delete) => error_reply(request, 403, 5),
            (_, Step::Other) => token_reply_or(request, || {
                if error == "usual" {
                    batch_deleted()
                } else {
                    batch_error(409, "NodeUserInUse")
                }
            }),
            _ => default_reply(request, 1),
        }
    })
    .await
}

const FAULTS: [&str; 12] = [
    "usual",
    "token endpoint",
    "token endpoint down",
    "token refused",
    "busy",
    "redirect",
    "cut",
    "no HTTP",
    "password refused",
    "session expired",
    "session refused",
    "keys refused",
];

/// Returns a configuration with an account of each kind and an HMC at each upstream, and with one token issuer.
fn configuration(folder: &Path, port: u16, signer: &Signer, upstreams: &[Upstream]) -> String {
    let issuer = issuer_section(folder, signer);
    let mut text = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:{port}\"\n{issuer}\
         [[callers]]\nidentity = \"{ISSUER}#svc\"\nallow = [\
         {{ rpc = \"DeleteBatchNodeUser\", targets = [\"*\"] }}, {{ rpc = \"DeleteHmcUser\", targets = [\"*\"] }}]\n"
    );
    for (at, upstream) in upstreams.iter().enumerate() {
        let mut sections = sections(folder, &upstream.url);
        for alias in ["batch", "keyed", "hmc"] {
            sections = sections.replace(&format!("s.{alias}"), &format!("s.{alias}-{at}"));
        }
        text.push_str(&sections);
    }
    text
}

/// Makes all calls to one of the upstreams. The client checks responses and failures for canaries.
async fn call(client: &SecureClient, at: usize) {
    for alias in ["batch", "keyed"] {
        let mut request = batch_request("alice");
        request.account = format!("{alias}-{at}");
        let _ = client.delete_batch_node_user(request).await;
    }
    for mut request in [delete_by_id("id-1"), delete_by_name("alice")] {
        request.hmc = format!("hmc-{at}");
        let _ = client.delete_hmc_user(request).await;
    }
}

/// Makes calls with invalid tokens: one signed with another key, an expired one, and one that is not a JWT.
async fn call_unauthenticated(client: &SecureClient, signer: &Signer) {
    let mut old = default_claims(ISSUER, "svc");
    old["exp"] = 1.into();
    let forged = Signer::es256("key-1").token(&default_claims(ISSUER, "svc"));
    for token in [&forged, &signer.token(&old), CALLERS_TOKEN] {
        let client = client.with_token(token);
        let refusal = client
            .delete_hmc_user(delete_by_id("id-1"))
            .await
            .unwrap_err();
        refusal.expect(Code::Unauthenticated, "CALLER_UNAUTHENTICATED");
    }
}

/// Every kind of failure related to credentials, at upstreams that echo requests, with all libraries logging at the
/// most detailed level.
#[tokio::test]
async fn no_output_contains_canaries() {
    for format in ["json", "text"] {
        expect_no_canaries(format).await;
    }
}

async fn expect_no_canaries(format: &str) {
    let (folder, signer) = (App::folder(), Signer::es256("key-1"));
    let port = free_port();
    let upstreams = join_all(FAULTS.map(upstream)).await;
    let (config, log) = (folder.join("useradmin.toml"), folder.join("log"));
    fs::write(&config, configuration(&folder, port, &signer, &upstreams)).unwrap();
    let config = config.to_str().unwrap();
    let arguments = ["serve", "--config", config, "--log-format", format];
    let program = Process::start_with_log(&arguments, File::create(&log).unwrap(), "trace");

    let client = SecureClient::plain(program.address.parse().unwrap());
    let known = client.with_token(&signer.token(&default_claims(ISSUER, "svc")));
    join_all((0..FAULTS.len()).map(|at| call(&known, at))).await;
    call_unauthenticated(&client, &signer).await;
    let paths = ["/livez", "/readyz", "/metrics"];
    let admin = join_all(paths.map(|path| http_get(("127.0.0.1", port), path))).await;
    let admin = admin.concat();
    let (code, out) = program.stop_with("TERM");
    assert_eq!(code, Some(0));
    let audit = fs::read_to_string(folder.join("audit.jsonl")).unwrap();
    let log = fs::read_to_string(&log).unwrap();
    for line in [&log, &audit, &out, &admin]
        .into_iter()
        .flat_map(|text| text.lines())
    {
        assert_eq!(find(line), None, "{line}");
    }
    for module in ["h2::", "hyper_util::", "azure_identity::", "useradmin::"] {
        let logged = log.contains(&format!("\"module\":\"{module}"));
        assert_eq!(logged, format == "json", "{module}");
    }
    assert_eq!(admin.matches("200 OK").count(), 3, "{admin}");
    for cause in [
        "token_signature_invalid",
        "token_expired",
        "token_malformed",
    ] {
        let metric_line = format!("useradmin_unidentified_calls_total{{cause=\"{cause}\"}} 1\n");
        assert!(admin.contains(&metric_line), "{admin}");
    }
    assert!(audit.contains(&format!("\"caller\":\"{ISSUER}#svc\",\"auth\":\"token\"")));
    assert!(
        upstreams
            .iter()
            .all(|upstream| !upstream.received().is_empty())
    );
    fs::remove_dir_all(folder).unwrap();
}
