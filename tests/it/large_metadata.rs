//! Calls whose metadata is larger than the server accepts: each is refused with details, without an effect on other
//! calls of the same connection.

use std::sync::Arc;

use serde_json::json;
use tokio::sync::{Notify, mpsc};
use tonic::{
    Code, Request,
    metadata::{Ascii, MetadataKey},
};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use useradmin_testkit::{
    App, CallFailure, Reply, Signer, Upstream, batch_deleted, batch_request, batch_section,
    default_claims, start_batch,
};

use crate::callers::{ISSUER, issuer_section};

/// Creates a request with this number of metadata fields, each with a value of this size.
fn request_with_metadata<T>(message: T, fields: usize, size: usize) -> Request<T> {
    let mut request = Request::new(message);
    for number in 0..fields {
        let key = format!("x-{number}").parse::<MetadataKey<Ascii>>().unwrap();
        let value = "x".repeat(size).parse().unwrap();
        request.metadata_mut().insert(key, value);
    }
    request
}

#[track_caller]
fn expect_refused(failure: &CallFailure) {
    failure.expect(Code::InvalidArgument, "INVALID_REQUEST");
    let (field, description) = &failure.bad_request[0];
    assert_eq!(field, "metadata");
    assert!(description.contains("max_metadata_bytes"), "{description}");
}

#[tokio::test]
async fn large_metadata_does_not_affect_other_calls() {
    let (notify, mut arrived) = mpsc::unbounded_channel();
    let open = Arc::new(Notify::new());
    let gate_for_reply = Arc::clone(&open);
    let (app, upstream) = start_batch(move |_| {
        notify.send(()).unwrap();
        Reply::Gated(Arc::clone(&gate_for_reply), Box::new(batch_deleted()))
    })
    .await;
    let mut client = app.client();
    let slow_call =
        tokio::spawn(async move { client.delete_batch_node_user(batch_request("slow")).await });
    arrived.recv().await.unwrap();
    for (fields, size) in [
        (1, 8_200),
        (1, 9_000),
        (1, 20_000),
        (1, 33_000),
        (1, 60_000),
        (1, 65_536),
        (1, 100_000),
        (1, 250_000),
        (40, 200),
        (1_000, 20),
        (2_000, 20),
    ] {
        let request = request_with_metadata(batch_request("large"), fields, size);
        let response = app.client().delete_batch_node_user(request).await;
        expect_refused(&response.unwrap_err().into());
    }
    open.notify_one();
    slow_call.await.unwrap().unwrap();
    open.notify_one();
    let largest_request = request_with_metadata(batch_request("fits"), 1, 7_500);
    app.client()
        .delete_batch_node_user(largest_request)
        .await
        .unwrap();
    assert_eq!(upstream.requests("DELETE", "/pools").len(), 2);
    let records = app.audit();
    assert!(records.iter().all(|record| record["user"] != "large"));
    let peer = &records[0]["peer"];
    assert!(
        records.iter().all(|record| record["peer"] == *peer),
        "a new connection"
    );
}

/// A caller without an identity gets no details about the metadata.
#[tokio::test]
async fn identity_is_checked_before_metadata_size() {
    let upstream = Upstream::start(|_| Reply::empty(200)).await;
    let folder = App::folder();
    let server_section = "[server]\nlisten = \"127.0.0.1:0\"\nadmin_listen = \"\"\n";
    let signer = Signer::es256("key-1");
    let issuer = issuer_section(&folder, &signer);
    let section = batch_section(&folder, &upstream.url);
    let app = App::start_with_text(folder, &format!("{server_section}{issuer}{section}")).await;
    let valid = signer.token(&default_claims(ISSUER, "bob"));
    let mut large = default_claims(ISSUER, "bob");
    large["groups"] = json!("g".repeat(30_000));
    let large = signer.token(&large);
    for (token, size, identified) in [
        (valid.as_str(), 20_000, true),
        (&large, 0, true),
        ("", 20_000, false),
        ("rubbish", 20_000, false),
        (&large[1..], 0, false),
    ] {
        let mut request = request_with_metadata(batch_request("alice"), 1, size);
        if !token.is_empty() {
            let value = format!("Bearer {token}").parse().unwrap();
            request.metadata_mut().insert("authorization", value);
        }
        let response = app.client().delete_batch_node_user(request).await;
        let failure = CallFailure::from(response.unwrap_err());
        if identified {
            expect_refused(&failure);
            continue;
        }
        failure.expect(Code::Unauthenticated, "CALLER_UNAUTHENTICATED");
        let record = app.audit().pop().unwrap();
        assert_eq!(record["request_id"], failure.request_id);
        assert_eq!(record["outcome"], "denied");
    }
    assert!(upstream.received().is_empty());
}

#[tokio::test]
async fn health_refuses_large_metadata() {
    let (app, _upstream) = start_batch(|_| batch_deleted()).await;
    let mut health = HealthClient::new(app.channel());
    for (size, is_accepted) in [(7_500, true), (9_000, false), (60_000, false)] {
        let request = || request_with_metadata(HealthCheckRequest::default(), 1, size);
        let failures = [
            health.check(request()).await.err(),
            health.watch(request()).await.err(),
        ];
        for failure in failures {
            assert_eq!(failure.is_none(), is_accepted, "{size}");
            if let Some(status) = failure {
                let call_failure = CallFailure::from(status);
                assert_eq!(call_failure.reason, "ERROR_REASON_INVALID_REQUEST");
                assert_eq!(call_failure.bad_request[0].0, "metadata");
            }
        }
    }
}
