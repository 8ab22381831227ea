//! Credentials that were sent to an upstream are never passed on to a caller, even if the upstream repeats them.

use tonic::Code;
use useradmin_testkit::{
    App, HmcSetup, Reply, Step, Upstream, batch_document, batch_request, batch_section,
    canary::TOKEN, default_reply, delete_by_id, delete_by_name, hmc_reply_or, hmc_section,
    start_batch, token_reply_or,
};

#[tokio::test]
async fn password_and_session_in_hmc_response_are_redacted() {
    let rows = [
        (
            403,
            "logon of svc-useradmin with kanari-password-1 failed",
            true,
        ),
        (409, "the session kanari-session-1 is busy", false),
    ];
    for (status, message, at_logon) in rows {
        let body = format!(r#"{{"http-status":{status},"reason":0,"message":"{message}"}}"#);
        let upstream = Upstream::start(move |request| {
            let refusal = Reply::json(status, &body);
            if at_logon && request.method == "POST" {
                return refusal;
            }
            hmc_reply_or(request, || refusal)
        })
        .await;
        let folder = App::folder();
        let section = hmc_section(&folder, &upstream.url);
        let app = App::start_in(folder, &section).await;
        let failure = app.delete_hmc_user(delete_by_id("id-1")).await.unwrap_err();
        assert_eq!(failure.hmc.unwrap().message, "(redacted)");
    }
}

#[tokio::test]
async fn token_in_batch_response_is_redacted() {
    // Longer than the maximum length of quoted texts: a truncated token must not be passed on either.
    let token = format!("{TOKEN}{}", "t".repeat(1_000));
    let body = format!(
        r#"{{"code":"InvalidInput","message":{{"lang":"en-US","value":"Bearer {token} is odd"}},
            "values":[{{"key":"Header","value":"{token}"}},{{"key":"Fine","value":"tttt"}}]}}"#
    );
    let response =
        format!(r#"{{"token_type":"Bearer","expires_in":3599,"access_token":"{token}"}}"#);
    let upstream = Upstream::start(move |request| {
        if request.method == "POST" {
            return Reply::json(200, &response);
        }
        token_reply_or(request, || Reply::json(400, &body))
    })
    .await;
    let folder = App::folder();
    let section = batch_section(&folder, &upstream.url);
    let app = App::start_in(folder, &section).await;
    let failure = app
        .delete_batch_node_user(batch_request("alice"))
        .await
        .unwrap_err();
    failure.expect(Code::InvalidArgument, "UPSTREAM_REJECTED_REQUEST");
    let batch = failure.batch.unwrap();
    assert_eq!(batch.message.unwrap().value, "(redacted)");
    let values: Vec<_> = batch
        .values
        .iter()
        .map(|pair| pair.value.as_str())
        .collect();
    assert_eq!(values, ["(redacted)", "tttt"]);
}

/// Checks both the response and the audit record, for success and failure.
#[tokio::test]
async fn request_id_containing_token_is_omitted() {
    for status in [200, 409] {
        let body = batch_document("NodeUserInUse", "What went wrong.", &[]);
        let (app, _upstream) = start_batch(move |request| {
            let echo = request.header("authorization").unwrap();
            Reply::json(status, &body).with_header("request-id", echo)
        })
        .await;
        let actual = match app.delete_batch_node_user(batch_request("alice")).await {
            Ok(response) => response.request_id,
            Err(failure) => failure.metadata_value("upstream_request_id").to_owned(),
        };
        assert_eq!(actual, "(redacted)", "{status}");
        let recorded_id = &app.audit()[1]["upstream_request_id"];
        assert_eq!(recorded_id, "(redacted)", "{status}");
    }
}

#[tokio::test]
async fn user_named_like_session_is_protocol_error() {
    let session = "kanari-session-4d5c1z1g2b4p2vzs4o3rq6d3n5l3h1k";
    for request in [delete_by_id("id-1"), delete_by_name("alice")] {
        let setup = HmcSetup::start(move |received| match Step::of(received) {
            Step::Logon => Reply::json(200, &format!(r#"{{"api-session":"{session}"}}"#)),
            Step::Read => Reply::json(200, &format!(r#"{{"name":"{session}"}}"#)),
            Step::List => Reply::json(
                200,
                &format!(r#"{{"users":[{{"object-uri":"/api/users/{session}","name":"alice"}}]}}"#),
            ),
            _ => default_reply(received, 1),
        })
        .await;
        let failure = setup.fail(request).await;
        failure.expect(Code::Unavailable, "UPSTREAM_PROTOCOL_ERROR");
        setup.assert_not_sent(&failure);
        assert!(!format!("{failure:?}").contains(session), "{failure:?}");
    }
}
