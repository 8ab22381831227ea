//! Access to health and reflection, rejection of requests that are not gRPC, and calls that must not delay others.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use http::{Method, header::CONTENT_TYPE};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::spawn_blocking,
    time::timeout,
};
use tonic::{Code, Request, Status, body::Body};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest,
};

use tower::ServiceExt as _;
use useradmin_testkit::{
    App, CallFailure, SecureClient, batch_request, batch_section, run, run_with_env,
};

use super::{SecureServer, uri};
use crate::authorization::upstream;

async fn start_server(settings: &str) -> SecureServer {
    let upstream = upstream().await;
    SecureServer::start(upstream, batch_section, settings).await
}

async fn health(client: &SecureClient) -> Result<(), CallFailure> {
    let request = client.request(HealthCheckRequest::default());
    let response = HealthClient::new(client.channel()).check(request).await;
    response.map(|_| ()).map_err(CallFailure::from)
}

async fn reflection(client: &SecureClient) -> Result<(), CallFailure> {
    let list_services = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let request: Request<_> = client.request(futures_util::stream::iter([list_services]));
    let mut client = ServerReflectionClient::new(client.channel());
    let response = client.server_reflection_info(request).await;
    response.map(|_| ()).map_err(CallFailure::from)
}

#[tokio::test]
async fn health_and_reflection_require_identity_only_if_configured() {
    for (settings, health_open, reflection_open) in [
        ("", true, true),
        ("health_needs_identity = true", false, true),
        ("reflection_needs_identity = true", true, false),
        (
            "health_needs_identity = true\nreflection_needs_identity = true",
            false,
            false,
        ),
    ] {
        let server = start_server(settings).await;
        // Authentication is sufficient; permissions only apply to deletions.
        let identified = server.with_names(vec![uri("spiffe://corp/unlisted")]);
        let token = server.with_subject("unlisted");
        let unauthenticated = server.client(None);
        let invalid_token = unauthenticated.with_token("rubbish");
        for (client, identified) in [
            (identified, true),
            (token, true),
            (unauthenticated, false),
            (invalid_token, false),
        ] {
            for (response, allowed_unauthenticated) in [
                (health(&client).await, health_open),
                (reflection(&client).await, reflection_open),
            ] {
                match response {
                    Ok(()) => assert!(identified || allowed_unauthenticated, "{settings}"),
                    Err(failure) => {
                        assert!(
                            !identified && !allowed_unauthenticated,
                            "{settings} {failure:?}"
                        );
                        assert_eq!(failure.code, Code::Unauthenticated);
                        assert_eq!(failure.reason, "ERROR_REASON_CALLER_UNAUTHENTICATED");
                        assert!(
                            !failure.metadata_value("cause").is_empty()
                                && failure.trailer_id.is_some()
                        );
                    }
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn health_command_works_over_tls() {
    let server = start_server("").await;
    let address = server.app.address.to_string();
    let file = |name: &str| server.app.folder.join(name).display().to_string();
    for (ca_file, name, expected) in [
        ("clients.pem", "localhost", 0),
        ("server.pem", "localhost", 0),
        ("clients.pem", "other.example", 1),
        ("gone.pem", "localhost", 1),
    ] {
        let (address, ca_file) = (address.clone(), file(ca_file));
        let output = spawn_blocking(move || {
            run(&[
                "health",
                "--addr",
                &address,
                "--ca-file",
                &ca_file,
                "--server-name",
                name,
            ])
        });
        let (code, out, err) = output.await.unwrap();
        assert_eq!((code, out.as_str()), (expected, ""), "{err}");
    }
    // Configured by environment variables, like the health check of a container image.
    let (own, ca_file) = (address.clone(), file("clients.pem"));
    let output = spawn_blocking(move || {
        let address = ("USERADMIN_HEALTH_ADDR", own.as_str());
        let ca_file = ("USERADMIN_HEALTH_CA_FILE", ca_file.as_str());
        let name = |name| ("USERADMIN_HEALTH_SERVER_NAME", name);
        ["localhost", "other.example"]
            .map(|server| run_with_env(&[address, ca_file, name(server)], &["health"]).0)
    });
    assert_eq!(output.await.unwrap(), [0, 1]);
    // Plaintext is not accepted.
    let output = spawn_blocking(move || run(&["health", "--addr", &address]));
    assert_eq!(output.await.unwrap().0, 1);
}

/// A page on another site can make a browser send such requests with the certificate of its user.
#[tokio::test]
async fn non_grpc_requests_are_rejected() {
    let server = start_server("").await;
    let identified = server.with_names(vec![uri("spiffe://corp/unlisted")]);
    let rpc = "/useradmin.v1.UserAdmin/DeleteBatchNodeUser";
    for (method, content_type, status) in [
        (Method::GET, "application/grpc", 405),
        (Method::OPTIONS, "application/grpc", 405),
        (Method::PUT, "application/grpc", 405),
        (Method::POST, "", 415),
        (Method::POST, "text/plain", 415),
        (Method::POST, "application/json", 415),
        (Method::POST, "application/x-www-form-urlencoded", 415),
        (Method::POST, "application/grpc-web", 415),
        (Method::POST, "application/grpcx", 415),
        (Method::POST, "application/grpc", 200),
        (Method::POST, "application/grpc+proto", 200),
        (Method::POST, "Application/gRPC; x=y", 200),
    ] {
        let mut request = http::Request::builder()
            .method(&method)
            .uri(format!("https://localhost{rpc}"))
            .body(Body::empty())
            .unwrap();
        if !content_type.is_empty() {
            let value = content_type.parse().unwrap();
            request.headers_mut().insert(CONTENT_TYPE, value);
        }
        let response = identified.channel().oneshot(request).await.unwrap();
        assert_eq!(response.status(), status, "{method} {content_type}");
    }
    assert!(server.upstream.received().is_empty());
}

#[tokio::test]
async fn silent_peers_do_not_delay_others() {
    let server = start_server("").await;
    let silent = (0..200).map(|_| TcpStream::connect(server.app.address));
    let silent = join_all(silent).await;
    let started = Instant::now();
    health(&server.client(None)).await.unwrap();
    assert!(
        started.elapsed() < Duration::from_secs(2),
        "{:?}",
        started.elapsed()
    );
    drop(silent);
}

/// Returns a body that never ends.
fn endless() -> Body {
    let never = futures_util::stream::pending::<Result<http_body::Frame<bytes::Bytes>, Status>>();
    Body::new(http_body_util::StreamBody::new(never))
}

#[tokio::test]
async fn missing_message_times_out() {
    let server = start_server("").await;
    let identified = server.with_names(vec![uri("spiffe://corp/unlisted")]);
    for (client, code, reason) in [
        (&identified, Code::DeadlineExceeded, "DEADLINE_EXCEEDED"),
        (
            &server.client(None),
            Code::Unauthenticated,
            "CALLER_UNAUTHENTICATED",
        ),
    ] {
        let request = http::Request::post("https://localhost/useradmin.v1.UserAdmin/DeleteHmcUser")
            .header(CONTENT_TYPE, "application/grpc")
            .header("te", "trailers")
            .header("grpc-timeout", "700m")
            .body(endless())
            .unwrap();
        // The connection is established; the test measures only the wait for the message.
        health(client).await.unwrap();
        let started = Instant::now();
        let response = client.channel().oneshot(request).await.unwrap();
        let status = Status::from_header_map(response.headers()).unwrap();
        // The call ends before the message timeout of 10 seconds and before the default deadline. The details of the
        // status show that the response comes from the server and not from the transport at the deadline.
        assert!(started.elapsed() < Duration::from_secs(5));
        CallFailure::from(status).expect(code, reason);
    }
    assert!(server.upstream.received().is_empty());
}

#[tokio::test]
async fn connection_without_preface_is_closed() {
    let (upstream, folder) = (upstream().await, App::folder());
    let text = "[server]\nlisten = \"127.0.0.1:0\"\nadmin_listen = \"\"\n";
    let section = batch_section(&folder, &upstream.url);
    let app = App::start_with_text(folder, &format!("{text}{section}")).await;
    let part = b"PRI * HTTP/2.0\r\n";
    let until_closed = [&b""[..], part].map(|sent| async move {
        let mut stream = TcpStream::connect(app.address).await.unwrap();
        stream.write_all(sent).await.unwrap();
        // The connection may be closed or reset.
        let _ = stream.read_to_end(&mut Vec::new()).await;
    });
    let until_closed = timeout(Duration::from_secs(9), join_all(until_closed)).await;
    assert!(until_closed.is_ok(), "still open");
}

#[tokio::test]
async fn max_age_closes_connection_without_losing_calls() {
    let text = "[server]\nlisten = \"127.0.0.1:0\"\nadmin_listen = \"\"\n\
        [server.limits]\nmax_connection_age_seconds = 1\n\
        [[callers]]\nidentity = \"anonymous\"\nallow = [{ rpc = \"DeleteBatchNodeUser\", targets = [\"*\"] }]\n";
    let (upstream, folder) = (upstream().await, App::folder());
    let section = batch_section(&folder, &upstream.url);
    let app = App::start_with_text(folder, &format!("{text}{section}")).await;
    let started = Instant::now();
    let mut succeeded = 0;
    loop {
        match app.delete_batch_node_user(batch_request("alice")).await {
            Ok(_) => succeeded += 1,
            // The client of tonic assigned the call to a connection that was being closed, so the call was never sent.
            Err(status) => assert_eq!(status.message, "operation was canceled"),
        }
        let records = app.audit();
        let intents = records.iter().filter(|record| record["event"] == "intent");
        assert_eq!(intents.count(), succeeded);
        if records.last().unwrap()["peer"] != records[0]["peer"] {
            break;
        }
        assert!(started.elapsed() < Duration::from_secs(10));
    }
    assert!(started.elapsed() > Duration::from_millis(900));
}
