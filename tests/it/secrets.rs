//! What went with a request never comes back to a caller, even if the upstream repeats it.

use tonic::Code;

use crate::support::{
    App, Reply, Upstream, batch_request, batch_section, by_id, hmc_or, hmc_section, token_or,
};

#[tokio::test]
async fn an_hmc_that_repeats_password_or_session_is_not_quoted() {
    let rows = [
        (
            403,
            "logon of svc-useradmin with hmc-password-1 failed",
            true,
        ),
        (409, "the session session-1 is busy", false),
    ];
    for (status, message, at_logon) in rows {
        let body = format!(r#"{{"http-status":{status},"reason":0,"message":"{message}"}}"#);
        let upstream = Upstream::start(move |seen| {
            let refusal = Reply::json(status, &body);
            if at_logon && seen.method == "POST" {
                return refusal;
            }
            hmc_or(seen, || refusal)
        })
        .await;
        let folder = App::folder();
        let section = hmc_section(&folder, &upstream.url);
        let app = App::start_in(folder, &section).await;
        let failed = app.delete_hmc_user(by_id("id-1")).await.unwrap_err();
        assert_eq!(failed.hmc.unwrap().message, "(redacted)");
    }
}

#[tokio::test]
async fn a_batch_service_that_repeats_the_token_is_not_quoted() {
    // Longer than what is passed on of any text: no beginning of it may get through either.
    let token = "t".repeat(1_000);
    let body = format!(
        r#"{{"code":"InvalidInput","message":{{"lang":"en-US","value":"Bearer {token} is odd"}},
            "values":[{{"key":"Header","value":"{token}"}},{{"key":"Fine","value":"tttt"}}]}}"#
    );
    let answer = format!(r#"{{"token_type":"Bearer","expires_in":3599,"access_token":"{token}"}}"#);
    let upstream = Upstream::start(move |seen| {
        if seen.method == "POST" {
            return Reply::json(200, &answer);
        }
        token_or(seen, || Reply::json(400, &body))
    })
    .await;
    let folder = App::folder();
    let section = batch_section(&folder, &upstream.url);
    let app = App::start_in(folder, &section).await;
    let failed = app
        .delete_batch_node_user(batch_request("alice"))
        .await
        .unwrap_err();
    failed.expect(Code::InvalidArgument, "UPSTREAM_REJECTED_REQUEST");
    let batch = failed.batch.unwrap();
    assert_eq!(batch.message.unwrap().value, "(redacted)");
    let values: Vec<_> = batch
        .values
        .iter()
        .map(|pair| pair.value.as_str())
        .collect();
    assert_eq!(values, ["(redacted)", "tttt"]);
}
