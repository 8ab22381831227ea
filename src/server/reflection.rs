//! Server reflection, v1 and v1alpha. `tonic-reflection` ends the stream at the first request that it cannot answer;
//! here such a request gets an error response, and the stream continues (reflection.proto).

use futures_util::{
    StreamExt as _, TryStreamExt as _,
    stream::{self, BoxStream},
};
use http::{Request, Uri};
use tokio_util::sync::CancellationToken;
use tonic::{Response, Status, Streaming};
use tonic_reflection::pb::{
    v1::{
        ErrorResponse, ExtensionNumberResponse, ServerReflectionRequest, ServerReflectionResponse,
        server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest,
        server_reflection_response::MessageResponse,
        server_reflection_server::{ServerReflection, ServerReflectionServer},
    },
    v1alpha,
};

use crate::{
    proto,
    service::{call_context::CallContext, transport_errors},
};

type Client<T> = ServerReflectionClient<ServerReflectionServer<T>>;

/// The reflection service. It forwards each request to a service of `tonic-reflection`, in a separate stream. When
/// the server drains, it reads no more requests.
struct Reflection<T> {
    client: Client<T>,
    draining: CancellationToken,
}

/// Creates the reflection service for all services of this server.
pub fn service(
    draining: CancellationToken,
) -> Result<ServerReflectionServer<impl ServerReflection>, String> {
    let inner = tonic_reflection::server::Builder::configure()
        .register_file_descriptor_set(proto::descriptors())
        .register_encoded_file_descriptor_set(v1alpha::FILE_DESCRIPTOR_SET)
        .build_v1()
        .map_err(|error| format!("reflection: {error}"))?;
    let client = ServerReflectionClient::new(inner);
    Ok(ServerReflectionServer::new(Reflection { client, draining }))
}

/// Sends one request, and returns the response of `tonic-reflection`.
async fn send<T: ServerReflection>(
    mut client: Client<T>,
    message_request: Option<MessageRequest>,
) -> Result<Option<MessageResponse>, Status> {
    let request = ServerReflectionRequest {
        message_request,
        ..ServerReflectionRequest::default()
    };
    let responses = client
        .server_reflection_info(stream::iter([request]))
        .await?;
    let response = responses.into_inner().message().await?;
    Ok(response.and_then(|response| response.message_response))
}

/// Returns the response to a request, which is an error response if `tonic-reflection` fails.
async fn respond<T: ServerReflection>(
    client: Client<T>,
    request: ServerReflectionRequest,
) -> ServerReflectionResponse {
    let response = match request.message_request.clone() {
        // `tonic-reflection` reports no extensions for an unknown type, too, so the type is looked up as a symbol.
        Some(MessageRequest::AllExtensionNumbersOfType(base_type_name)) => {
            let symbol = MessageRequest::FileContainingSymbol(base_type_name.clone());
            let numbers = ExtensionNumberResponse {
                base_type_name,
                extension_number: Vec::new(),
            };
            let found = send(client, Some(symbol)).await;
            found.map(|_| Some(MessageResponse::AllExtensionNumbersResponse(numbers)))
        }
        message_request => send(client, message_request).await,
    };
    let error = |status: Status| {
        Some(MessageResponse::ErrorResponse(ErrorResponse {
            error_code: status.code().into(),
            error_message: status.message().to_owned(),
        }))
    };
    ServerReflectionResponse {
        valid_host: request.host.clone(),
        original_request: Some(request),
        message_response: response.unwrap_or_else(error),
    }
}

#[tonic::async_trait]
impl<T: ServerReflection> ServerReflection for Reflection<T> {
    type ServerReflectionInfoStream = BoxStream<'static, Result<ServerReflectionResponse, Status>>;

    async fn server_reflection_info(
        &self,
        request: tonic::Request<Streaming<ServerReflectionRequest>>,
    ) -> Result<Response<Self::ServerReflectionInfoStream>, Status> {
        let client = self.client.clone();
        let call = CallContext::of(request.extensions());
        let responses = request
            .into_inner()
            .map_err(move |error| transport_errors::stream_error(&call, error))
            .take_until(self.draining.clone().cancelled_owned())
            .and_then(move |request| {
                let response = respond(client.clone(), request);
                async move { Ok(response.await) }
            });
        Ok(Response::new(responses.boxed()))
    }
}

/// Changes the path of a call of `grpc.reflection.v1alpha` to that of `grpc.reflection.v1`, whose messages are the
/// same on the wire. Does not change other requests.
pub fn use_current_version<B>(request: &mut Request<B>) {
    const V1_ALPHA: &str = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo";
    const V1: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    if request.uri().path() == V1_ALPHA {
        *request.uri_mut() = Uri::from_static(V1);
    }
}
