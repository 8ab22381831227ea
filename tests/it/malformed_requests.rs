//! Requests whose message cannot be decoded or is too large: they are refused like every other invalid request.

use http::uri::PathAndQuery;
use prost::{
    Message as _,
    bytes::{Buf as _, BufMut as _, Bytes},
};
use prost_types::field_descriptor_proto::Type;
use tokio::net::TcpStream;
use tonic::{
    Code, Request, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};
use useradmin::{proto::descriptors, sandbox::Sandbox};
use useradmin_testkit::{
    App, CallFailure, Reply, Signer, Upstream, batch_deleted, batch_request, batch_section,
    delete_by_id, start_batch,
};

use crate::callers::issuer_section;

const BATCH: &str = "/useradmin.v1.UserAdmin/DeleteBatchNodeUser";
const HMC: &str = "/useradmin.v1.UserAdmin/DeleteHmcUser";

/// A codec that sends bytes unchanged.
#[derive(Default)]
pub struct Bare;

impl Codec for Bare {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Bare {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Bare {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

async fn call_with_bytes(app: &App, rpc: &str, message: &[u8]) -> CallFailure {
    let mut client = Grpc::new(app.channel());
    client.ready().await.unwrap();
    let path = PathAndQuery::try_from(rpc).unwrap();
    let message = Request::new(Bytes::copy_from_slice(message));
    let response = client.unary::<Bytes, Bytes, _>(message, path, Bare).await;
    response.unwrap_err().into()
}

/// Encodes a field of bytes: tag, length, value.
fn encode_field(number: u8, value: &[u8]) -> Vec<u8> {
    let mut message = vec![number << 3 | 2, u8::try_from(value.len()).unwrap()];
    message.extend_from_slice(value);
    message
}

#[tokio::test]
async fn malformed_message_is_invalid_request_with_details() {
    let upstream = Upstream::start(|_| Reply::empty(200)).await;
    let folder = App::folder();
    let section = batch_section(&folder, &upstream.url);
    let app = App::start_in(folder, &section).await;
    let rows: [(&'static str, Vec<u8>, &str); 11] = [
        (BATCH, encode_field(1, b"\xFF\xFE"), "account"),
        (BATCH, encode_field(2, b"\xC0\x80"), "pool_id"),
        (BATCH, encode_field(3, b"\xED\xA0\x80"), "node_id"),
        (BATCH, encode_field(4, b"\xF4\x90\x80\x80"), "user_name"),
        (BATCH, encode_field(7, b"a\xC3"), "client_request_id"),
        (HMC, encode_field(1, b"\xFF"), "hmc"),
        (HMC, encode_field(2, b"\xFF"), "user"),
        (HMC, encode_field(3, b"\xFF"), "user"),
        // A wrong wire type, a truncated field, an invalid tag.
        (BATCH, vec![4 << 3, 1], "user_name"),
        (BATCH, vec![4 << 3 | 2, 9, b'a'], "user_name"),
        (BATCH, vec![0, 0], ""),
    ];
    for (rpc, message, field) in rows {
        let failure = call_with_bytes(&app, rpc, &message).await;
        failure.expect(Code::InvalidArgument, "INVALID_REQUEST");
        assert_eq!(failure.bad_request[0].0, field, "{message:?}");
        assert_eq!(failure.metadata_value("outcome"), "not_sent");
    }
    assert!(upstream.received().is_empty());
}

#[tokio::test]
async fn omitted_alias_without_targets_names_the_cause() {
    let (app, _) = start_batch(|_| Reply::empty(200)).await;
    let failure = app.delete_hmc_user(delete_by_id("id-1")).await.unwrap_err();
    failure.expect(Code::InvalidArgument, "INVALID_REQUEST");
    let cause = "no target of this kind is configured";
    assert_eq!(failure.bad_request, [("hmc".to_owned(), cause.to_owned())]);
}

/// Sends a character that no rule permits in each text field of each rpc.
#[tokio::test]
async fn every_text_field_of_every_rpc_has_a_rule() {
    let sandbox = Sandbox::start().await.unwrap();
    let app = crate::sandbox::serve_sandbox(&sandbox).await;
    let files = descriptors().file;
    let api = files
        .iter()
        .find(|file| !file.service.is_empty() && file.package() == "useradmin.v1");
    let api = api.unwrap();
    for rpc in &api.service[0].method {
        let path = format!("/useradmin.v1.UserAdmin/{}", rpc.name());
        let request = rpc.input_type().rsplit('.').next();
        let mut messages = api.message_type.iter();
        let request = messages.find(|message| message.name.as_deref() == request);
        let fields = request.unwrap().field.iter();
        for text in fields.filter(|field| field.r#type() == Type::String) {
            let number = u8::try_from(text.number()).unwrap();
            let failure =
                call_with_bytes(&app, &path, &encode_field(number, "\u{202e}".as_bytes())).await;
            failure.expect(Code::InvalidArgument, "INVALID_REQUEST");
            let mut violations = failure.bad_request.iter();
            assert!(
                violations.any(|violation| violation.0 == text.name()),
                "{path}: {}",
                text.name()
            );
        }
    }
}

/// An unauthenticated call is recorded, whatever its message is.
#[tokio::test]
async fn malformed_message_without_identity_is_unauthenticated() {
    let upstream = Upstream::start(|_| Reply::empty(200)).await;
    let folder = App::folder();
    let server_section = "[server]\nlisten = \"127.0.0.1:0\"\nadmin_listen = \"\"\n";
    let issuer = issuer_section(&folder, &Signer::es256("key-1"));
    let section = batch_section(&folder, &upstream.url);
    let app = App::start_with_text(folder, &format!("{server_section}{issuer}{section}")).await;
    for (rpc, message) in [(BATCH, encode_field(1, b"\xFF")), (HMC, vec![0, 0])] {
        let failure = call_with_bytes(&app, rpc, &message).await;
        failure.expect(Code::Unauthenticated, "CALLER_UNAUTHENTICATED");
        let records = app.audit();
        let record = records.last().unwrap();
        assert_eq!(record["request_id"], failure.request_id);
        assert!(rpc.ends_with(record["rpc"].as_str().unwrap()));
        assert_eq!(
            (&record["outcome"], &record["cause"]),
            (&"denied".into(), &"nothing_shown".into())
        );
    }
    assert_eq!(app.audit().len(), 2);
}

#[tokio::test]
async fn too_large_message_is_invalid_request() {
    let upstream = Upstream::start(|_| Reply::empty(200)).await;
    let folder = App::folder();
    let section = batch_section(&folder, &upstream.url);
    let app = App::start_in(folder, &section).await;
    for length in [66_000, 3_000_000] {
        let request = batch_request(&"a".repeat(length));
        let failure = app.delete_batch_node_user(request).await.unwrap_err();
        failure.expect(Code::InvalidArgument, "INVALID_REQUEST");
    }
    assert!(upstream.received().is_empty());
}

#[tokio::test]
async fn other_transport_errors_are_unchanged() {
    let upstream = Upstream::start(|_| Reply::empty(200)).await;
    let folder = App::folder();
    let section = batch_section(&folder, &upstream.url);
    let app = App::start_in(folder, &section).await;
    let mut client = Grpc::new(app.channel());
    client.ready().await.unwrap();
    let path = PathAndQuery::from_static("/useradmin.v1.UserAdmin/Nothing");
    let message = Request::new(Bytes::new());
    let response = client.unary::<Bytes, Bytes, _>(message, path, Bare).await;
    assert_eq!(response.unwrap_err().code(), Code::Unimplemented);
}

/// A malformed deadline is reported even if the message arrives much later.
#[tokio::test]
async fn malformed_deadline_is_reported_before_message_arrives() {
    let (app, _upstream) = start_batch(|_| batch_deleted()).await;
    let stream = TcpStream::connect(app.address).await.unwrap();
    let (mut client, mut connection) = h2::client::handshake(stream).await.unwrap();
    let mut pings = connection.ping_pong().unwrap();
    tokio::spawn(async move { drop(connection.await) });
    let request = http::Request::post("http://server/useradmin.v1.UserAdmin/DeleteBatchNodeUser")
        .header("content-type", "application/grpc")
        .header("grpc-timeout", "5 minutes")
        .body(())
        .unwrap();
    let (response, mut body) = client.send_request(request, false).unwrap();
    // The server has received the headers, and had time to process them.
    for _ in 0..10 {
        pings.ping(h2::Ping::opaque()).await.unwrap();
    }
    let message = batch_request("alice").encode_to_vec();
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    let frame = [&[0], &length[..], &message].concat();
    body.send_data(frame.into(), true).unwrap();
    let response = response.await.unwrap();
    let status = Status::from_header_map(response.headers()).unwrap();
    let failure = CallFailure::from(status);
    failure.expect(Code::InvalidArgument, "INVALID_REQUEST");
    assert_eq!(failure.bad_request[0].0, "grpc-timeout");
}
