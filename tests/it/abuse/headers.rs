//! Header lists that are too long or invalid for a request.

use std::sync::Arc;

use super::{
    Kind, bytes, distinct,
    frames::{
        CONTINUATION, END_HEADERS, END_STREAM, Fields, HEADERS, MAX_FRAME, PATH, fields, frame,
        integer, literal, message, nth, with_body,
    },
    kind,
    peer::Peer,
    streams::STREAMS,
    target::Connector,
};

const REFUSED: &str = "RST_STREAM PROTOCOL_ERROR";
const TOO_LARGE: &str = "InvalidArgument INVALID_REQUEST";
/// Result for header lists between one and four times the size that HTTP/2 accepts.
const NOT_READ: &str = "HTTP 431";
const BROKEN: &str = "GOAWAY PROTOCOL_ERROR";

/// Creates a call with this header list.
fn with(name: &'static str, end: &'static str, list: &Fields) -> Kind {
    bytes(name, end, list.call(1, "x"))
}

/// Creates a request with this HPACK block.
fn block(name: &'static str, end: &'static str, block: &[u8]) -> Kind {
    bytes(
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
    (0..count).fold(fields(), |list, at| list.with(&format!("x{at}"), "y"))
}

#[rustfmt::skip]
pub fn kinds() -> Vec<Kind> {
    let long = |length: usize| vec![b'x'; length];
    let mut kinds = vec![
        kind("the accepted size", "6 is 8192", advertised),
        with("metadata of 7,000 bytes", "OK", &fields().with("x", long(7_000))),
        with("a bit over 8 KiB", TOO_LARGE, &fields().with("x", long(8_192))),
        with("4 times over 8 KiB", TOO_LARGE, &fields().with("x", long(32_768))),
        with("a value of 60,000 bytes", TOO_LARGE, &fields().with("x", long(60_000))),
        with("a binary value of 100,000 bytes", TOO_LARGE, &fields().with("x-bin", long(100_000))),
        with("a name of 20,000 bytes", TOO_LARGE, &fields().with(&"x".repeat(20_000), "")),
        with("a token of 100,000 bytes", TOO_LARGE, &fields().with("authorization", [b"Bearer ".to_vec(), long(100_000)].concat())),
        with("250 small fields", TOO_LARGE, &small_fields(250)),
        with("6,000 small fields", TOO_LARGE, &small_fields(6_000)),
        with("a value of 250,000 bytes", TOO_LARGE, &fields().with("x", long(250_000))),
        with("a value of 300,000 bytes", NOT_READ, &fields().with("x", long(300_000))),
        with("10,000 small fields", NOT_READ, &small_fields(10_000)),
        with("20,000 small fields", NOT_READ, &small_fields(20_000)),
        with("a value of 1 MiB", "GOAWAY ENHANCE_YOUR_CALM too_many_continuations", &fields().with("x", long(1 << 20))),
        with("a path of 8 KiB", "Unimplemented without details", &fields().set(":path", [b"/".to_vec(), long(8_192)].concat())),
        with("a path of 100,000 bytes", REFUSED, &fields().set(":path", [b"/".to_vec(), long(100_000)].concat())),
        with("an authority of 9,000 bytes", TOO_LARGE, &fields().set(":authority", long(9_000))),
        kind("large header lists on many streams", TOO_LARGE, large_lists),
        kind("values that do not end", "usable", endless_values),
        kind("header lists that do not end", "usable", endless_fields),
        kind("a large entry, again and again", "GOAWAY ENHANCE_YOUR_CALM header_list_way_too_large", bomb),
        block("an index of nothing", BROKEN, &integer(0x80, 7, 3_000)),
        block("index 0", BROKEN, &[0x80]),
        block("an integer without end", BROKEN, &[0xff; 40]),
        block("a table over 4,096 bytes", BROKEN, &integer(0x20, 5, 1 << 20)),
        block("bits that are no Huffman code", BROKEN, b"\0\x84\xff\xff\xff\xff\x01x"),
        block("half a field", BROKEN, b"\0\x05ab"),
    ];
    kinds.extend(requests());
    kinds
}

#[rustfmt::skip]
fn requests() -> Vec<Kind> {
    let te = || fields().without("te");
    let path = |path: &str| fields().set(":path", path);
    let own = |name: &str| fields().without(name);
    let twice = |name: &str| Fields::prepended(name, "http", fields());
    vec![
        with("GET", "HTTP 405", &fields().set(":method", "GET")),
        with("a method of blanks", BROKEN, &fields().set(":method", "PO ST")),
        with("CONNECT", "HTTP 405", &own(":scheme").without(":path").set(":method", "CONNECT")),
        with("CONNECT with a path", REFUSED, &fields().set(":method", "CONNECT")),
        with("CONNECT with a length", "closed", &own(":scheme").without(":path").set(":method", "CONNECT").with("content-length", message("x").len().to_string())),
        with("CONNECT of WebSocket", REFUSED, &Fields::prepended(":protocol", "websocket", fields().set(":method", "CONNECT"))),
        with("application/json", "HTTP 415", &fields().set("content-type", "application/json")),
        with("application/grpc-web", "HTTP 415", &fields().set("content-type", "application/grpc-web+proto")),
        with("no content type", "HTTP 415", &own("content-type")),
        with("an upper-case name", BROKEN, &fields().with("Name", "x")),
        with("a name with a blank", BROKEN, &fields().with("a b", "x")),
        with("an empty name", BROKEN, &fields().with("", "x")),
        with("a value with a line feed", BROKEN, &fields().with("x", "a\r\nb: c")),
        with("a value with a NUL", BROKEN, &fields().with("x", "a\0b")),
        with("connection", REFUSED, &fields().with("connection", "close")),
        with("keep-alive", REFUSED, &fields().with("keep-alive", "5")),
        with("transfer-encoding", REFUSED, &fields().with("transfer-encoding", "chunked")),
        with("upgrade", REFUSED, &fields().with("upgrade", "h2c")),
        with("te: gzip", REFUSED, &te().with("te", "gzip")),
        with("no :method", REFUSED, &own(":method")),
        with("no :scheme", REFUSED, &own(":scheme")),
        with("no :path", REFUSED, &own(":path")),
        with("no :authority", "OK", &own(":authority")),
        with(":scheme twice", REFUSED, &twice(":scheme")),
        with(":method twice", REFUSED, &twice(":method")),
        with("an unknown pseudo-header", BROKEN, &Fields::prepended(":x", "y", fields())),
        with(":status in a request", REFUSED, &Fields::prepended(":status", "200", fields())),
        with("a pseudo-header behind others", REFUSED, &own(":path").with(":path", PATH)),
        with("a path without slash", REFUSED, &path("useradmin.v1.UserAdmin/DeleteBatchNodeUser")),
        with("an absolute path", REFUSED, &path("http://localhost/useradmin.v1.UserAdmin/DeleteBatchNodeUser")),
        with("an empty path", REFUSED, &path("")),
        with("a path of *", "Unimplemented without details", &path("*")),
        with("a path with a blank", REFUSED, &path("/a b")),
        with("a path with a query", "OK", &path("/useradmin.v1.UserAdmin/DeleteBatchNodeUser?x=y")),
        with("a path with dots", "Unimplemented without details", &path("/x/../useradmin.v1.UserAdmin/DeleteBatchNodeUser")),
        with("a scheme of nonsense", REFUSED, &fields().set(":scheme", "\u{1}")),
        with("an authority of nonsense", REFUSED, &fields().set(":authority", "a b@c:99999999")),
        with("two lengths", REFUSED, &fields().with("content-length", "5").with("content-length", "6")),
        with("a length that is no number", REFUSED, &fields().with("content-length", "-1")),
        with("a length that is too short", REFUSED, &fields().with("content-length", "3")),
        with("a length that is too long", REFUSED, &fields().with("content-length", "999")),
        with("bad base64", "OK", &fields().with("x-bin", "%%%=")),
        with("bytes beyond ASCII", "OK", &fields().with("x", "\u{fc}")),
        bytes("trailers of the client", "OK", trailers(&fields_of_trailers(), END_STREAM)),
        bytes("trailers that do not end it", REFUSED, trailers(&fields_of_trailers(), 0)),
        bytes("trailers of 9,000 bytes", "OK", trailers(&literal(0, b"x", &[b'x'; 9_000]), END_STREAM)),
        bytes("trailers with :path", "OK", trailers(&literal(0, b":path", b"/"), END_STREAM)),
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
async fn advertised(connector: Arc<Connector>) -> String {
    let mut peer = connector.peer().await;
    peer.until(|frames| !frames.settings.is_empty()).await;
    let actual = peer.inspect(|frames| frames.settings.iter().find(|(id, _)| *id == 6).copied());
    peer.assert_usable().await;
    let (id, value) = actual.unwrap();
    format!("{id} is {value}")
}

/// Sends the largest accepted header lists with the smallest fields: one byte each on the wire.
async fn large_lists(connector: Arc<Connector>) -> String {
    let mut peer = connector.peer().await;
    let streams = || (0..STREAMS / 4).map(nth);
    let field = literal(0x40, b"x", b"");
    let again = integer(0x80, 7, 62).repeat(7_700);
    let block = [fields().block(), field, again].concat();
    let calls = streams().flat_map(|stream| frame(HEADERS, END_HEADERS, stream, &block));
    peer.send(calls.collect::<Vec<_>>()).await;
    peer.until(|frames| streams().all(|stream| frames.end(stream).is_some()))
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
async fn begin_lists(connector: &Connector, beginning: &[u8]) -> Vec<Peer> {
    let mut peers = Vec::new();
    for _ in 0..60 {
        let mut peer = connector.peer().await;
        peer.send(beginning).await;
        peers.push(peer);
    }
    peers
}

/// Sends a single value, as much of it as the server buffers.
async fn endless_values(connector: Arc<Connector>) -> String {
    let begin = [&[0, 1, b'x'][..], &integer(0, 7, 320_000)].concat();
    let begin = frame(HEADERS, 0, 1, &[fields().block(), begin].concat());
    let part = frame(CONTINUATION, 0, 1, &[b'x'; MAX_FRAME]);
    let mut peers = begin_lists(&connector, &[&begin[..], &part.repeat(19)].concat()).await;
    let rest = [b'x'; 320_000 - 19 * MAX_FRAME];
    let rest = frame(CONTINUATION, END_HEADERS | END_STREAM, 1, &rest);
    let mut last = peers.pop().unwrap();
    last.send(rest).await;
    last.assert_usable().await
}

/// Sends the smallest fields, one byte each on the wire, as many as the server keeps.
async fn endless_fields(connector: Arc<Connector>) -> String {
    let field = literal(0x40, b"x", b"");
    let again = integer(0x80, 7, 62).repeat(7_700);
    let begin = frame(HEADERS, 0, 1, &[fields().block(), field, again].concat());
    let mut peers = begin_lists(&connector, &begin).await;
    let mut last = peers.pop().unwrap();
    last.send(frame(CONTINUATION, END_HEADERS | END_STREAM, 1, b""))
        .await;
    last.assert_usable().await
}

/// Sends an HPACK bomb: an entry of 4 KB in the dynamic table and one byte for each reference, so that 16 KiB expand to
/// 65 MB.
async fn bomb(connector: Arc<Connector>) -> String {
    let mut peer = connector.peer().await;
    let large = literal(0x40, b"x", &[b'x'; 4_000]);
    // The most recent entry of the dynamic table.
    let again = integer(0x80, 7, 62).repeat(16_000);
    peer.send(frame(HEADERS, 0, 1, &[fields().block(), large].concat()))
        .await;
    peer.send(frame(CONTINUATION, END_HEADERS, 1, &again)).await;
    peer.end(1).await
}
