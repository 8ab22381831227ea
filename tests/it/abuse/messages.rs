//! Bodies that do not consist of exactly one gRPC message.

use super::{
    Attack,
    frames::{
        DATA, END_STREAM, Fields, MAX_FRAME, cancel, fields, frame, message, with_body,
        with_grpc_prefix,
    },
    send_bytes,
};

pub const INVALID_REQUEST: &str = "InvalidArgument INVALID_REQUEST";
/// A user that the audit log must not contain.
pub const UNRECORDED_USER: &str = "never";
const DEADLINE_EXCEEDED: &str = "DeadlineExceeded DEADLINE_EXCEEDED";

/// Creates a call with this body that ends the stream.
fn complete_call(name: &'static str, end: &'static str, body: &[u8]) -> Attack {
    send_bytes(name, end, with_body(&fields(), &[body], true))
}

/// Creates a call with this body that does not end the stream. The short deadline has the same effect as the server's
/// timeout of 10 s, but without the wait.
fn open_call(name: &'static str, parts: &[&[u8]]) -> Attack {
    send_bytes(
        name,
        DEADLINE_EXCEEDED,
        with_body(&with_timeout("300m"), parts, false),
    )
}

fn with_timeout(timeout: &str) -> Fields {
    fields().with("grpc-timeout", timeout)
}

fn call_with_timeout(name: &'static str, end: &'static str, timeout: &str) -> Attack {
    send_bytes(name, end, with_timeout(timeout).call(1, "x"))
}

