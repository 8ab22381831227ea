//! The gRPC conventions for health, reflection and compression.

use std::time::{Duration, Instant};

use futures_util::{FutureExt as _, Stream, StreamExt as _, stream};
use http::uri::PathAndQuery;
use prost::Message as _;
use tonic::{Code, Request, Streaming, client::Grpc, codec::CompressionEncoding};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_prost::ProstCodec;
use tonic_reflection::pb::v1::{
    ExtensionRequest, ServerReflectionRequest, ServerReflectionResponse,
    server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest::{
        self, AllExtensionNumbersOfType, FileByFilename, FileContainingExtension,
        FileContainingSymbol, ListServices,
    },
    server_reflection_response::MessageResponse,
};
use useradmin_testkit::{App, CallFailure, batch_deleted, batch_request, start_batch};

use crate::malformed_requests::Bare;

const REFLECTIONS: [&str; 2] = [
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];

/// health.proto: the service may become known later, so the stream stays open.
#[tokio::test]
async fn watch_of_unknown_service_stays_open() {
    let (app, _upstream) = start_batch(|_| batch_deleted()).await;
    let mut health = HealthClient::new(app.channel());
    let request = |service: &str| HealthCheckRequest {
        service: service.to_owned(),
    };
    let (known, unknown) = (ServingStatus::Serving, ServingStatus::ServiceUnknown);
    let mut watches = Vec::new();
    for (service, expected) in [
        ("", known),
        ("useradmin.v1.UserAdmin", known),
        ("no.such.Service", unknown),
        ("grpc.health.v1.Health", unknown),
        ("useradmin.v1.useradmin", unknown),
        (" ", unknown),
    ] {
        let updates = health.watch(request(service)).await.unwrap();
        let mut updates = updates.into_inner();
        let report = updates.message().await.unwrap().unwrap();
        assert_eq!(report.status(), expected, "{service}");
        watches.push(updates);
        let check = health.check(request(service)).await;
        match check {
            Ok(check) => assert_eq!(check.into_inner().status(), known),
            Err(status) => assert_eq!((status.code(), expected), (Code::NotFound, unknown)),
        }
    }
    // The end of a stream would have arrived before the responses above.
    for updates in &mut watches {
        assert!(updates.message().now_or_never().is_none());
    }
}

type Reflected = Streaming<ServerReflectionResponse>;

async fn reflect(
    app: &App,
    path: &'static str,
    questions: Vec<Option<MessageRequest>>,
) -> Reflected {
    let requests = questions
        .into_iter()
        .map(|message_request| ServerReflectionRequest {
            host: "host".to_owned(),
            message_request,
        });
    reflect_all(app, path, stream::iter(requests.collect::<Vec<_>>())).await
}

async fn reflect_all(
    app: &App,
    path: &'static str,
    requests: impl Stream<Item = ServerReflectionRequest> + Send + 'static,
) -> Reflected {
    let mut client = Grpc::new(app.channel());
    client.ready().await.unwrap();
    let requests = Request::new(requests);
    let codec = ProstCodec::<ServerReflectionRequest, ServerReflectionResponse>::default();
    let path = PathAndQuery::from_static(path);
    client
        .streaming(requests, path, codec)
        .await
        .unwrap()
        .into_inner()
}

/// Neither the peers of these streams nor the server wait until the connection is closed.
#[tokio::test]
async fn open_streams_end_with_status_at_shutdown() {
    let (mut app, _upstream) = start_batch(|_| batch_deleted()).await;
    let mut health = HealthClient::new(app.channel());
    let mut watches = Vec::new();
    for (service, last) in [
        ("", Some(ServingStatus::NotServing)),
        ("useradmin.v1.UserAdmin", Some(ServingStatus::NotServing)),
        ("no.such.Service", None),
    ] {
        let service = service.to_owned();
        let updates = health.watch(HealthCheckRequest { service }).await.unwrap();
        let mut updates = updates.into_inner();
        assert!(updates.message().await.unwrap().is_some());
        watches.push((updates, last));
    }
    let mut reflections = Vec::new();
    for path in REFLECTIONS {
        let request = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(ListServices(String::new())),
        };
        let requests = stream::iter([request]).chain(stream::pending());
        let mut responses = reflect_all(&app, path, requests).await;
        assert!(responses.message().await.unwrap().is_some());
        reflections.push(responses);
    }
    let started = Instant::now();
    app.drain().await;
    // The grace period for a silent or slow peer is longer than this.
    assert!(
        started.elapsed() < Duration::from_secs(1),
        "{:?}",
        started.elapsed()
    );
    for (updates, last) in &mut watches {
        if let Some(last) = last {
            let report = updates.message().await.unwrap().unwrap();
            assert_eq!(report.status(), *last);
        }
        assert_eq!(updates.message().await.unwrap(), None);
    }
    for responses in &mut reflections {
        assert_eq!(responses.message().await.unwrap(), None);
    }
}

/// Returns a short name of the response, or the code of its error.
fn kind(response: &MessageResponse) -> String {
    match response {
        MessageResponse::FileDescriptorResponse(files) => {
            let file = files.file_descriptor_proto[0].as_slice();
            prost_types::FileDescriptorProto::decode(file)
                .unwrap()
                .name
                .unwrap()
        }
        MessageResponse::AllExtensionNumbersResponse(numbers) => {
            format!(
                "{} of {}",
                numbers.extension_number.len(),
                numbers.base_type_name
            )
        }
        MessageResponse::ListServicesResponse(_) => "services".to_owned(),
        MessageResponse::ErrorResponse(error) => format!("{:?}", Code::from(error.error_code)),
    }
}

