//! The server around the service: health, reflection, deadlines, trailers and the drain.

use std::{
    collections::BTreeSet,
    fs,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::stream::once;
use prost::Message as _;
use prost_types::FileDescriptorProto;
use serde_json::json;
use tokio::{
    io::AsyncWriteExt as _,
    net::TcpStream,
    sync::{Notify, oneshot},
};
use tonic::{Code, Request, Status};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};
use useradmin::sandbox::Sandbox;
use useradmin_testkit::{
    App, CallFailure, Process, Reply, Upstream, batch_deleted, batch_request, batch_section,
    configure, delete_by_name, records, token_reply_or,
};

#[tokio::test]
async fn health_reports_server_and_service() {
    let sandbox = Sandbox::start().await.unwrap();
    let app = crate::sandbox::serve_sandbox(&sandbox).await;
    let mut health = HealthClient::new(app.channel());
    for service in ["", "useradmin.v1.UserAdmin"] {
        let request = HealthCheckRequest {
            service: service.to_owned(),
        };
        let response = health.check(request).await.unwrap().into_inner();
        assert_eq!(response.status(), ServingStatus::Serving, "{service}");
    }
    let request = HealthCheckRequest {
        service: "nobody".to_owned(),
    };
    assert_eq!(
        health.check(request).await.unwrap_err().code(),
        Code::NotFound
    );
    // The health check sends no request to an upstream.
    assert_eq!(sandbox.traffic().hmc_requests, 0);
}

async fn reflect(app: &App, question: MessageRequest) -> MessageResponse {
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(question),
    };
    let mut client = ServerReflectionClient::new(app.channel());
    let mut responses = client
        .server_reflection_info(once(async { request }))
        .await
        .unwrap()
        .into_inner();
    responses
        .message()
        .await
        .unwrap()
        .unwrap()
        .message_response
        .unwrap()
}

#[tokio::test]
async fn reflection_lists_the_services_and_resolves_the_details() {
    let sandbox = Sandbox::start().await.unwrap();
    let app = crate::sandbox::serve_sandbox(&sandbox).await;
    let MessageResponse::ListServicesResponse(list) =
        reflect(&app, MessageRequest::ListServices(String::new())).await
    else {
        panic!("no list");
    };
    let names: BTreeSet<_> = list
        .service
        .into_iter()
        .map(|service| service.name)
        .collect();
    assert!(
        names.contains("grpc.health.v1.Health") && names.contains("useradmin.v1.UserAdmin"),
        "{names:?}"
    );
    for symbol in [
        "useradmin.v1.UserAdmin",
        "useradmin.v1.BatchError",
        "useradmin.v1.HmcError",
        "useradmin.v1.ErrorReason",
        "google.rpc.ErrorInfo",
        "google.rpc.BadRequest",
        "google.rpc.PreconditionFailure",
        "google.rpc.QuotaFailure",
        "google.rpc.RequestInfo",
        "google.rpc.ResourceInfo",
        "google.rpc.RetryInfo",
        "google.rpc.Status",
    ] {
        let question = MessageRequest::FileContainingSymbol(symbol.to_owned());
        let MessageResponse::FileDescriptorResponse(files) = reflect(&app, question).await else {
            panic!("{symbol} is not resolved");
        };
        let file = FileDescriptorProto::decode(files.file_descriptor_proto[0].as_slice()).unwrap();
        assert!(symbol.starts_with(file.package()), "{symbol}");
    }
}

#[tokio::test]
async fn every_response_has_unique_request_id() {
    let sandbox = Sandbox::start().await.unwrap();
    let app = crate::sandbox::serve_sandbox(&sandbox).await;
    let mut client = app.client();
    let mut request = batch_request("alice");
    request.node_id = "node-idle".to_owned();
    // `expect` compares the ID of the failure with its `RequestInfo`.
    let failure = app
        .delete_hmc_user(delete_by_name("nobody"))
        .await
        .unwrap_err();
    failure.expect(Code::NotFound, "USER_NOT_FOUND");
    let response = client.delete_batch_node_user(request).await.unwrap();
    let id = response
        .metadata()
        .get("x-request-id")
        .unwrap()
        .to_str()
        .unwrap();
    assert_eq!(id.len(), 36);
    assert_ne!(id, failure.request_id);
}

