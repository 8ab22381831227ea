//! Bodies that do not consist of exactly one gRPC message.

use super::{
    Kind, bytes,
    frames::{
        DATA, END_STREAM, Fields, MAX_FRAME, cancel, fields, frame, message, prefixed, with_body,
    },
};

pub const INVALID: &str = "InvalidArgument INVALID_REQUEST";
/// A user that the audit log must not contain.
pub const NEVER: &str = "never";
const LATE: &str = "DeadlineExceeded DEADLINE_EXCEEDED";

/// Creates a call with this body that ends the stream.
fn complete(name: &'static str, end: &'static str, body: &[u8]) -> Kind {
    bytes(name, end, with_body(&fields(), &[body], true))
}

/// Creates a call with this body that does not end the stream. The short deadline has the same effect as the server's
/// timeout of 10 s, but without the wait.
fn open(name: &'static str, parts: &[&[u8]]) -> Kind {
    bytes(name, LATE, with_body(&within("300m"), parts, false))
}

fn within(timeout: &str) -> Fields {
    fields().with("grpc-timeout", timeout)
}

fn timed(name: &'static str, end: &'static str, timeout: &str) -> Kind {
    bytes(name, end, within(timeout).call(1, "x"))
}

#[rustfmt::skip]
pub fn kinds() -> Vec<Kind> {
    let good = message("x");
    let never = message(NEVER);
    let inner = &good[5..];
    let large: Vec<_> = (0..3).flat_map(|_| frame(DATA, 0, 1, &[0; MAX_FRAME])).collect();
    vec![
        complete("a length over 64 KiB", INVALID, &prefixed(0, 65_537, b"")),
        complete("a length of 4 GiB", INVALID, &prefixed(0, 0xffff_ffff, b"")),
        complete("a length that is more than there is", INVALID, &prefixed(0, inner.len() + 1, inner)),
        complete("a length that is less than there is", INVALID, &prefixed(0, inner.len() - 1, inner)),
        complete("half a prefix", INVALID, &[0, 0, 0]),
        complete("no message", INVALID, b""),
        bytes("no body", INVALID, fields().headers(1, END_STREAM)),
        complete("two messages", INVALID, &[&never[..], &never].concat()),
        bytes("two messages in two frames", INVALID, with_body(&fields(), &[&never, &never], true)),
        bytes("two messages in small frames", INVALID, with_body(&fields(), &never.repeat(2).chunks(3).collect::<Vec<_>>(), true)),
        complete("many messages", INVALID, &never.repeat(MAX_FRAME / never.len())),
        complete("a message and half a prefix", INVALID, &[&never[..], &[0, 0]].concat()),
        complete("a message and one byte", INVALID, &[&never[..], b"x"].concat()),
        complete("a message and an empty one", INVALID, &[&never[..], &prefixed(0, 0, b"")].concat()),
        complete("an empty message and another one", INVALID, &[&prefixed(0, 0, b"")[..], &never].concat()),
        complete("a message and half of another one", INVALID, &[&never[..], &never[..9]].concat()),
        bytes("a message and another one, and no end", INVALID, with_body(&fields(), &[&never, &never[..9]], false)),
        bytes("a length over 64 KiB, and no end", INVALID, with_body(&fields(), &[&prefixed(0, 65_537, b"")], false)),
        bytes("an unknown flag, and no end", INVALID, with_body(&fields(), &[&prefixed(2, inner.len(), inner)], false)),
        bytes("a compressed message without an encoding, and no end", INVALID, with_body(&fields(), &[&prefixed(1, inner.len(), inner)], false)),
        bytes("an unsupported encoding, and no end", INVALID, with_body(&fields().with("grpc-encoding", "zstd"), &[&prefixed(1, inner.len(), inner)], false)),
        bytes("a message, and frames of nothing", "OK", with_body(&fields(), &[&good, b"", b""], true)),
        complete("a message and rubbish", INVALID, &[&never[..], &[0xff; 500]].concat()),
        complete("rubbish in place of a message", INVALID, &prefixed(0, 500, &[0xff; 500])),
        complete("compressed, and with nothing", INVALID, &prefixed(1, inner.len(), inner)),
        complete("flag 2", INVALID, &prefixed(2, inner.len(), inner)),
        complete("an unknown flag", INVALID, &prefixed(255, inner.len(), inner)),
        open("an announced message that is not sent", &[&prefixed(0, 65_536, b"")]),
        open("a message without its end", &[&good[..9]]),
        open("nothing that ends", &[]),
        open("a prefix that does not end", &[&[0], &[0], &[0]]),
        bytes("a message that is there, and no end", "OK or DeadlineExceeded DEADLINE_EXCEEDED", with_body(&within("300m"), &[&good], false)),
        bytes("DATA after the response", "usable", [rejected_call(), large].concat()),
        bytes("a reset in the middle of a message", "usable", [with_body(&fields(), &[&good[..9]], false), cancel(1)].concat()),
        timed("a deadline in 11,415 years", "OK", "99999999H"),
        timed("a deadline of no time", LATE, "0n"),
        timed("a deadline that is too long a number", INVALID, "999999999S"),
        timed("a deadline that is no number", INVALID, "\u{661}S"),
        timed("a deadline below nothing", INVALID, "-1S"),
        timed("two deadlines in one header", INVALID, "5S, 5S"),
        bytes("two deadlines", INVALID, within("5S").with("grpc-timeout", "9S").call(1, NEVER)),
        bytes("two deadlines of which one is bad", INVALID, within("5S").with("grpc-timeout", "x").call(1, NEVER)),
        bytes("the same deadline twice", INVALID, within("5S").with("grpc-timeout", "5S").call(1, NEVER)),
        bytes("three deadlines", INVALID, within("1S").with("grpc-timeout", "5S").with("grpc-timeout", "1S").call(1, NEVER)),
        bytes("two tokens", INVALID, fields().with("authorization", "Bearer a").with("authorization", "Bearer a").call(1, NEVER)),
        bytes("two content types", INVALID, fields().with("content-type", "application/grpc").call(1, NEVER)),
        bytes("te twice", "OK", fields().with("te", "trailers").call(1, "x")),
        bytes("no te", "OK", fields().without("te").call(1, "x")),
    ]
}

/// Returns headers that are rejected. The caller appends the message nevertheless.
fn rejected_call() -> Vec<u8> {
    fields().set("content-type", "text/plain").headers(1, 0)
}
