//! The cause of a missing token: its value in the error for the caller, and whether the service retries the token
//! request.

use std::{
    fs,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use serde_json::Value;
use tonic::Code;
use useradmin::proto::DeleteOutcome::Deleted;
use useradmin_testkit::{
    App, Process, Reply, Upstream, batch_deleted, batch_request, batch_with_timeout, configure,
};

use super::{start_account, start_account_with, token, token_requests};

fn refusal_reply(status: u16, error: &str, code: u32) -> Reply {
    let body = format!(
        r#"{{"error":"{error}","error_description":"AADSTS{code}: no. Trace ID: 1","error_codes":[{code}]}}"#
    );
    Reply::json(status, &body)
}

type Answer = (Code, &'static str);

const REJECTED: Answer = (Code::Internal, "UPSTREAM_CREDENTIALS_REJECTED");
const UNREACHABLE: Answer = (Code::Unavailable, "UPSTREAM_UNREACHABLE");

/// Responses of Microsoft Entra: status, error and AADSTS code; the error of the call, and its cause.
#[rustfmt::skip]
const REFUSALS: &[(u16, &str, u32, Answer, &str)] = &[
    (401, "invalid_client", 7_000_215, REJECTED, "invalid_client"),
    (400, "unauthorized_client", 700_016, REJECTED, "unauthorized_client"),
    (400, "invalid_request", 90_002, REJECTED, "invalid_request"),
    (400, "interaction_required", 50_076, REJECTED, "interaction_required"),
    (400, "made_up_by_kanari", 53_003, REJECTED, "credential_refused"),
    (400, "temporarily_unavailable", 90_033, UNREACHABLE, "temporarily_unavailable"),
    (400, "invalid_request", 90_024, UNREACHABLE, "invalid_request"),
    (403, "access_denied", 53_003, UNREACHABLE, "access_denied"),
];

/// Returns other responses, without a known error.
fn other_causes() -> Vec<(Reply, Answer, &'static str)> {
    let typed = r#"{"error":{"code":"x"},"error_codes":"y"}"#;
    let no_code = r#"{"error_description":"AADSTS: none"}"#;
    let not_understood = [302, 403, 200].map(Reply::html);
    let not_understood =
        not_understood.map(|reply| (reply, UNREACHABLE, "token_response_not_understood"));
    let unavailable = [408, 410, 429, 503].map(Reply::html);
    let unavailable = unavailable.map(|reply| (reply, UNREACHABLE, "token_endpoint_unavailable"));
    let refusal = [
        Reply::json(400, typed),
        Reply::json(401, no_code),
        Reply::html(401),
    ];
    let refusal = refusal.map(|reply| (reply, REJECTED, "credential_refused"));
    let closed_connection = (Reply::Close, UNREACHABLE, "token_endpoint_unreachable");
    let rows = refusal.into_iter().chain(not_understood);
    rows.chain(unavailable).chain([closed_connection]).collect()
}

#[tokio::test]
async fn token_failure_cause_is_in_metadata() {
    let refusals = REFUSALS
        .iter()
        .map(|&(status, error, code, response, cause)| {
            (
                refusal_reply(status, error, code),
                response,
                cause,
                code.to_string(),
            )
        });
    let described = r#"{"error":"invalid_grant","error_description":"AADSTS70021: no"}"#;
    let described = Reply::json(400, described);
    let described = (described, REJECTED, "invalid_grant", "70021".to_owned());
    let others = other_causes().into_iter();
    let others = others.map(|(reply, response, cause)| (reply, response, cause, String::new()));
    let rows = refusals.chain([described]).chain(others);
    let calls = rows.map(|(reply, (code, reason), cause, aadsts)| async move {
        let case = format!("{reply:?}");
        let (app, _upstream) = start_account(move |_| reply.clone(), |_| batch_deleted()).await;
        let failure = app.delete_batch_node_user(batch_request("alice")).await;
        let failure = failure.unwrap_err();
        failure.expect(code, reason);
        assert_eq!(failure.metadata_value("cause"), cause, "{case}");
        assert_eq!(failure.metadata_value("aadsts_code"), aadsts, "{case}");
    });
    join_all(calls).await;
}

/// A single transient refusal does not fail a call.
#[tokio::test]
async fn token_request_is_retried_after_transient_refusal() {
    let codes = [
        40_010, 50_033, 50_087, 70_012, 90_006, 90_012, 90_024, 90_033, 90_055, 90_090, 90_091,
    ];
    let mut rows: Vec<_> = codes
        .into_iter()
        .flat_map(|code| {
            [400, 401, 503].map(|status| refusal_reply(status, "invalid_request", code))
        })
        .collect();
    rows.extend([
        Reply::json(400, r#"{"error":"temporarily_unavailable"}"#),
        Reply::json(401, r#"{"error":"temporarily_unavailable"}"#),
        Reply::json(400, r#"{"error":"server_error"}"#),
        Reply::html(408),
        Reply::html(410),
        Reply::html(429),
        Reply::html(429).with_header("Retry-After", "1"),
        Reply::html(500),
        Reply::html(502),
        Reply::html(504),
        Reply::Close,
    ]);
    let calls = rows.into_iter().map(|reply| async move {
        let case = format!("{reply:?}");
        let response = move |number| {
            if number == 1 {
                reply.clone()
            } else {
                token(number)
            }
        };
        let (app, upstream) = start_account(response, |_| batch_deleted()).await;
        let result = app.delete_batch_node_user(batch_request("alice")).await;
        let result = result.unwrap_or_else(|failure| panic!("{case}: {failure:?}"));
        assert_eq!((result.outcome(), result.attempts), (Deleted, 1), "{case}");
        assert_eq!(token_requests(&upstream).len(), 2, "{case}");
    });
    join_all(calls).await;
}

/// A transient refusal is retried like an unavailable endpoint: a limited number of times, and with pauses.
#[tokio::test]
async fn persistent_transient_refusal_ends_the_call() {
    let refuse = |_| refusal_reply(400, "invalid_request", 90_033);
    let (app, upstream) = start_account(refuse, |_| batch_deleted()).await;
    let started = Instant::now();
    let failure = app.delete_batch_node_user(batch_request("alice")).await;
    let failure = failure.unwrap_err();
    failure.expect(Code::Unavailable, "UPSTREAM_UNREACHABLE");
    assert_eq!(failure.metadata_value("aadsts_code"), "90033");
    assert_eq!(token_requests(&upstream).len(), 3);
    // At least half of 200 ms and of 400 ms.
    assert!(started.elapsed() >= Duration::from_millis(300));
}

#[tokio::test]
async fn token_request_times_out_as_configured() {
    let change = |section: String| format!("{section}\ntoken_timeout_seconds = 1\n");
    let response = |number| {
        if number == 1 {
            Reply::Hang
        } else {
            token(number)
        }
    };
    let (app, upstream) = start_account_with(response, |_| batch_deleted(), &change).await;
    let timeout = Duration::from_millis(1_300);
    let timed_out = batch_with_timeout(&app, batch_request("alice"), timeout).await;
    let timed_out = timed_out.unwrap_err();
    timed_out.expect(Code::Unavailable, "UPSTREAM_UNREACHABLE");
    assert_eq!(timed_out.metadata_value("cause"), "token_timed_out");
    let result = app.delete_batch_node_user(batch_request("alice")).await;
    assert_eq!(result.unwrap().outcome(), Deleted);
    assert_eq!(token_requests(&upstream).len(), 2);
}

/// This includes a token request that times out. All lines of the log come from the server, none from libraries.
#[tokio::test(flavor = "multi_thread")]
async fn token_failure_cause_is_logged() {
    type Row = (fn() -> Reply, &'static str);
    let rows: [Row; 4] = [
        (|| Reply::Hang, "token_timed_out"),
        (|| Reply::Close, "token_endpoint_unreachable"),
        (|| Reply::html(503), "token_endpoint_unavailable"),
        (
            || refusal_reply(401, "invalid_client", 7_000_215),
            "invalid_client",
        ),
    ];
    for (reply, cause) in rows {
        let upstream = Upstream::start(move |_| reply()).await;
        let folder = App::folder();
        configure(&folder, &upstream.url, "token_timeout_seconds = 1\n");
        let process = Process::start_with_env(&folder, &[]);
        let failure = process
            .client()
            .delete_batch_node_user(batch_request("alice"))
            .await;
        failure.unwrap_err();
        process.stop();
        let log_lines = Process::log_records(&folder, "access token request failed");
        assert_eq!(log_lines.len(), token_requests(&upstream).len(), "{cause}");
        assert!(
            log_lines.iter().all(|line| line["cause"] == cause),
            "{log_lines:?}"
        );
        let log = fs::read_to_string(folder.join("log")).unwrap();
        for line in log.lines() {
            let line: Value = serde_json::from_str(line).unwrap();
            let module = line["module"].as_str().unwrap();
            assert!(module.starts_with("useradmin"), "{line}");
        }
        fs::remove_dir_all(folder).unwrap();
    }
}
