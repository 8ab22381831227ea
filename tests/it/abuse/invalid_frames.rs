//! Frames that violate HTTP/2 (RFC 9113).

use super::{
    Kind, bytes,
    frames::{
        ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HAS_PRIORITY, HEADERS, MAX_FRAME,
        PADDED, PING, PRIORITY, PUSH_PROMISE, RST_STREAM, SETTINGS, cancel, fields, frame, message,
        settings, window_update,
    },
};

/// h2 does not distinguish `FRAME_SIZE_ERROR` and closes the connection where resetting the stream would suffice.
const BROKEN: &str = "GOAWAY PROTOCOL_ERROR";

/// Returns an open request followed by these frames.
fn open(more: &[u8]) -> Vec<u8> {
    [&fields().headers(1, 0), more].concat()
}

fn headers(flags: u8, stream: u32) -> Vec<u8> {
    frame(HEADERS, flags, stream, &fields().block())
}

/// Returns a HEADERS frame whose stream depends on this stream.
fn dependent(on: u32) -> Vec<u8> {
    let payload = [&on.to_be_bytes()[..], &[15], &fields().block()].concat();
    let flags = END_HEADERS | HAS_PRIORITY;
    frame(HEADERS, flags, 1, &payload)
}

#[rustfmt::skip]
pub fn kinds() -> Vec<Kind> {
    let whole = || fields().call(1, "x");
    vec![
        bytes("initial window over 2^31-1", BROKEN, settings(&[(4, 1 << 31)])),
        bytes("max frame size 0", BROKEN, settings(&[(5, 0)])),
        bytes("max frame size over 2^24-1", BROKEN, settings(&[(5, 1 << 24)])),
        bytes("push is neither on nor off", BROKEN, settings(&[(2, 2)])),
        bytes("unknown settings", "usable", settings(&[(0xabcd, 7), (0, 1)])),
        bytes("SETTINGS of 5 bytes", BROKEN, frame(SETTINGS, 0, 0, &[0; 5])),
        bytes("SETTINGS of a stream", BROKEN, frame(SETTINGS, 0, 1, &[])),
        bytes("an answer to SETTINGS with settings", BROKEN, frame(SETTINGS, ACK, 0, &[0; 6])),
        bytes("answers to no SETTINGS", BROKEN, frame(SETTINGS, ACK, 0, &[]).repeat(2)),
        bytes("PING of 7 bytes", BROKEN, frame(PING, 0, 0, &[0; 7])),
        bytes("PING of a stream", BROKEN, frame(PING, 0, 1, &[0; 8])),
        bytes("WINDOW_UPDATE of nothing", BROKEN, window_update(0, 0)),
        bytes("WINDOW_UPDATE of nothing for a stream", BROKEN, open(&window_update(1, 0))),
        bytes("WINDOW_UPDATE over 2^31-1", "GOAWAY FLOW_CONTROL_ERROR", window_update(0, (1 << 31) - 1)),
        bytes("WINDOW_UPDATE over 2^31-1 for a stream", "RST_STREAM FLOW_CONTROL_ERROR", open(&window_update(1, (1 << 31) - 1))),
        bytes("WINDOW_UPDATE of 3 bytes", BROKEN, frame(8, 0, 0, &[0; 3])),
        bytes("a frame over 16,384 bytes", "GOAWAY FRAME_SIZE_ERROR", open(&frame(DATA, 0, 1, &[0; MAX_FRAME + 1]))),
        bytes("a frame of 2^24-1 bytes is announced", "GOAWAY FRAME_SIZE_ERROR", open(&[255, 255, 255, DATA, 0, 0, 0, 0, 1])),
        bytes("HEADERS on stream 0", BROKEN, headers(END_HEADERS, 0)),
        bytes("DATA on stream 0", BROKEN, frame(DATA, 0, 0, &message("x"))),
        bytes("RST_STREAM on stream 0", BROKEN, cancel(0)),
        bytes("PRIORITY on stream 0", BROKEN, frame(PRIORITY, 0, 0, &[0; 5])),
        bytes("an even stream", BROKEN, headers(END_HEADERS | END_STREAM, 2)),
        bytes("streams that go down", BROKEN, [headers(END_HEADERS, 5), headers(END_HEADERS, 3)].concat()),
        bytes("a stream that is used again", "RST_STREAM PROTOCOL_ERROR or GOAWAY STREAM_CLOSED", [whole(), whole()].concat()),
        bytes("DATA before HEADERS", BROKEN, frame(DATA, 0, 1, &message("x"))),
        bytes("RST_STREAM before HEADERS", BROKEN, cancel(1)),
        bytes("RST_STREAM of 3 bytes", BROKEN, open(&frame(RST_STREAM, 0, 1, &[0; 3]))),
        bytes("WINDOW_UPDATE before HEADERS", BROKEN, window_update(1, 1)),
        bytes("HEADERS within a request", "RST_STREAM PROTOCOL_ERROR", open(&headers(END_HEADERS, 1))),
        bytes("PUSH_PROMISE of a client", BROKEN, open(&frame(PUSH_PROMISE, END_HEADERS, 1, &[&[0, 0, 0, 2][..], &fields().block()].concat()))),
        bytes("CONTINUATION of nothing", BROKEN, frame(CONTINUATION, END_HEADERS, 1, &fields().block())),
        bytes("HEADERS that go on as DATA", BROKEN, [headers(0, 1), frame(DATA, END_STREAM, 1, &message("x"))].concat()),
        bytes("HEADERS that go on elsewhere", BROKEN, [headers(0, 1), frame(CONTINUATION, END_HEADERS, 3, &[])].concat()),
        bytes("HEADERS that depend on themselves", "RST_STREAM PROTOCOL_ERROR", dependent(1)),
        bytes("PRIORITY of 4 bytes", BROKEN, open(&frame(PRIORITY, 0, 1, &[0; 4]))),
        bytes("more padding than there is", BROKEN, open(&frame(DATA, PADDED, 1, &[9, 0]))),
        bytes("DATA after the end", "GOAWAY PROTOCOL_ERROR or RST_STREAM STREAM_CLOSED", [headers(END_HEADERS | END_STREAM, 1), frame(DATA, 0, 1, b"x")].concat()),
        bytes("unknown frames", "usable", [frame(0xfa, 255, 77, &[7; 999]), frame(10, 0, 0, &[])].concat()),
        bytes("unknown flags", "OK", fields().headers(1, 0xd2 & !END_STREAM & !PADDED & !HAS_PRIORITY).into_iter().chain(frame(DATA, 0xd1, 1, &message("x"))).collect()),
        bytes("GOAWAY of the client", "GOAWAY NO_ERROR or OK", frame(GOAWAY, 0, 0, &[0; 8])),
    ]
}