#[tokio::test]
async fn deadlines_are_enforced_and_invalid_ones_rejected() {
    let upstream = Upstream::start(|received| token_reply_or(received, || Reply::Hang)).await;
    let folder = App::folder();
    let section = batch_section(&folder, &upstream.url);
    let app = App::start_in(folder, &section).await;
    let rows = [
        ("99m", Code::DeadlineExceeded, "DEADLINE_EXCEEDED", 0),
        ("300m", Code::DeadlineExceeded, "DEADLINE_EXCEEDED", 0),
        ("600m", Code::DeadlineExceeded, "OUTCOME_UNKNOWN", 1),
        ("700000u", Code::DeadlineExceeded, "OUTCOME_UNKNOWN", 1),
        ("", Code::InvalidArgument, "INVALID_REQUEST", 0),
        ("5", Code::InvalidArgument, "INVALID_REQUEST", 0),
        ("S", Code::InvalidArgument, "INVALID_REQUEST", 0),
        ("-1S", Code::InvalidArgument, "INVALID_REQUEST", 0),
        ("1.5S", Code::InvalidArgument, "INVALID_REQUEST", 0),
        ("5s", Code::InvalidArgument, "INVALID_REQUEST", 0),
        ("123456789S", Code::InvalidArgument, "INVALID_REQUEST", 0),
    ];
    for (timeout, code, reason, sent) in rows {
        let requests_before = upstream.requests("DELETE", "").len();
        let mut request = Request::new(batch_request("alice"));
        request
            .metadata_mut()
            .insert("grpc-timeout", timeout.parse().unwrap());
        let status: Status = app
            .client()
            .delete_batch_node_user(request)
            .await
            .unwrap_err();
        let failure = CallFailure::from(status);
        failure.expect(code, reason);
        assert_eq!(
            failure.metadata_value("attempts"),
            sent.to_string(),
            "{timeout}"
        );
        assert_eq!(
            upstream.requests("DELETE", "").len() - requests_before,
            sent,
            "{timeout}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_waits_for_calls_in_progress() {
    let (started, go) = (
        Arc::new(Notify::new()),
        Arc::new(std::sync::Barrier::new(2)),
    );
    let (notify, wait) = (Arc::clone(&started), Arc::clone(&go));
    let upstream = Upstream::start(move |request| {
        token_reply_or(request, || {
            notify.notify_one();
            // Blocks the worker thread until the test releases the response.
            tokio::task::block_in_place(|| wait.wait());
            batch_deleted()
        })
    });
    let upstream = upstream.await;
    let folder = App::folder();
    let section = batch_section(&folder, &upstream.url);
    let app = App::start_in(folder, &section).await;
    let mut client = app.client();
    let call =
        tokio::spawn(async move { client.delete_batch_node_user(batch_request("alice")).await });
    started.notified().await;
    let stop_task = tokio::spawn(app.stop());
    tokio::task::spawn_blocking(move || go.wait())
        .await
        .unwrap();
    assert_eq!(call.await.unwrap().unwrap().into_inner().attempts, 1);
    tokio::time::timeout(Duration::from_secs(5), stop_task)
        .await
        .unwrap()
        .unwrap();
}

/// Starts an upstream that responds to no DELETE, and notifies the test of each.
async fn hanging() -> (Upstream, Arc<Notify>) {
    let arrived = Arc::new(Notify::new());
    let notify = Arc::clone(&arrived);
    let upstream = Upstream::start(move |request| {
        token_reply_or(request, || {
            notify.notify_one();
            Reply::Hang
        })
    })
    .await;
    (upstream, arrived)
}

#[tokio::test(flavor = "multi_thread")]
async fn call_exceeding_drain_time_is_reported_as_unknown() {
    let (upstream, arrived) = hanging().await;
    let folder = App::folder();
    configure(
        &folder,
        &upstream.url,
        "[server.limits]\ndrain_seconds = 1\n",
    );
    let process = Process::start(&folder);
    let mut client = process.client();
    let call =
        tokio::spawn(async move { client.delete_batch_node_user(batch_request("alice")).await });
    arrived.notified().await;
    process.stop();
    let failure = CallFailure::from(call.await.unwrap().unwrap_err());
    failure.expect(Code::DeadlineExceeded, "OUTCOME_UNKNOWN");
    let records = records(&folder.join("audit.jsonl"));
    assert_eq!(records[1]["outcome"], "unknown");
    assert_eq!(records[1]["attempts"], 1);
    for (message, key, value) in [
        ("drain started", "calls", json!(1)),
        (
            "drain ended early; remaining calls are cancelled",
            "remaining",
            json!(1),
        ),
        (
            "call ended",
            "context",
            json!("the server stopped before the response"),
        ),
    ] {
        assert_eq!(Process::log_records(&folder, message)[0][key], value);
    }
    fs::remove_dir_all(folder).unwrap();
}

/// The call waits for an access token when the drain ends.
#[tokio::test]
async fn call_without_delete_is_reported_as_shutdown() {
    let arrived = Arc::new(Notify::new());
    let notify = Arc::clone(&arrived);
    let upstream = Upstream::start(move |_| {
        notify.notify_one();
        Reply::Hang
    })
    .await;
    let folder = App::folder();
    let section = batch_section(&folder, &upstream.url);
    let (force_stop, short_deadline) = oneshot::channel::<()>();
    let mut app = App::start_with_force_stop(folder, &section, short_deadline).await;
    let mut client = app.client();
    let call =
        tokio::spawn(async move { client.delete_batch_node_user(batch_request("alice")).await });
    arrived.notified().await;
    force_stop.send(()).unwrap();
    app.drain().await;
    let failure = CallFailure::from(call.await.unwrap().unwrap_err());
    failure.expect(Code::Unavailable, "SHUTTING_DOWN");
    assert!(failure.retry_delay.is_some());
    assert_eq!(failure.metadata_value("outcome"), "not_sent");
    let records = app.audit();
    assert_eq!(records[1]["outcome"], "not_sent");
    assert_eq!(records[1]["reason"], "ERROR_REASON_SHUTTING_DOWN");
}

#[tokio::test]
async fn silent_peer_does_not_delay_shutdown() {
    let sandbox = Sandbox::start().await.unwrap();
    let app = crate::sandbox::serve_sandbox(&sandbox).await;
    let address = app.address;
    // One peer that sends nothing, and one that stops after the preface and its settings.
    let silent = TcpStream::connect(address).await.unwrap();
    let mut silent_peer = TcpStream::connect(address).await.unwrap();
    silent_peer
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .await
        .unwrap();
    let started = Instant::now();
    app.stop().await;
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "{:?}",
        started.elapsed()
    );
    drop((silent, silent_peer));
}

#[tokio::test]
async fn second_signal_ends_drain_early() {
    let (upstream, arrived) = hanging().await;
    let folder = App::folder();
    let section = batch_section(&folder, &upstream.url);
    let (force_stop, short_deadline) = oneshot::channel::<()>();
    let mut app = App::start_with_force_stop(folder, &section, short_deadline).await;
    let mut client = app.client();
    let call =
        tokio::spawn(async move { client.delete_batch_node_user(batch_request("alice")).await });
    arrived.notified().await;
    // The drain may take 25 seconds; both signals arrive before it starts.
    force_stop.send(()).unwrap();
    let started = Instant::now();
    app.drain().await;
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "{:?}",
        started.elapsed()
    );
    let failure = CallFailure::from(call.await.unwrap().unwrap_err());
    failure.expect(Code::DeadlineExceeded, "OUTCOME_UNKNOWN");
    assert_eq!(app.audit()[1]["outcome"], "unknown");
}
