//! Refused exchanges: reason, cause, and the claims that the caller needs for a new token.

use futures_util::future::join_all;
use serde_json::{Value, json};
use tonic::Code;
use useradmin::proto::DeleteBatchNodeUserRequest;
use useradmin_testkit::{Reply, batch_deleted, batch_error, canary::CLIENT_SECRET};

use super::{issue, refusal, refusal_with, start, start_with};

type Answer = (Code, &'static str);

const CALLER: Answer = (Code::Unauthenticated, "CALLER_UNAUTHENTICATED");
const REJECTED: Answer = (Code::Internal, "UPSTREAM_CREDENTIALS_REJECTED");
const UNREACHABLE: Answer = (Code::Unavailable, "UPSTREAM_UNREACHABLE");

/// Claims as in Microsoft's description of the flow.
const CLAIMS: &str = r#"{"access_token":{"polids":{"essential":true,"values":["9ab03e19-ed42-4168-b6b7-7001fb3e933a"]}}}"#;

/// Errors of Microsoft Entra: status, error and AADSTS code; the error of the call, its cause, and the number of
/// exchanges.
#[rustfmt::skip]
const ERRORS: &[(u16, &str, u32, Answer, &str, usize)] = &[
    (400, "interaction_required", 50_079, CALLER, "interaction_required", 1),
    (400, "interaction_required", 53_003, CALLER, "interaction_required", 1),
    (400, "invalid_grant", 65_001, CALLER, "interaction_required", 1),
    (400, "consent_required", 65_001, CALLER, "interaction_required", 1),
    (400, "login_required", 50_058, CALLER, "interaction_required", 1),
    (403, "interaction_required", 53_003, CALLER, "interaction_required", 1),
    (400, "invalid_grant", 50_013, CALLER, "assertion_rejected", 1),
    (400, "invalid_grant", 500_131, CALLER, "assertion_rejected", 1),
    (400, "invalid_grant", 500_133, CALLER, "assertion_rejected", 1),
    (400, "invalid_grant", 70_011, CALLER, "assertion_rejected", 1),
    (401, "invalid_client", 7_000_215, REJECTED, "invalid_client", 1),
    (400, "unauthorized_client", 700_016, REJECTED, "unauthorized_client", 1),
    (400, "invalid_request", 90_002, REJECTED, "invalid_request", 1),
    (400, "invalid_resource", 500_011, REJECTED, "invalid_resource", 1),
    (400, "made_up", 1, REJECTED, "credential_refused", 1),
    (403, "access_denied", 53_003, CALLER, "interaction_required", 1),
    (400, "invalid_grant", 50_076, CALLER, "interaction_required", 1),
    (403, "access_denied", 1, UNREACHABLE, "access_denied", 3),
    (400, "temporarily_unavailable", 90_033, UNREACHABLE, "temporarily_unavailable", 3),
    (400, "invalid_grant", 90_033, UNREACHABLE, "invalid_grant", 3),
    (429, "invalid_grant", 50_196, UNREACHABLE, "token_endpoint_unavailable", 3),
    (503, "interaction_required", 50_079, UNREACHABLE, "token_endpoint_unavailable", 3),
];

#[tokio::test]
async fn refused_exchange_determines_reason() {
    let calls = ERRORS
        .iter()
        .map(|&(status, error, code, answer, cause, asked)| async move {
            let case = format!("{status} {error} {code}");
            let server = start(move |_| refusal(status, error, code), |_| batch_deleted()).await;
            let failure = server.delete(&server.user_token("alice")).await;
            let failure = failure.unwrap_err();
            failure.expect(answer.0, answer.1);
            assert_eq!(failure.metadata_value("cause"), cause, "{case}");
            assert_eq!(
                failure.metadata_value("aadsts_code"),
                code.to_string(),
                "{case}"
            );
            let outcome = ["attempts", "outcome", "claims"].map(|key| failure.metadata_value(key));
            assert_eq!(outcome, ["0", "not_sent", ""], "{case}");
            assert_eq!(
                failure.retry_delay.is_some(),
                answer == UNREACHABLE,
                "{case}"
            );
            assert_eq!(server.exchanges().len(), asked, "{case}");
            assert!(server.authorizations().is_empty(), "{case}");
        });
    join_all(calls).await;
}

#[tokio::test]
async fn outage_of_token_endpoint_is_not_a_refusal() {
    let no_token = Reply::json(200, r#"{"token_type":"Bearer","expires_in":3599}"#);
    let rows = [
        (Reply::html(429), "token_endpoint_unavailable"),
        (Reply::html(500), "token_endpoint_unavailable"),
        (Reply::html(200), "token_response_not_understood"),
        (no_token, "token_response_not_understood"),
        (Reply::Close, "token_endpoint_unreachable"),
        (Reply::Hang, "token_timed_out"),
    ];
    let calls = rows.map(|(reply, cause)| async move {
        let change = |account: String| account + "token_timeout_seconds = 1\n";
        let server = start_with(move |_| reply.clone(), |_| batch_deleted(), change).await;
        let failure = server.delete(&server.user_token("alice")).await;
        let failure = failure.unwrap_err();
        failure.expect(UNREACHABLE.0, UNREACHABLE.1);
        assert_eq!(failure.metadata_value("cause"), cause);
        assert_eq!(failure.metadata_value("outcome"), "not_sent");
        assert!(server.authorizations().is_empty(), "{cause}");
    });
    join_all(calls).await;
}

/// Returns a JSON object of this length.
fn claims_of(length: usize) -> String {
    let frame = json!({ "x": "" }).to_string().len();
    json!({ "x": "y".repeat(length - frame) }).to_string()
}

#[tokio::test]
async fn claims_are_passed_on_whole_or_not_at_all() {
    let secret = json!({ "x": CLIENT_SECRET }).to_string();
    let rows = [
        (json!(CLAIMS), true),
        (json!(claims_of(1_024)), true),
        (json!(claims_of(1_025)), false),
        (json!("not JSON"), false),
        (json!("[1]"), false),
        (json!("{\"x\":\"\u{e9}\"}"), false),
        (json!("{\"x\":\n1}"), false),
        (json!(secret), false),
        (json!({ "access_token": {} }), false),
        (json!(7), false),
    ];
    let calls = rows.map(|(claims, passed_on)| async move {
        let case = claims.to_string();
        let expected = claims.as_str().filter(|_| passed_on).unwrap_or_default();
        // Claims mean that the user must act, whatever the error.
        for error in ["interaction_required", "invalid_grant", "invalid_client"] {
            let claims = claims.clone();
            let refuse = move |_: &_| refusal_with(400, error, 50_076, &claims);
            let server = start(refuse, |_| batch_deleted()).await;
            // The largest request, so that the status is as large as possible.
            let request = DeleteBatchNodeUserRequest {
                account: "batch".to_owned(),
                pool_id: "p".repeat(64),
                node_id: "n".repeat(64),
                user_name: "u".repeat(256),
                client_request_id: "00000b0b-4a7a-11e4-91ee-1c6f65065a91".to_owned(),
                ..DeleteBatchNodeUserRequest::default()
            };
            let client = server.client(None).with_token(&server.user_token("alice"));
            let failure = client.delete_batch_node_user(request).await.unwrap_err();
            failure.expect(CALLER.0, CALLER.1);
            assert_eq!(
                failure.metadata_value("cause"),
                "interaction_required",
                "{case}"
            );
            assert_eq!(failure.metadata_value("claims"), expected, "{case}");
            assert_eq!(failure.metadata.contains_key("claims"), passed_on, "{case}");
        }
    });
    join_all(calls).await;
}

/// Empty claims require nothing.
#[tokio::test]
async fn empty_claims_are_ignored() {
    for claims in [Value::Null, json!("")] {
        let refuse = move |_: &_| refusal_with(401, "invalid_client", 7_000_215, &claims);
        let server = start(refuse, |_| batch_deleted()).await;
        let failure = server.delete(&server.user_token("alice")).await;
        failure.unwrap_err().expect(REJECTED.0, REJECTED.1);
    }
}

/// A refusal after the account refused the first token is reported with the attempt.
#[tokio::test]
async fn refused_renewal_is_reported_with_attempt() {
    let once = |exchange: &super::Exchange| match exchange.number {
        1 => issue(exchange),
        _ => refusal_with(400, "interaction_required", 50_076, &json!(CLAIMS)),
    };
    let server = start(once, |_| batch_error(401, "AuthenticationFailed")).await;
    let failure = server.delete(&server.user_token("alice")).await;
    let failure = failure.unwrap_err();
    failure.expect(CALLER.0, CALLER.1);
    let values = ["cause", "claims", "attempts", "outcome"].map(|key| failure.metadata_value(key));
    assert_eq!(values, ["interaction_required", CLAIMS, "1", "not_deleted"]);
}
