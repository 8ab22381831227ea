//! Access tokens: asked for once for all calls, renewed once when refused, and what a token endpoint's answer
//! becomes.

use std::{collections::BTreeMap, fs};

use futures_util::future::join_all;
use tonic::Code;
use useradmin::proto::DeleteOutcome;

use crate::support::{
    App, Failed, Reply, Seen, Upstream, batch_answer, batch_deleted, batch_document, batch_error,
    batch_request, batch_section,
};

const ENDPOINT: &str = "/tenant-1/oauth2/v2.0/token";

/// The token endpoint's answer to its n-th request.
fn token(number: usize) -> Reply {
    let body = format!(
        r#"{{"token_type":"Bearer","expires_in":3599,"ext_expires_in":3599,"access_token":"token-{number}"}}"#
    );
    Reply::json(200, &body)
}

/// An account whose token endpoint and service do this.
async fn account(
    token: impl Fn(usize) -> Reply + Send + 'static,
    service: impl Fn(&Seen) -> Reply + Send + 'static,
) -> (App, Upstream) {
    account_with(token, service, &|section| section).await
}

async fn account_with(
    token: impl Fn(usize) -> Reply + Send + 'static,
    service: impl Fn(&Seen) -> Reply + Send + 'static,
    change: &dyn Fn(String) -> String,
) -> (App, Upstream) {
    let mut asked = 0;
    let upstream = Upstream::start(move |seen| {
        if seen.target != ENDPOINT {
            return service(seen);
        }
        asked += 1;
        token(asked)
    })
    .await;
    let folder = App::folder();
    fs::write(folder.join("federated.jwt"), "assertion-1").unwrap();
    let section = change(batch_section(&folder, &upstream.url));
    (App::start_in(folder, &section).await, upstream)
}

fn tokens(upstream: &Upstream) -> Vec<BTreeMap<String, String>> {
    let requests = upstream.requests("POST", ENDPOINT);
    let form = |seen: &Seen| {
        assert_eq!(
            seen.header("content-type"),
            Some("application/x-www-form-urlencoded")
        );
        url::form_urlencoded::parse(seen.body.as_bytes())
            .into_owned()
            .collect()
    };
    requests.iter().map(form).collect()
}

/// The tokens that came with the DELETEs.
fn shown(upstream: &Upstream) -> Vec<String> {
    let requests = upstream.requests("DELETE", "");
    let value = |seen: &Seen| seen.header("authorization").unwrap().to_owned();
    requests.iter().map(value).collect()
}

#[tokio::test]
async fn one_token_serves_all_first_calls() {
    let (app, upstream) = account(token, |_| batch_deleted()).await;
    let names: Vec<_> = (0..50).map(|at| format!("user-{at}")).collect();
    let calls = names
        .iter()
        .map(|name| app.delete_batch_node_user(batch_request(name)));
    for done in join_all(calls).await {
        assert_eq!(done.unwrap().outcome(), DeleteOutcome::Deleted);
    }
    assert_eq!(tokens(&upstream).len(), 1);
    assert_eq!(shown(&upstream), vec!["Bearer token-1"; 50]);
}

/// The answers that speak of the service's own credentials.
fn refusals() -> [Reply; 6] {
    let missing = [("HeaderName", "Authorization")];
    [
        batch_error(401, "AuthenticationFailed"),
        batch_error(403, "AuthenticationFailed"),
        batch_error(400, "InvalidAuthenticationInfo"),
        batch_answer(400, &batch_document("MissingRequiredHeader", "x", &missing)),
        Reply::html(401).with("WWW-Authenticate", "Bearer error=\"invalid_token\""),
        Reply::empty(401),
    ]
}

#[tokio::test]
async fn a_refused_token_is_renewed() {
    let calls = refusals().map(|refusal| async move {
        let text = format!("{refusal:?}");
        let (app, upstream) = account(token, move |seen| match seen.header("authorization") {
            Some("Bearer token-2") => batch_deleted(),
            _ => refusal.clone(),
        })
        .await;
        let done = app
            .delete_batch_node_user(batch_request("alice"))
            .await
            .unwrap();
        assert_eq!(
            (done.outcome(), done.attempts),
            (DeleteOutcome::Deleted, 2),
            "{text}"
        );
        // The new one is kept.
        let done = app
            .delete_batch_node_user(batch_request("bob"))
            .await
            .unwrap();
        assert_eq!(done.attempts, 1, "{text}");
        let expected = ["Bearer token-1", "Bearer token-2", "Bearer token-2"];
        assert_eq!(shown(&upstream), expected, "{text}");
        assert_eq!(tokens(&upstream).len(), 2, "{text}");
    });
    join_all(calls).await;
}

