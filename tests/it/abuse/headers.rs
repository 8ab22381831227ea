//! Header lists that are too long or invalid for a request.

use std::sync::Arc;

use super::{
    Attack, attack, distinct,
    frames::{
        CONTINUATION, END_HEADERS, END_STREAM, Fields, HEADERS, MAX_FRAME, PATH, fields, frame,
        integer, literal, message, stream_id, with_body,
    },
    peer::Peer,
    send_bytes,
    streams::MAX_STREAMS,
    target::Connector,
};

const STREAM_ERROR: &str = "RST_STREAM PROTOCOL_ERROR";
const TOO_LARGE: &str = "InvalidArgument INVALID_REQUEST";
/// Result for header lists between one and four times the size that HTTP/2 accepts.
const UNREAD_HEADERS: &str = "HTTP 431";
const CONNECTION_ERROR: &str = "GOAWAY PROTOCOL_ERROR";

/// Creates a call with this header list.
fn call_with_headers(name: &'static str, end: &'static str, list: &Fields) -> Attack {
    send_bytes(name, end, list.call(1, "x"))
}

/// Creates a request with this HPACK block.
fn request_with_block(name: &'static str, end: &'static str, block: &[u8]) -> Attack {
    send_bytes(
        name,
        end,
        frame(
            HEADERS,
            END_HEADERS | END_STREAM,
            1,
            &[&fields().block(), block].concat(),
        ),
    )
}

fn small_fields(count: usize) -> Fields {
    (0..count).fold(fields(), |list, index| list.with(&format!("x{index}"), "y"))
}

#[rustfmt::skip]
pub fn attacks() -> Vec<Attack> {
    let repeated_x = |length: usize| vec![b'x'; length];
    let mut attacks = vec![
        attack("the accepted size", "6 is 8192", advertised_size),
        call_with_headers("metadata of 7,000 bytes", "OK", &fields().with("x", repeated_x(7_000))),
        call_with_headers("a bit over 8 KiB", TOO_LARGE, &fields().with("x", repeated_x(8_192))),
        call_with_headers("4 times over 8 KiB", TOO_LARGE, &fields().with("x", repeated_x(32_768))),
        call_with_headers("a value of 60,000 bytes", TOO_LARGE, &fields().with("x", repeated_x(60_000))),
        call_with_headers("a binary value of 100,000 bytes", TOO_LARGE, &fields().with("x-bin", repeated_x(100_000))),
        call_with_headers("a name of 20,000 bytes", TOO_LARGE, &fields().with(&"x".repeat(20_000), "")),
        call_with_headers("a token of 100,000 bytes", TOO_LARGE, &fields().with("authorization", [b"Bearer ".to_vec(), repeated_x(100_000)].concat())),
        call_with_headers("250 small fields", TOO_LARGE, &small_fields(250)),
        call_with_headers("6,000 small fields", TOO_LARGE, &small_fields(6_000)),
        call_with_headers("a value of 250,000 bytes", TOO_LARGE, &fields().with("x", repeated_x(250_000))),
        call_with_headers("a value of 300,000 bytes", UNREAD_HEADERS, &fields().with("x", repeated_x(300_000))),
        call_with_headers("10,000 small fields", UNREAD_HEADERS, &small_fields(10_000)),
        call_with_headers("20,000 small fields", UNREAD_HEADERS, &small_fields(20_000)),
        call_with_headers("a value of 1 MiB", "GOAWAY ENHANCE_YOUR_CALM too_many_continuations", &fields().with("x", repeated_x(1 << 20))),
        call_with_headers("a path of 8 KiB", "Unimplemented without details", &fields().set(":path", [b"/".to_vec(), repeated_x(8_192)].concat())),
        call_with_headers("a path of 100,000 bytes", STREAM_ERROR, &fields().set(":path", [b"/".to_vec(), repeated_x(100_000)].concat())),
        call_with_headers("an authority of 9,000 bytes", TOO_LARGE, &fields().set(":authority", repeated_x(9_000))),
        attack("large header lists on many streams", TOO_LARGE, large_lists),
        attack("values that do not end", "usable", endless_values),
        attack("header lists that do not end", "usable", endless_fields),
        attack("a large entry, again and again", "GOAWAY ENHANCE_YOUR_CALM header_list_way_too_large", hpack_bomb),
        request_with_block("an index of nothing", CONNECTION_ERROR, &integer(0x80, 7, 3_000)),
        request_with_block("index 0", CONNECTION_ERROR, &[0x80]),
        request_with_block("an integer without end", CONNECTION_ERROR, &[0xff; 40]),
        request_with_block("a table over 4,096 bytes", CONNECTION_ERROR, &integer(0x20, 5, 1 << 20)),
        request_with_block("bits that are no Huffman code", CONNECTION_ERROR, b"\0\x84\xff\xff\xff\xff\x01x"),
        request_with_block("half a field", CONNECTION_ERROR, b"\0\x05ab"),
    ];
    attacks.extend(requests());
    attacks
}

