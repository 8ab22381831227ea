//! Messages that are compressed, or are marked as compressed.

use std::{io::Write as _, sync::Arc};

use flate2::{Compression, write::GzEncoder};

use super::{
    Attack, attack, distinct,
    frames::{
        DATA, END_STREAM, MAX_FRAME, fields, frame, message, stream_id, with_body, with_grpc_prefix,
    },
    messages::{INVALID_REQUEST, UNRECORDED_USER},
    send_bytes,
    streams::MAX_STREAMS,
    target::Connector,
};

fn call_with_encoding(
    name: &'static str,
    end: &'static str,
    encoding: &str,
    flag: u8,
    message: &[u8],
) -> Attack {
    let list = fields().with("grpc-encoding", encoding);
    let body = with_grpc_prefix(flag, message.len(), message);
    let frames: Vec<_> = body.chunks(MAX_FRAME).collect();
    send_bytes(name, end, with_body(&list, &frames, true))
}

#[rustfmt::skip]
pub fn attacks() -> Vec<Attack> {
    let message = message("x");
    let inner = &message[5..];
    let gzipped = gzip(inner);
    let unrecorded = gzip(&super::frames::message(UNRECORDED_USER)[5..]);
    let (head, tail) = gzipped.split_at(gzipped.len() / 2);
    let corrupted = [head, &[tail[0] ^ 0xff], &tail[1..]].concat();
    let bomb = gzip(&vec![0; 60_000_000]);
    vec![
        call_with_encoding("compressed with gzip", "OK", "gzip", 1, &gzipped),
        call_with_encoding("not compressed, though it may be", "OK", "gzip", 0, inner),
        call_with_encoding("not compressed at all", "OK", "identity", 0, inner),
        call_with_encoding("compressed with identity", INVALID_REQUEST, "identity", 1, inner),
        call_with_encoding("compressed twice", INVALID_REQUEST, "gzip", 1, &gzip(&gzipped)),
        call_with_encoding("gzip that is none", INVALID_REQUEST, "gzip", 1, inner),
        call_with_encoding("gzip of nothing", INVALID_REQUEST, "gzip", 1, b""),
        call_with_encoding("gzip of which half is missing", INVALID_REQUEST, "gzip", 1, head),
        call_with_encoding("gzip with a wrong byte", INVALID_REQUEST, "gzip", 1, &corrupted),
        call_with_encoding("two gzip members", INVALID_REQUEST, "gzip", 1, &unrecorded.repeat(2)),
        call_with_encoding("a gzip member, and one byte", INVALID_REQUEST, "gzip", 1, &[&unrecorded[..], b"x"].concat()),
        call_with_encoding("a gzip member, and an empty one", INVALID_REQUEST, "gzip", 1, &[&unrecorded[..], &gzip(b"")].concat()),
        call_with_encoding("an empty gzip member, and another one", INVALID_REQUEST, "gzip", 1, &[&gzip(b"")[..], &unrecorded].concat()),
        send_bytes("two gzip members in small frames", INVALID_REQUEST, with_body(&fields().with("grpc-encoding", "gzip"), &with_grpc_prefix(1, 2 * unrecorded.len(), &unrecorded.repeat(2)).chunks(7).collect::<Vec<_>>(), true)),
        call_with_encoding("60 MB in 58 KB", INVALID_REQUEST, "gzip", 1, &bomb),
        call_with_encoding("compressed with deflate", INVALID_REQUEST, "deflate", 1, inner),
        call_with_encoding("compressed with zstd", INVALID_REQUEST, "zstd", 1, inner),
        call_with_encoding("compressed with snappy", INVALID_REQUEST, "snappy", 0, inner),
        call_with_encoding("an unknown compression", INVALID_REQUEST, "x", 1, inner),
        call_with_encoding("two encodings in one header", INVALID_REQUEST, "gzip, gzip", 1, &gzipped),
        send_bytes("two encodings", INVALID_REQUEST, fields().with("grpc-encoding", "gzip").with("grpc-encoding", "gzip").call(1, UNRECORDED_USER)),
        send_bytes("an empty encoding", INVALID_REQUEST, fields().with("grpc-encoding", "").call(1, UNRECORDED_USER)),
        attack("bombs on every stream", INVALID_REQUEST, bombs),
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
    let body = with_grpc_prefix(1, bomb.len(), &bomb);
    let list = fields().with("grpc-encoding", "gzip");
    let streams = || (0..MAX_STREAMS).map(stream_id);
    let calls = streams().flat_map(|stream| {
        let data = frame(DATA, END_STREAM, stream, &body);
        [list.headers(stream, 0), data].concat()
    });
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