#[tokio::test]
async fn a_second_refusal_is_this_service_s_own_fault() {
    let calls = refusals().map(|refusal| async move {
        let text = format!("{refusal:?}");
        let (app, upstream) = account(token, move |_| refusal.clone()).await;
        let failed = app
            .delete_batch_node_user(batch_request("alice"))
            .await
            .unwrap_err();
        failed.expect(Code::Internal, "UPSTREAM_CREDENTIALS_REJECTED");
        assert_eq!(
            (failed.meta("attempts"), failed.meta("outcome")),
            ("2", "not_deleted")
        );
        assert_eq!(failed.retry_delay, None, "{text}");
        assert_eq!(
            shown(&upstream),
            ["Bearer token-1", "Bearer token-2"],
            "{text}"
        );
    });
    join_all(calls).await;
}

#[tokio::test]
async fn calls_that_are_refused_together_renew_once() {
    let (app, upstream) = account(token, |seen| match seen.header("authorization") {
        Some("Bearer token-1") => batch_error(401, "AuthenticationFailed"),
        _ => batch_deleted(),
    })
    .await;
    let calls = (0..50).map(|_| app.delete_batch_node_user(batch_request("alice")));
    for done in join_all(calls).await {
        assert_eq!(done.unwrap().outcome(), DeleteOutcome::Deleted);
    }
    assert_eq!(tokens(&upstream).len(), 2);
}

/// As the endpoint words it; the text may repeat what was sent.
fn aadsts(status: u16, number: u32) -> Reply {
    let body = format!(
        r#"{{"error":"invalid_client","error_description":"AADSTS{number}: C4N4RY.","error_codes":[{number}],"trace_id":"C4N4RY"}}"#
    );
    Reply::json(status, &body)
}

