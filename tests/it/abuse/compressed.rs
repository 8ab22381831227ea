//! Messages that are compressed, or are marked as compressed.

use std::{io::Write as _, sync::Arc};

use flate2::{Compression, write::GzEncoder};

use super::{
    Kind, bytes, distinct,
    frames::{DATA, END_STREAM, MAX_FRAME, fields, frame, message, nth, prefixed, with_body},
    kind,
    messages::{INVALID, NEVER},
    streams::STREAMS,
    target::Connector,
};

fn compressed(
    name: &'static str,
    end: &'static str,
    encoding: &str,
    flag: u8,
    message: &[u8],
) -> Kind {
    let list = fields().with("grpc-encoding", encoding);
    let body = prefixed(flag, message.len(), message);
    let frames: Vec<_> = body.chunks(MAX_FRAME).collect();
    bytes(name, end, with_body(&list, &frames, true))
}

#[rustfmt::skip]
pub fn kinds() -> Vec<Kind> {
    let message = message("x");
    let inner = &message[5..];
    let zipped = gzip(inner);
    let never = gzip(&super::frames::message(NEVER)[5..]);
    let (head, tail) = zipped.split_at(zipped.len() / 2);
    let flipped = [head, &[tail[0] ^ 0xff], &tail[1..]].concat();
    let bomb = gzip(&vec![0; 60_000_000]);
    vec![
        compressed("compressed with gzip", "OK", "gzip", 1, &zipped),
        compressed("not compressed, though it may be", "OK", "gzip", 0, inner),
        compressed("not compressed at all", "OK", "identity", 0, inner),
        compressed("compressed with identity", INVALID, "identity", 1, inner),
        compressed("compressed twice", INVALID, "gzip", 1, &gzip(&zipped)),
        compressed("gzip that is none", INVALID, "gzip", 1, inner),
        compressed("gzip of nothing", INVALID, "gzip", 1, b""),
        compressed("gzip of which half is missing", INVALID, "gzip", 1, head),
        compressed("gzip with a wrong byte", INVALID, "gzip", 1, &flipped),
        compressed("two gzip members", INVALID, "gzip", 1, &never.repeat(2)),
        compressed("a gzip member, and one byte", INVALID, "gzip", 1, &[&never[..], b"x"].concat()),
        compressed("a gzip member, and an empty one", INVALID, "gzip", 1, &[&never[..], &gzip(b"")].concat()),
        compressed("an empty gzip member, and another one", INVALID, "gzip", 1, &[&gzip(b"")[..], &never].concat()),
        bytes("two gzip members in small frames", INVALID, with_body(&fields().with("grpc-encoding", "gzip"), &prefixed(1, 2 * never.len(), &never.repeat(2)).chunks(7).collect::<Vec<_>>(), true)),
        compressed("60 MB in 58 KB", INVALID, "gzip", 1, &bomb),
        compressed("compressed with deflate", INVALID, "deflate", 1, inner),
        compressed("compressed with zstd", INVALID, "zstd", 1, inner),
        compressed("compressed with snappy", INVALID, "snappy", 0, inner),
        compressed("an unknown compression", INVALID, "x", 1, inner),
        compressed("two encodings in one header", INVALID, "gzip, gzip", 1, &zipped),
        bytes("two encodings", INVALID, fields().with("grpc-encoding", "gzip").with("grpc-encoding", "gzip").call(1, NEVER)),
        bytes("an empty encoding", INVALID, fields().with("grpc-encoding", "").call(1, NEVER)),
        kind("bombs on every stream", INVALID, bombs),
    ]
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Sends a message that is a thousand times larger when decompressed, as often as a connection allows.
async fn bombs(connector: Arc<Connector>) -> String {
    let mut peer = connector.peer().await;
    let bomb = gzip(&vec![0; 2_000_000]);
    let body = prefixed(1, bomb.len(), &bomb);
    let list = fields().with("grpc-encoding", "gzip");
    let streams = || (0..STREAMS).map(nth);
    let calls = streams().flat_map(|stream| {
        let data = frame(DATA, END_STREAM, stream, &body);
        [list.headers(stream, 0), data].concat()
    });
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
