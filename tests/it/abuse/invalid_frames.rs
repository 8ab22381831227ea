//! Frames that violate HTTP/2 (RFC 9113).

use super::{
    Attack,
    frames::{
        ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HAS_PRIORITY, HEADERS, MAX_FRAME,
        PADDED, PING, PRIORITY, PUSH_PROMISE, RST_STREAM, SETTINGS, cancel, fields, frame, message,
        settings, window_update,
    },
    send_bytes,
};

/// h2 does not distinguish `FRAME_SIZE_ERROR` and closes the connection where resetting the stream would suffice.
const CONNECTION_ERROR: &str = "GOAWAY PROTOCOL_ERROR";

/// Returns an open request followed by these frames.
fn on_open_stream(frames: &[u8]) -> Vec<u8> {
    [&fields().headers(1, 0), frames].concat()
}

fn headers(flags: u8, stream: u32) -> Vec<u8> {
    frame(HEADERS, flags, stream, &fields().block())
}

/// Returns a HEADERS frame whose stream depends on this stream.
fn headers_depending_on(on: u32) -> Vec<u8> {
    let payload = [&on.to_be_bytes()[..], &[15], &fields().block()].concat();
    let flags = END_HEADERS | HAS_PRIORITY;
    frame(HEADERS, flags, 1, &payload)
}

#[rustfmt::skip]
pub fn attacks() -> Vec<Attack> {
    let complete_call = || fields().call(1, "x");
    vec![
        send_bytes("initial window over 2^31-1", CONNECTION_ERROR, settings(&[(4, 1 << 31)])),
        send_bytes("max frame size 0", CONNECTION_ERROR, settings(&[(5, 0)])),
        send_bytes("max frame size over 2^24-1", CONNECTION_ERROR, settings(&[(5, 1 << 24)])),
        send_bytes("push is neither on nor off", CONNECTION_ERROR, settings(&[(2, 2)])),
        send_bytes("unknown settings", "usable", settings(&[(0xabcd, 7), (0, 1)])),
        send_bytes("SETTINGS of 5 bytes", CONNECTION_ERROR, frame(SETTINGS, 0, 0, &[0; 5])),
        send_bytes("SETTINGS of a stream", CONNECTION_ERROR, frame(SETTINGS, 0, 1, &[])),
        send_bytes("an answer to SETTINGS with settings", CONNECTION_ERROR, frame(SETTINGS, ACK, 0, &[0; 6])),
        send_bytes("answers to no SETTINGS", CONNECTION_ERROR, frame(SETTINGS, ACK, 0, &[]).repeat(2)),
        send_bytes("PING of 7 bytes", CONNECTION_ERROR, frame(PING, 0, 0, &[0; 7])),
        send_bytes("PING of a stream", CONNECTION_ERROR, frame(PING, 0, 1, &[0; 8])),
        send_bytes("WINDOW_UPDATE of nothing", CONNECTION_ERROR, window_update(0, 0)),
        send_bytes("WINDOW_UPDATE of nothing for a stream", CONNECTION_ERROR, on_open_stream(&window_update(1, 0))),
        send_bytes("WINDOW_UPDATE over 2^31-1", "GOAWAY FLOW_CONTROL_ERROR", window_update(0, (1 << 31) - 1)),
        send_bytes("WINDOW_UPDATE over 2^31-1 for a stream", "RST_STREAM FLOW_CONTROL_ERROR", on_open_stream(&window_update(1, (1 << 31) - 1))),
        send_bytes("WINDOW_UPDATE of 3 bytes", CONNECTION_ERROR, frame(8, 0, 0, &[0; 3])),
        send_bytes("a frame over 16,384 bytes", "GOAWAY FRAME_SIZE_ERROR", on_open_stream(&frame(DATA, 0, 1, &[0; MAX_FRAME + 1]))),
        send_bytes("a frame of 2^24-1 bytes is announced", "GOAWAY FRAME_SIZE_ERROR", on_open_stream(&[255, 255, 255, DATA, 0, 0, 0, 0, 1])),
        send_bytes("HEADERS on stream 0", CONNECTION_ERROR, headers(END_HEADERS, 0)),
        send_bytes("DATA on stream 0", CONNECTION_ERROR, frame(DATA, 0, 0, &message("x"))),
        send_bytes("RST_STREAM on stream 0", CONNECTION_ERROR, cancel(0)),
        send_bytes("PRIORITY on stream 0", CONNECTION_ERROR, frame(PRIORITY, 0, 0, &[0; 5])),
        send_bytes("an even stream", CONNECTION_ERROR, headers(END_HEADERS | END_STREAM, 2)),
        send_bytes("streams that go down", CONNECTION_ERROR, [headers(END_HEADERS, 5), headers(END_HEADERS, 3)].concat()),
        send_bytes("a stream that is used again", "RST_STREAM PROTOCOL_ERROR or GOAWAY STREAM_CLOSED", [complete_call(), complete_call()].concat()),
        send_bytes("DATA before HEADERS", CONNECTION_ERROR, frame(DATA, 0, 1, &message("x"))),
        send_bytes("RST_STREAM before HEADERS", CONNECTION_ERROR, cancel(1)),
        send_bytes("RST_STREAM of 3 bytes", CONNECTION_ERROR, on_open_stream(&frame(RST_STREAM, 0, 1, &[0; 3]))),
        send_bytes("WINDOW_UPDATE before HEADERS", CONNECTION_ERROR, window_update(1, 1)),
        send_bytes("HEADERS within a request", "RST_STREAM PROTOCOL_ERROR", on_open_stream(&headers(END_HEADERS, 1))),
        send_bytes("PUSH_PROMISE of a client", CONNECTION_ERROR, on_open_stream(&frame(PUSH_PROMISE, END_HEADERS, 1, &[&[0, 0, 0, 2][..], &fields().block()].concat()))),
        send_bytes("CONTINUATION of nothing", CONNECTION_ERROR, frame(CONTINUATION, END_HEADERS, 1, &fields().block())),
        send_bytes("HEADERS that go on as DATA", CONNECTION_ERROR, [headers(0, 1), frame(DATA, END_STREAM, 1, &message("x"))].concat()),
        send_bytes("HEADERS that go on elsewhere", CONNECTION_ERROR, [headers(0, 1), frame(CONTINUATION, END_HEADERS, 3, &[])].concat()),
        send_bytes("HEADERS that depend on themselves", "RST_STREAM PROTOCOL_ERROR", headers_depending_on(1)),
        send_bytes("PRIORITY of 4 bytes", CONNECTION_ERROR, on_open_stream(&frame(PRIORITY, 0, 1, &[0; 4]))),
        send_bytes("more padding than there is", CONNECTION_ERROR, on_open_stream(&frame(DATA, PADDED, 1, &[9, 0]))),
        send_bytes("DATA after the end", "GOAWAY PROTOCOL_ERROR or RST_STREAM STREAM_CLOSED", [headers(END_HEADERS | END_STREAM, 1), frame(DATA, 0, 1, b"x")].concat()),
        send_bytes("unknown frames", "usable", [frame(0xfa, 255, 77, &[7; 999]), frame(10, 0, 0, &[])].concat()),
        send_bytes("unknown flags", "OK", fields().headers(1, 0xd2 & !END_STREAM & !PADDED & !HAS_PRIORITY).into_iter().chain(frame(DATA, 0xd1, 1, &message("x"))).collect()),
        send_bytes("GOAWAY of the client", "GOAWAY NO_ERROR or OK", frame(GOAWAY, 0, 0, &[0; 8])),
    ]
}