#[tokio::test]
async fn what_the_token_endpoint_says_decides_whose_fault_it_is() {
    let rejected = (Code::Internal, "UPSTREAM_CREDENTIALS_REJECTED", 1);
    let unreachable = (Code::Unavailable, "UPSTREAM_UNREACHABLE", 3);
    let answer = |text: &str| Reply::json(200, text);
    let rows = [
        (aadsts(400, 700_016), rejected),
        (aadsts(401, 7_000_215), rejected),
        (aadsts(400, 90_002), rejected),
        (Reply::html(400), rejected),
        (Reply::html(401), rejected),
        (Reply::empty(400), rejected),
        (Reply::empty(401), rejected),
        (aadsts(403, 53_003), unreachable),
        (Reply::html(403), unreachable),
        (Reply::html(404), unreachable),
        (Reply::html(302).with("Location", "/C4N4RY"), unreachable),
        (aadsts(429, 50_196), unreachable),
        (Reply::html(500), unreachable),
        (aadsts(503, 90_033), unreachable),
        (Reply::html(200), unreachable),
        (Reply::empty(200), unreachable),
        (Reply::empty(204), unreachable),
        (answer("{"), unreachable),
        (
            answer(r#"{"token_type":"Bearer","expires_in":3599}"#),
            unreachable,
        ),
        (
            answer(r#"{"token_type":"Bearer","expires_in":3599,"access_token":""}"#),
            unreachable,
        ),
        (
            answer(r#"{"token_type":"Bearer","expires_in":3599,"access_token":7}"#),
            unreachable,
        ),
        (
            answer(
                r#"{"token_type":"Bearer","expires_in":3599,"access_token":"a\r\nX-C4N4RY: b"}"#,
            ),
            unreachable,
        ),
        (
            answer(r#"{"token_type":"Bearer","expires_in":0,"access_token":"token"}"#),
            unreachable,
        ),
        (Reply::Close, unreachable),
        (Reply::Raw(b"C4N4RY\r\n\r\n".to_vec()), unreachable),
    ];
    let calls = rows.map(|(reply, (code, reason, asked))| async move {
        let text = format!("{reply:?}");
        let (app, upstream) = account(move |_| reply.clone(), |_| batch_deleted()).await;
        let call = app
            .client()
            .delete_batch_node_user(batch_request("alice"))
            .await;
        let status = call.unwrap_err();
        let told = format!("{status:?} {}", String::from_utf8_lossy(status.details()));
        assert!(
            !told.contains("C4N4RY") && !told.contains("AADSTS"),
            "{told}"
        );
        let failed = Failed::from(status);
        failed.expect(code, reason);
        assert_eq!(
            (failed.meta("attempts"), failed.meta("outcome")),
            ("0", "not_sent"),
            "{text}"
        );
        assert_eq!(failed.retry_delay.is_some(), asked == 3, "{text}");
        assert!(
            failed.batch.is_none() && failed.meta("upstream_http_status").is_empty(),
            "{text}"
        );
        assert_eq!(tokens(&upstream).len(), asked, "{text}");
        assert_eq!(shown(&upstream).len(), 0, "{text}");
    });
    join_all(calls).await;
}

#[tokio::test]
async fn a_token_endpoint_that_recovers_is_asked_again() {
    let (app, upstream) = account(
        |number| {
            if number == 1 {
                Reply::html(503)
            } else {
                token(number)
            }
        },
        |_| batch_deleted(),
    )
    .await;
    let done = app
        .delete_batch_node_user(batch_request("alice"))
        .await
        .unwrap();
    assert_eq!((done.outcome(), done.attempts), (DeleteOutcome::Deleted, 1));
    assert_eq!(shown(&upstream), ["Bearer token-2"]);
}

#[tokio::test]
async fn the_secret_is_read_again_for_each_token() {
    let (app, upstream) = account(token, |_| batch_error(401, "AuthenticationFailed")).await;
    let file = app.folder.join("client.secret");
    // As a mounted secret is changed, with an odd one.
    for secret in ["8Q~+&=%20 x", "\u{e9}\u{1F4A9}"] {
        fs::write(&file, format!("{secret}\r\n")).unwrap();
        app.delete_batch_node_user(batch_request("alice"))
            .await
            .unwrap_err();
        assert_eq!(tokens(&upstream).pop().unwrap()["client_secret"], secret);
    }
    fs::remove_file(&file).unwrap();
    let before = tokens(&upstream).len();
    let failed = app
        .delete_batch_node_user(batch_request("alice"))
        .await
        .unwrap_err();
    failed.expect(Code::Internal, "UPSTREAM_CREDENTIALS_REJECTED");
    assert_eq!(tokens(&upstream).len(), before);
}

fn pairs(list: &[(&str, &str)]) -> BTreeMap<String, String> {
    let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    list.iter().map(owned).collect()
}

#[tokio::test]
async fn a_client_secret_is_sent_as_a_form() {
    let rows = [
        ("", "https://batch.core.windows.net//.default"),
        (
            "scope = \"https://batch.core.usgovcloudapi.net//.default\"",
            "https://batch.core.usgovcloudapi.net//.default",
        ),
    ];
    for (more, scope) in rows {
        let change = |section: String| format!("{section}{more}\n");
        let (app, upstream) = account_with(token, |_| batch_deleted(), &change).await;
        app.delete_batch_node_user(batch_request("alice"))
            .await
            .unwrap();
        let expected = [
            ("client_id", "client-1"),
            ("client_secret", "client-secret-1"),
            ("grant_type", "client_credentials"),
            ("scope", scope),
        ];
        assert_eq!(tokens(&upstream), [pairs(&expected)]);
    }
}

#[tokio::test]
async fn a_workload_shows_the_token_of_its_file() {
    let change = |section: String| {
        let section = section.replace("\"client_secret\"", "\"workload_identity\"");
        section.replace(
            "secret_file = \"client.secret\"",
            "token_file = \"federated.jwt\"",
        )
    };
    let refuse = |seen: &Seen| match seen.header("authorization") {
        Some("Bearer token-1") => batch_error(401, "AuthenticationFailed"),
        _ => batch_deleted(),
    };
    let (app, upstream) = account_with(token, refuse, &change).await;
    // Projected tokens last an hour; the file holds another one by then.
    app.delete_batch_node_user(batch_request("alice"))
        .await
        .unwrap();
    let expected = [
        ("client_assertion", "assertion-1"),
        (
            "client_assertion_type",
            "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        ),
        ("client_id", "client-1"),
        ("grant_type", "client_credentials"),
        ("scope", "https://batch.core.windows.net//.default"),
    ];
    assert_eq!(tokens(&upstream), [pairs(&expected), pairs(&expected)]);
}
