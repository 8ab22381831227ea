//! A server at its limit of concurrent calls: it refuses a call before it authenticates the caller, without a request
//! to the issuer or an upstream.

use std::time::Instant;

use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use useradmin_testkit::{
    App, Reply, SecureClient, Signer, Upstream, assert_immediate, batch_request, batch_section,
    default_claims,
};

use crate::{bulkhead::gated_upstream, callers::ISSUER};

/// Starts a server with a limit of one concurrent call, and callers with tokens whose keys are fetched from this
/// issuer.
async fn app_with_one_call_limit(issuer: &Upstream, upstream: &Upstream) -> App {
    let folder = App::folder();
    let batch = batch_section(&folder, &upstream.url);
    let text = format!(
        r#"
[server]
listen = "127.0.0.1:0"
admin_listen = ""
[server.limits]
max_concurrent_calls = 1
[[jwt_issuers]]
issuer = "{ISSUER}"
audience = "useradmin"
jwks_url = "{}/keys"
[[callers]]
identity = "{ISSUER}#svc"
allow = [{{ rpc = "DeleteBatchNodeUser", targets = ["*"] }}]
{batch}"#,
        issuer.url
    );
    App::start_with_text(folder, &text).await
}

#[tokio::test]
async fn overloaded_server_does_not_fetch_unknown_keys() {
    let signer = Signer::es256("known");
    let keys = Reply::json(200, &signer.key_set());
    let issuer = Upstream::start(move |_| keys.clone()).await;
    let (upstream, arrived, gate) = gated_upstream().await;
    let app = app_with_one_call_limit(&issuer, &upstream).await;
    let client = SecureClient::plain(app.address);
    let client_with_known_key = client.with_token(&signer.token(&default_claims(ISSUER, "svc")));
    let mut first = Box::pin(client_with_known_key.delete_batch_node_user(batch_request("alice")));
    tokio::select! {
        _ = &mut first => panic!("the call ended before the gate opened"),
        () = arrived.notified() => {}
    }
    // The server queries the issuer for an unknown key only if the call is within the limit.
    let clients_with_unknown_keys: Vec<_> = (0..10)
        .map(|number| Signer::es256(&format!("unknown-{number}")))
        .map(|signer| client.with_token(&signer.token(&default_claims(ISSUER, "svc"))))
        .collect();
    let requests_before = issuer.received().len();
    let mut times = Vec::new();
    for client_with_unknown_key in &clients_with_unknown_keys {
        let started = Instant::now();
        let refusal = client_with_unknown_key
            .delete_batch_node_user(batch_request("bob"))
            .await;
        times.push(started.elapsed());
        refusal
            .unwrap_err()
            .expect(Code::ResourceExhausted, "OVERLOADED");
        let mut health = HealthClient::new(client.channel());
        let response = health.check(HealthCheckRequest::default()).await;
        assert_eq!(response.unwrap().get_ref().status, 1);
    }
    assert_immediate(&times);
    assert_eq!(issuer.received().len(), requests_before);
    assert_eq!(upstream.requests("DELETE", "").len(), 1);

    gate.notify_one();
    first.await.unwrap();
    // Within the limit, the call with an unknown key is refused as unauthenticated after a query to the issuer.
    let refusal = clients_with_unknown_keys[0].delete_batch_node_user(batch_request("bob"));
    let refusal = refusal.await.unwrap_err();
    refusal.expect(Code::Unauthenticated, "CALLER_UNAUTHENTICATED");
    assert_eq!(refusal.metadata_value("cause"), "token_key_unknown");
    assert!(issuer.received().len() > requests_before);
}