#[rustfmt::skip]
fn requests() -> Vec<Attack> {
    let without_te = || fields().without("te");
    let path = |path: &str| fields().set(":path", path);
    let without = |name: &str| fields().without(name);
    let duplicated = |name: &str| Fields::prepend(name, "http", fields());
    vec![
        call_with_headers("GET", "HTTP 405", &fields().set(":method", "GET")),
        call_with_headers("a method of blanks", CONNECTION_ERROR, &fields().set(":method", "PO ST")),
        call_with_headers("CONNECT", "HTTP 405", &without(":scheme").without(":path").set(":method", "CONNECT")),
        call_with_headers("CONNECT with a path", STREAM_ERROR, &fields().set(":method", "CONNECT")),
        call_with_headers("CONNECT with a length", "closed", &without(":scheme").without(":path").set(":method", "CONNECT").with("content-length", message("x").len().to_string())),
        call_with_headers("CONNECT of WebSocket", STREAM_ERROR, &Fields::prepend(":protocol", "websocket", fields().set(":method", "CONNECT"))),
        call_with_headers("application/json", "HTTP 415", &fields().set("content-type", "application/json")),
        call_with_headers("application/grpc-web", "HTTP 415", &fields().set("content-type", "application/grpc-web+proto")),
        call_with_headers("no content type", "HTTP 415", &without("content-type")),
        call_with_headers("an upper-case name", CONNECTION_ERROR, &fields().with("Name", "x")),
        call_with_headers("a name with a blank", CONNECTION_ERROR, &fields().with("a b", "x")),
        call_with_headers("an empty name", CONNECTION_ERROR, &fields().with("", "x")),
        call_with_headers("a value with a line feed", CONNECTION_ERROR, &fields().with("x", "a\r\nb: c")),
        call_with_headers("a value with a NUL", CONNECTION_ERROR, &fields().with("x", "a\0b")),
        call_with_headers("connection", STREAM_ERROR, &fields().with("connection", "close")),
        call_with_headers("keep-alive", STREAM_ERROR, &fields().with("keep-alive", "5")),
        call_with_headers("transfer-encoding", STREAM_ERROR, &fields().with("transfer-encoding", "chunked")),
        call_with_headers("upgrade", STREAM_ERROR, &fields().with("upgrade", "h2c")),
        call_with_headers("te: gzip", STREAM_ERROR, &without_te().with("te", "gzip")),
        call_with_headers("no :method", STREAM_ERROR, &without(":method")),
        call_with_headers("no :scheme", STREAM_ERROR, &without(":scheme")),
        call_with_headers("no :path", STREAM_ERROR, &without(":path")),
        call_with_headers("no :authority", "OK", &without(":authority")),
        call_with_headers(":scheme twice", STREAM_ERROR, &duplicated(":scheme")),
        call_with_headers(":method twice", STREAM_ERROR, &duplicated(":method")),
        call_with_headers("an unknown pseudo-header", CONNECTION_ERROR, &Fields::prepend(":x", "y", fields())),
        call_with_headers(":status in a request", STREAM_ERROR, &Fields::prepend(":status", "200", fields())),
        call_with_headers("a pseudo-header behind others", STREAM_ERROR, &without(":path").with(":path", PATH)),
        call_with_headers("a path without slash", STREAM_ERROR, &path("useradmin.v1.UserAdmin/DeleteBatchNodeUser")),
        call_with_headers("an absolute path", STREAM_ERROR, &path("http://localhost/useradmin.v1.UserAdmin/DeleteBatchNodeUser")),
        call_with_headers("an empty path", STREAM_ERROR, &path("")),
        call_with_headers("a path of *", "Unimplemented without details", &path("*")),
        call_with_headers("a path with a blank", STREAM_ERROR, &path("/a b")),
        call_with_headers("a path with a query", "OK", &path("/useradmin.v1.UserAdmin/DeleteBatchNodeUser?x=y")),
        call_with_headers("a path with dots", "Unimplemented without details", &path("/x/../useradmin.v1.UserAdmin/DeleteBatchNodeUser")),
        call_with_headers("a scheme of nonsense", STREAM_ERROR, &fields().set(":scheme", "\u{1}")),
        call_with_headers("an authority of nonsense", STREAM_ERROR, &fields().set(":authority", "a b@c:99999999")),
        call_with_headers("two lengths", STREAM_ERROR, &fields().with("content-length", "5").with("content-length", "6")),
        call_with_headers("a length that is no number", STREAM_ERROR, &fields().with("content-length", "-1")),
        call_with_headers("a length that is too short", STREAM_ERROR, &fields().with("content-length", "3")),
        call_with_headers("a length that is too long", STREAM_ERROR, &fields().with("content-length", "999")),
        call_with_headers("bad base64", "OK", &fields().with("x-bin", "%%%=")),
        call_with_headers("bytes beyond ASCII", "OK", &fields().with("x", "\u{fc}")),
        send_bytes("trailers of the client", "OK", trailers(&fields_of_trailers(), END_STREAM)),
        send_bytes("trailers that do not end it", STREAM_ERROR, trailers(&fields_of_trailers(), 0)),
        send_bytes("trailers of 9,000 bytes", "OK", trailers(&literal(0, b"x", &[b'x'; 9_000]), END_STREAM)),
        send_bytes("trailers with :path", "OK", trailers(&literal(0, b":path", b"/"), END_STREAM)),
    ]
}