#[tokio::test]
async fn unknown_symbol_does_not_end_reflection_stream() {
    let (app, _upstream) = start_batch(|_| batch_deleted()).await;
    let of = |kind: fn(String) -> MessageRequest, name: &str| Some(kind(name.to_owned()));
    let extension = ExtensionRequest {
        containing_type: "useradmin.v1.BatchError".to_owned(),
        extension_number: 1_000,
    };
    let (api, details) = (
        "useradmin/v1/user_admin.proto",
        "useradmin/v1/error_details.proto",
    );
    let rows = [
        (of(FileContainingSymbol, "no.Such"), "NotFound"),
        (of(FileContainingSymbol, ""), "NotFound"),
        (of(FileContainingSymbol, "useradmin.v1.UserAdmin"), api),
        (
            of(FileContainingSymbol, "useradmin.v1.UserAdmin.DeleteHmcUser"),
            api,
        ),
        (
            of(
                FileContainingSymbol,
                "useradmin.v1.DeleteHmcUserRequest.user",
            ),
            api,
        ),
        (of(FileContainingSymbol, "useradmin.v1.BatchError"), details),
        (of(FileByFilename, "no/such.proto"), "NotFound"),
        (of(FileByFilename, api), api),
        (Some(FileContainingExtension(extension)), "NotFound"),
        (
            of(AllExtensionNumbersOfType, "useradmin.v1.BatchError"),
            "0 of useradmin.v1.BatchError",
        ),
        (of(AllExtensionNumbersOfType, "no.Such"), "NotFound"),
        (None, "InvalidArgument"),
        (of(ListServices, "*"), "services"),
    ];
    for path in REFLECTIONS {
        let questions = rows.iter().map(|(question, _)| question.clone()).collect();
        let mut responses = reflect(&app, path, questions).await;
        for (question, expected) in &rows {
            let response = responses.message().await.unwrap().unwrap();
            assert_eq!(
                kind(&response.message_response.unwrap()),
                *expected,
                "{question:?}"
            );
            assert_eq!(response.valid_host, "host");
            assert_eq!(
                response.original_request.unwrap().message_request,
                *question
            );
        }
        assert!(responses.message().await.unwrap().is_none());
    }
}

#[tokio::test]
async fn malformed_reflection_request_ends_stream_with_details() {
    let (app, _upstream) = start_batch(|_| batch_deleted()).await;
    let list = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(ListServices(String::new())),
    };
    for path in REFLECTIONS {
        let mut client = Grpc::new(app.channel());
        client.ready().await.unwrap();
        let requests = [list.encode_to_vec().into(), vec![0xff; 20].into()];
        let requests = Request::new(stream::iter(requests));
        let path = PathAndQuery::from_static(path);
        let responses = client.streaming(requests, path, Bare).await.unwrap();
        let mut responses = responses.into_inner();
        assert!(responses.message().await.unwrap().is_some());
        let failure = CallFailure::from(responses.message().await.unwrap_err());
        assert_eq!(failure.code, Code::InvalidArgument);
        assert_eq!(failure.reason, "ERROR_REASON_INVALID_REQUEST");
    }
}

#[tokio::test]
async fn compressed_requests_are_accepted_and_responses_uncompressed() {
    let (app, _upstream) = start_batch(|_| batch_deleted()).await;
    let gzip = CompressionEncoding::Gzip;
    let mut client = app.client().send_compressed(gzip);
    let user = "a".repeat(200);
    let response = client.delete_batch_node_user(batch_request(&user)).await;
    assert!(!response.unwrap().metadata().contains_key("grpc-encoding"));
    let mut health = HealthClient::new(app.channel()).send_compressed(gzip);
    let response = health.check(HealthCheckRequest::default()).await;
    assert!(!response.unwrap().metadata().contains_key("grpc-encoding"));
    let mut reflection = ServerReflectionClient::new(app.channel()).send_compressed(gzip);
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(ListServices(String::new())),
    };
    let request = stream::iter([request]);
    let response = reflection.server_reflection_info(request).await.unwrap();
    assert!(response.into_inner().message().await.unwrap().is_some());
}

/// gRPC, "Compression": the response lists the accepted encodings.
#[tokio::test]
async fn unsupported_compression_is_refused_with_accepted_list() {
    let (app, upstream) = start_batch(|_| batch_deleted()).await;
    for encoding in [
        "deflate",
        "zstd",
        "snappy",
        "br",
        "GZIP",
        "x",
        "gzip,identity",
    ] {
        let rpcs = [
            "/useradmin.v1.UserAdmin/DeleteBatchNodeUser",
            "/useradmin.v1.UserAdmin/DeleteHmcUser",
            "/grpc.health.v1.Health/Check",
        ];
        for path in rpcs.into_iter().chain(REFLECTIONS) {
            let mut request = Request::new(stream::iter([Vec::new().into()]));
            let value = encoding.parse().unwrap();
            request.metadata_mut().insert("grpc-encoding", value);
            let mut client = Grpc::new(app.channel());
            client.ready().await.unwrap();
            let path = PathAndQuery::from_static(path);
            let status = client.streaming(request, path, Bare).await.unwrap_err();
            let accepted = status.metadata().get("grpc-accept-encoding");
            assert_eq!(accepted.unwrap(), "identity,gzip", "{encoding}");
            let failure = CallFailure::from(status);
            assert_eq!(failure.code, Code::InvalidArgument);
            assert_eq!(failure.reason, "ERROR_REASON_INVALID_REQUEST");
            assert_eq!(failure.bad_request[0].0, "grpc-encoding");
        }
    }
    assert!(upstream.received().is_empty());
}
