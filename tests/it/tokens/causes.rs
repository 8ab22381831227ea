//! Why a token endpoint gives no token: for callers, and for the question whether to ask again.

use std::time::Duration;

use futures_util::future::join_all;
use tonic::Code;
use useradmin::proto::DeleteOutcome::Deleted;

use super::{account, account_with, token, tokens};
use crate::support::{Reply, batch_deleted, batch_request, batch_within};

fn refusal(status: u16, error: &str, code: u32) -> Reply {
    let body = format!(
        r#"{{"error":"{error}","error_description":"AADSTS{code}: no. Trace ID: 1","error_codes":[{code}]}}"#
    );
    Reply::json(status, &body)
}

type Answer = (Code, &'static str);

const REJECTED: Answer = (Code::Internal, "UPSTREAM_CREDENTIALS_REJECTED");
const UNREACHABLE: Answer = (Code::Unavailable, "UPSTREAM_UNREACHABLE");

/// Responses of Microsoft Entra: status, error and AADSTS code; what a call gets, and its cause.
#[rustfmt::skip]
const REFUSALS: &[(u16, &str, u32, Answer, &str)] = &[
    (401, "invalid_client", 7_000_215, REJECTED, "invalid_client"),
    (400, "unauthorized_client", 700_016, REJECTED, "unauthorized_client"),
    (400, "invalid_request", 90_002, REJECTED, "invalid_request"),
    (400, "interaction_required", 50_076, REJECTED, "interaction_required"),
    (400, "made_up_by_kanari", 53_003, REJECTED, "credential_refused"),
    (403, "access_denied", 53_003, UNREACHABLE, "access_denied"),
];

/// Other responses, without an error that is known.
fn others() -> Vec<(Reply, Answer, &'static str)> {
    let typed = r#"{"error":{"code":"x"},"error_codes":"y"}"#;
    let no_code = r#"{"error_description":"AADSTS: none"}"#;
    let not_understood = [302, 403, 200].map(Reply::html);
    let not_understood =
        not_understood.map(|reply| (reply, UNREACHABLE, "token_response_not_understood"));
    let unavailable = [408, 410, 429, 503].map(Reply::html);
    let unavailable = unavailable.map(|reply| (reply, UNREACHABLE, "token_endpoint_unavailable"));
    let refused = [
        Reply::json(400, typed),
        Reply::json(401, no_code),
        Reply::html(401),
    ];
    let refused = refused.map(|reply| (reply, REJECTED, "credential_refused"));
    let closed = (Reply::Close, UNREACHABLE, "token_endpoint_unreachable");
    let rows = refused.into_iter().chain(not_understood);
    rows.chain(unavailable).chain([closed]).collect()
}

#[tokio::test]
async fn the_metadata_says_why_there_is_no_token() {
    let refusals = REFUSALS
        .iter()
        .map(|&(status, error, code, answer, cause)| {
            (
                refusal(status, error, code),
                answer,
                cause,
                code.to_string(),
            )
        });
    let described = r#"{"error":"invalid_grant","error_description":"AADSTS70021: no"}"#;
    let described = Reply::json(400, described);
    let described = (described, REJECTED, "invalid_grant", "70021".to_owned());
    let others = others().into_iter();
    let others = others.map(|(reply, answer, cause)| (reply, answer, cause, String::new()));
    let rows = refusals.chain([described]).chain(others);
    let calls = rows.map(|(reply, (code, reason), cause, aadsts)| async move {
        let what = format!("{reply:?}");
        let (app, _upstream) = account(move |_| reply.clone(), |_| batch_deleted()).await;
        let failed = app.delete_batch_node_user(batch_request("alice")).await;
        let failed = failed.unwrap_err();
        failed.expect(code, reason);
        assert_eq!(failed.meta("cause"), cause, "{what}");
        assert_eq!(failed.meta("aadsts_code"), aadsts, "{what}");
    });
    join_all(calls).await;
}

#[tokio::test]
async fn a_request_that_takes_longer_than_configured_is_given_up() {
    let change = |section: String| format!("{section}\ntoken_timeout_seconds = 1\n");
    let answer = |number| {
        if number == 1 {
            Reply::Hang
        } else {
            token(number)
        }
    };
    let (app, upstream) = account_with(answer, |_| batch_deleted(), &change).await;
    let timeout = Duration::from_millis(1_300);
    let late = batch_within(&app, batch_request("alice"), timeout).await;
    let late = late.unwrap_err();
    late.expect(Code::Unavailable, "UPSTREAM_UNREACHABLE");
    assert_eq!(late.meta("cause"), "token_timed_out");
    let done = app.delete_batch_node_user(batch_request("alice")).await;
    assert_eq!(done.unwrap().outcome(), Deleted);
    assert_eq!(tokens(&upstream).len(), 2);
}