fn fields_of_trailers() -> Vec<u8> {
    literal(0, b"grpc-status", b"0")
}

fn trailers(block: &[u8], flags: u8) -> Vec<u8> {
    let call = with_body(&fields(), &[&message("x")], false);
    [call, frame(HEADERS, END_HEADERS | flags, 1, block)].concat()
}

/// Returns the size of a header list that the server advertises.
async fn advertised_size(connector: Arc<Connector>) -> String {
    let mut peer = connector.peer().await;
    peer.wait_until_frames(|frames| !frames.settings.is_empty())
        .await;
    let actual = peer.inspect(|frames| frames.settings.iter().find(|(id, _)| *id == 6).copied());
    peer.assert_usable().await;
    let (id, value) = actual.unwrap();
    format!("{id} is {value}")
}

/// Sends the largest accepted header lists with the smallest fields: one byte each on the wire.
async fn large_lists(connector: Arc<Connector>) -> String {
    let mut peer = connector.peer().await;
    let streams = || (0..MAX_STREAMS / 4).map(stream_id);
    let field = literal(0x40, b"x", b"");
    let references = integer(0x80, 7, 62).repeat(7_700);
    let block = [fields().block(), field, references].concat();
    let calls = streams().flat_map(|stream| frame(HEADERS, END_HEADERS, stream, &block));
    peer.send(calls.collect::<Vec<_>>()).await;
    peer.wait_until_frames(|frames| streams().all(|stream| frames.end(stream).is_some()))
        .await;
    peer.inspect(|frames| {
        distinct(
            streams()
                .map(|stream| frames.end(stream).unwrap())
                .collect(),
        )
    })
}

/// Sends the beginning of a header list on as many connections as one peer may open in addition to the ordinary
/// callers.
async fn send_unfinished_lists(connector: &Connector, unfinished: &[u8]) -> Vec<Peer> {
    let mut peers = Vec::new();
    for _ in 0..60 {
        let mut peer = connector.peer().await;
        peer.send(unfinished).await;
        peers.push(peer);
    }
    peers
}

/// Sends a single value, as much of it as the server buffers.
async fn endless_values(connector: Arc<Connector>) -> String {
    let unfinished_headers = [&[0, 1, b'x'][..], &integer(0, 7, 320_000)].concat();
    let unfinished_headers = frame(
        HEADERS,
        0,
        1,
        &[fields().block(), unfinished_headers].concat(),
    );
    let part = frame(CONTINUATION, 0, 1, &[b'x'; MAX_FRAME]);
    let mut peers = send_unfinished_lists(
        &connector,
        &[&unfinished_headers[..], &part.repeat(19)].concat(),
    )
    .await;
    let rest = [b'x'; 320_000 - 19 * MAX_FRAME];
    let rest = frame(CONTINUATION, END_HEADERS | END_STREAM, 1, &rest);
    let mut last = peers.pop().unwrap();
    last.send(rest).await;
    last.assert_usable().await
}

/// Sends the smallest fields, one byte each on the wire, as many as the server keeps.
async fn endless_fields(connector: Arc<Connector>) -> String {
    let field = literal(0x40, b"x", b"");
    let references = integer(0x80, 7, 62).repeat(7_700);
    let unfinished_headers = frame(
        HEADERS,
        0,
        1,
        &[fields().block(), field, references].concat(),
    );
    let mut peers = send_unfinished_lists(&connector, &unfinished_headers).await;
    let mut last = peers.pop().unwrap();
    last.send(frame(CONTINUATION, END_HEADERS | END_STREAM, 1, b""))
        .await;
    last.assert_usable().await
}

/// Sends an HPACK bomb: an entry of 4 KB in the dynamic table and one byte for each reference, so that 16 KiB expand to
/// 65 MB.
async fn hpack_bomb(connector: Arc<Connector>) -> String {
    let mut peer = connector.peer().await;
    let large = literal(0x40, b"x", &[b'x'; 4_000]);
    // The most recent entry of the dynamic table.
    let references = integer(0x80, 7, 62).repeat(16_000);
    peer.send(frame(HEADERS, 0, 1, &[fields().block(), large].concat()))
        .await;
    peer.send(frame(CONTINUATION, END_HEADERS, 1, &references))
        .await;
    peer.end(1).await
}
