//! The results of responses of the token endpoint.

use std::time::Duration;

use futures_util::future::join_all;
use tonic::Code;
use useradmin::proto::DeleteOutcome;
use useradmin_testkit::{CallFailure, Reply, batch_deleted, batch_request, batch_with_timeout};

use super::{sent_authorizations, start_account, token, token_requests};

/// Returns an error in the format of the endpoint, whose text may repeat the request.
fn aadsts(status: u16, number: u32) -> Reply {
    let body = format!(
        r#"{{"error":"invalid_client","error_description":"AADSTS{number}: C4N4RY.","error_codes":[{number}],"trace_id":"C4N4RY"}}"#
    );
    Reply::json(status, &body)
}

/// Expected code, reason and number of token requests.
type Verdict = (Code, &'static str, usize);

const REJECTED: Verdict = (Code::Internal, "UPSTREAM_CREDENTIALS_REJECTED", 1);
const UNREACHABLE: Verdict = (Code::Unavailable, "UPSTREAM_UNREACHABLE", 3);

fn rows() -> Vec<(Reply, Verdict)> {
    let rejected = [
        aadsts(400, 700_016),
        aadsts(401, 7_000_215),
        aadsts(400, 90_002),
        Reply::html(400),
        Reply::html(401),
        Reply::empty(400),
        Reply::empty(401),
    ];
    let failure = [
        aadsts(403, 53_003),
        Reply::html(403),
        Reply::html(404),
        Reply::html(302).with_header("Location", "/C4N4RY"),
        aadsts(429, 50_196),
        Reply::html(500),
        aadsts(503, 90_033),
        Reply::html(200),
        Reply::empty(200),
        Reply::empty(204),
        Reply::Close,
        Reply::Raw(b"C4N4RY\r\n\r\n".to_vec()),
    ];
    let no_tokens = [
        r"{",
        r#"{"token_type":"Bearer","expires_in":3599}"#,
        r#"{"token_type":"Bearer","expires_in":3599,"access_token":""}"#,
        r#"{"token_type":"Bearer","expires_in":3599,"access_token":7}"#,
        r#"{"token_type":"Bearer","expires_in":3599,"access_token":"a\r\nX-C4N4RY: b"}"#,
        r#"{"token_type":"Bearer","expires_in":0,"access_token":"C4N4RY"}"#,
        r#"{"token_type":"Bearer","expires_in":-1,"access_token":"C4N4RY"}"#,
        r#"{"token_type":"Bearer","expires_in":9000000000000,"access_token":"C4N4RY"}"#,
        r#"{"token_type":"Bearer","expires_in":9223372036854775807,"access_token":"C4N4RY"}"#,
    ];
    let no_tokens = no_tokens.map(|body| Reply::json(200, body));
    let rejected = rejected.into_iter().map(|reply| (reply, REJECTED));
    let unreachable = failure
        .into_iter()
        .chain(no_tokens)
        .map(|reply| (reply, UNREACHABLE));
    rejected.chain(unreachable).collect()
}

#[tokio::test]
async fn token_endpoint_response_determines_reason() {
    let calls = rows()
        .into_iter()
        .map(|(reply, (code, reason, asked))| async move {
            let text = format!("{reply:?}");
            let (app, upstream) = start_account(move |_| reply.clone(), |_| batch_deleted()).await;
            let call = app
                .client()
                .delete_batch_node_user(batch_request("alice"))
                .await;
            let status = call.unwrap_err();
            let actual = format!("{status:?} {}", String::from_utf8_lossy(status.details()));
            assert!(
                !actual.contains("C4N4RY") && !actual.contains("AADSTS"),
                "{actual}"
            );
            let failure = CallFailure::from(status);
            failure.expect(code, reason);
            assert_eq!(
                (
                    failure.metadata_value("attempts"),
                    failure.metadata_value("outcome")
                ),
                ("0", "not_sent"),
                "{text}"
            );
            assert_eq!(failure.retry_delay.is_some(), asked == 3, "{text}");
            assert!(
                failure.batch.is_none()
                    && failure.metadata_value("upstream_http_status").is_empty(),
                "{text}"
            );
            assert_eq!(token_requests(&upstream).len(), asked, "{text}");
            assert_eq!(sent_authorizations(&upstream).len(), 0, "{text}");
        });
    join_all(calls).await;
}

#[tokio::test]
async fn recovered_token_endpoint_is_used() {
    let (app, upstream) = start_account(
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
    let response = app
        .delete_batch_node_user(batch_request("alice"))
        .await
        .unwrap();
    assert_eq!(
        (response.outcome(), response.attempts),
        (DeleteOutcome::Deleted, 1)
    );
    assert_eq!(sent_authorizations(&upstream), ["Bearer kanari-token-2"]);
}

#[tokio::test]
async fn retry_after_of_token_endpoint_is_returned() {
    let throttled = || Reply::html(429).with_header("Retry-After", "7");
    let (app, upstream) = start_account(move |_| throttled(), |_| batch_deleted()).await;
    let timeout = Duration::from_secs(3);
    let failure = batch_with_timeout(&app, batch_request("alice"), timeout)
        .await
        .unwrap_err();
    failure.expect(Code::Unavailable, "UPSTREAM_UNREACHABLE");
    assert_eq!(failure.retry_delay, Some(Duration::from_secs(7)));
    assert_eq!(token_requests(&upstream).len(), 1);
}