#[rustfmt::skip]
pub fn attacks() -> Vec<Attack> {
    let valid = message("x");
    let unrecorded = message(UNRECORDED_USER);
    let inner = &valid[5..];
    let large: Vec<_> = (0..3).flat_map(|_| frame(DATA, 0, 1, &[0; MAX_FRAME])).collect();
    vec![
        complete_call("a length over 64 KiB", INVALID_REQUEST, &with_grpc_prefix(0, 65_537, b"")),
        complete_call("a length of 4 GiB", INVALID_REQUEST, &with_grpc_prefix(0, 0xffff_ffff, b"")),
        complete_call("a length that is more than there is", INVALID_REQUEST, &with_grpc_prefix(0, inner.len() + 1, inner)),
        complete_call("a length that is less than there is", INVALID_REQUEST, &with_grpc_prefix(0, inner.len() - 1, inner)),
        complete_call("half a prefix", INVALID_REQUEST, &[0, 0, 0]),
        complete_call("no message", INVALID_REQUEST, b""),
        send_bytes("no body", INVALID_REQUEST, fields().headers(1, END_STREAM)),
        complete_call("two messages", INVALID_REQUEST, &[&unrecorded[..], &unrecorded].concat()),
        send_bytes("two messages in two frames", INVALID_REQUEST, with_body(&fields(), &[&unrecorded, &unrecorded], true)),
        send_bytes("two messages in small frames", INVALID_REQUEST, with_body(&fields(), &unrecorded.repeat(2).chunks(3).collect::<Vec<_>>(), true)),
        complete_call("many messages", INVALID_REQUEST, &unrecorded.repeat(MAX_FRAME / unrecorded.len())),
        complete_call("a message and half a prefix", INVALID_REQUEST, &[&unrecorded[..], &[0, 0]].concat()),
        complete_call("a message and one byte", INVALID_REQUEST, &[&unrecorded[..], b"x"].concat()),
        complete_call("a message and an empty one", INVALID_REQUEST, &[&unrecorded[..], &with_grpc_prefix(0, 0, b"")].concat()),
        complete_call("an empty message and another one", INVALID_REQUEST, &[&with_grpc_prefix(0, 0, b"")[..], &unrecorded].concat()),
        complete_call("a message and half of another one", INVALID_REQUEST, &[&unrecorded[..], &unrecorded[..9]].concat()),
        send_bytes("a message and another one, and no end", INVALID_REQUEST, with_body(&fields(), &[&unrecorded, &unrecorded[..9]], false)),
        send_bytes("a length over 64 KiB, and no end", INVALID_REQUEST, with_body(&fields(), &[&with_grpc_prefix(0, 65_537, b"")], false)),
        send_bytes("an unknown flag, and no end", INVALID_REQUEST, with_body(&fields(), &[&with_grpc_prefix(2, inner.len(), inner)], false)),
        send_bytes("a compressed message without an encoding, and no end", INVALID_REQUEST, with_body(&fields(), &[&with_grpc_prefix(1, inner.len(), inner)], false)),
        send_bytes("an unsupported encoding, and no end", INVALID_REQUEST, with_body(&fields().with("grpc-encoding", "zstd"), &[&with_grpc_prefix(1, inner.len(), inner)], false)),
        send_bytes("a message, and frames of nothing", "OK", with_body(&fields(), &[&valid, b"", b""], true)),
        complete_call("a message and rubbish", INVALID_REQUEST, &[&unrecorded[..], &[0xff; 500]].concat()),
        complete_call("rubbish in place of a message", INVALID_REQUEST, &with_grpc_prefix(0, 500, &[0xff; 500])),
        complete_call("compressed, and with nothing", INVALID_REQUEST, &with_grpc_prefix(1, inner.len(), inner)),
        complete_call("flag 2", INVALID_REQUEST, &with_grpc_prefix(2, inner.len(), inner)),
        complete_call("an unknown flag", INVALID_REQUEST, &with_grpc_prefix(255, inner.len(), inner)),
        open_call("an announced message that is not sent", &[&with_grpc_prefix(0, 65_536, b"")]),
        open_call("a message without its end", &[&valid[..9]]),
        open_call("nothing that ends", &[]),
        open_call("a prefix that does not end", &[&[0], &[0], &[0]]),
        send_bytes("a message that is there, and no end", "OK or DeadlineExceeded DEADLINE_EXCEEDED", with_body(&with_timeout("300m"), &[&valid], false)),
        send_bytes("DATA after the response", "usable", [rejected_call(), large].concat()),
        send_bytes("a reset in the middle of a message", "usable", [with_body(&fields(), &[&valid[..9]], false), cancel(1)].concat()),
        call_with_timeout("a deadline in 11,415 years", "OK", "99999999H"),
        call_with_timeout("a deadline of no time", DEADLINE_EXCEEDED, "0n"),
        call_with_timeout("a deadline that is too long a number", INVALID_REQUEST, "999999999S"),
        call_with_timeout("a deadline that is no number", INVALID_REQUEST, "\u{661}S"),
        call_with_timeout("a deadline below nothing", INVALID_REQUEST, "-1S"),
        call_with_timeout("two deadlines in one header", INVALID_REQUEST, "5S, 5S"),
        send_bytes("two deadlines", INVALID_REQUEST, with_timeout("5S").with("grpc-timeout", "9S").call(1, UNRECORDED_USER)),
        send_bytes("two deadlines of which one is bad", INVALID_REQUEST, with_timeout("5S").with("grpc-timeout", "x").call(1, UNRECORDED_USER)),
        send_bytes("the same deadline twice", INVALID_REQUEST, with_timeout("5S").with("grpc-timeout", "5S").call(1, UNRECORDED_USER)),
        send_bytes("three deadlines", INVALID_REQUEST, with_timeout("1S").with("grpc-timeout", "5S").with("grpc-timeout", "1S").call(1, UNRECORDED_USER)),
        send_bytes("two tokens", INVALID_REQUEST, fields().with("authorization", "Bearer a").with("authorization", "Bearer a").call(1, UNRECORDED_USER)),
        send_bytes("two content types", INVALID_REQUEST, fields().with("content-type", "application/grpc").call(1, UNRECORDED_USER)),
        send_bytes("te twice", "OK", fields().with("te", "trailers").call(1, "x")),
        send_bytes("no te", "OK", fields().without("te").call(1, "x")),
    ]
}

/// Returns headers that are rejected. The caller appends the message nevertheless.
fn rejected_call() -> Vec<u8> {
    fields().set("content-type", "text/plain").headers(1, 0)
}
