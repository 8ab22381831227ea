//! Endless sequences of frames.

use std::sync::Arc;

use super::{
    Attack, attack, distinct,
    frames::{
        ACK, CONTINUATION, DATA, END_STREAM, HEADERS, MAX_FRAME, PADDED, PING, PRIORITY, cancel,
        fields, frame, settings, stream_id, window_update, with_grpc_prefix,
    },
    streams::end_streams,
    target::Connector,
};

const TOO_MANY_RESETS: &str = "GOAWAY ENHANCE_YOUR_CALM too_many_resets";
const TOO_MANY_INTERNAL_RESETS: &str = "GOAWAY ENHANCE_YOUR_CALM too_many_internal_resets";
const TOO_MANY_CONTINUATIONS: &str = "GOAWAY ENHANCE_YOUR_CALM too_many_continuations";
const TOO_MANY_DATA_FRAMES: &str = "GOAWAY ENHANCE_YOUR_CALM too_many_data_frames";

#[rustfmt::skip]
pub fn attacks() -> Vec<Attack> {
    vec![
        attack("rapid reset", TOO_MANY_RESETS, rapid_reset),
        attack("reset as fast as is allowed", "usable", resets_in_small_groups),
        attack("cancelled calls", "usable", cancelled_calls),
        attack("windows that make the server reset", TOO_MANY_INTERNAL_RESETS, |connector| forced_resets(connector, |stream| {
            [fields().headers(stream, 0), window_update(stream, (1 << 31) - 1)].concat()
        })),
        attack("requests that make the server reset", TOO_MANY_INTERNAL_RESETS, |connector| forced_resets(connector, |stream| {
            fields().with("connection", "x").headers(stream, END_STREAM)
        })),
        attack("lengths that make the server reset", TOO_MANY_INTERNAL_RESETS, |connector| forced_resets(connector, |stream| {
            fields().with("content-length", "7").headers(stream, END_STREAM)
        })),
        attack("streams that the server refuses", TOO_MANY_INTERNAL_RESETS, |connector| forced_resets(connector, |stream| fields().headers(stream, 0))),
        attack("CONTINUATION", TOO_MANY_CONTINUATIONS, |connector| send_repeatedly(connector, &unfinished_headers(b""), &frame(CONTINUATION, 0, 1, &frame_sized_field()), 2_000)),
        attack("CONTINUATION of half a field", TOO_MANY_CONTINUATIONS, |connector| send_repeatedly(connector, &unfinished_headers(b"\0\x01x\x7f\xff\xff\x3f"), &frame(CONTINUATION, 0, 1, &[0; MAX_FRAME]), 2_000)),
        attack("empty CONTINUATION", TOO_MANY_CONTINUATIONS, |connector| send_repeatedly(connector, &unfinished_headers(b""), &frame(CONTINUATION, 0, 1, b""), 100_000)),
        attack("empty DATA", TOO_MANY_DATA_FRAMES, |connector| send_repeatedly(connector, &call_without_message(), &frame(DATA, 0, 1, b""), 100_000)),
        attack("DATA of nothing but padding", TOO_MANY_DATA_FRAMES, |connector| send_repeatedly(connector, &call_without_message(), &frame(DATA, PADDED, 1, &[9; 10]), 20_000)),
        attack("tiny DATA", TOO_MANY_DATA_FRAMES, |connector| send_repeatedly(connector, &call_without_message(), &frame(DATA, 0, 1, b"x"), 50_000)),
        attack("PING", "usable", pings),
        attack("answers to no PING", "usable", |connector| send_repeatedly(connector, b"", &frame(PING, ACK, 0, &[0; 8]), 50_000)),
        attack("SETTINGS", "usable", |connector| many_settings(connector, 0)),
        attack("SETTINGS that move the windows of 100 streams", "usable", |connector| many_settings(connector, 100)),
        attack("PRIORITY", "usable", |connector| send_repeatedly(connector, b"", &frame(PRIORITY, 0, 77, &[0, 0, 0, 1, 9]), 50_000)),
        attack("WINDOW_UPDATE", "usable", |connector| send_repeatedly(connector, b"", &window_update(0, 1), 50_000)),
        attack("RST_STREAM of one stream", "usable", |connector| send_repeatedly(connector, &call_without_message(), &cancel(1), 50_000)),
        attack("unknown frames", "usable", |connector| send_repeatedly(connector, b"", &frame(0xfa, 0, 7, &[7; MAX_FRAME]), 1_000)),
        attack("PING without reading", "stops reading", unread_pings),
    ]
}

fn unfinished_headers(partial_block: &[u8]) -> Vec<u8> {
    frame(HEADERS, 0, 1, partial_block)
}

/// Returns the start of a call whose message has been announced but not sent.
fn call_without_message() -> Vec<u8> {
    let prefix = frame(DATA, 0, 1, &with_grpc_prefix(0, 60_000, b""));
    [fields().headers(1, 0), prefix].concat()
}

/// Returns a header field that fills a frame.
fn frame_sized_field() -> Vec<u8> {
    let value = vec![b'x'; MAX_FRAME - 10];
    super::frames::literal(0, b"x", &value)
}

/// Sends the first bytes and then the same frame repeatedly.
async fn send_bytes_repeatedly(
    connector: Arc<Connector>,
    first: Vec<u8>,
    repeated: Vec<u8>,
    count: usize,
) -> String {
    let mut peer = connector.peer().await;
    peer.send(&first).await;
    let batch = repeated.repeat((count / 10).max(1));
    for _ in 0..10 {
        peer.send(&batch).await;
    }
    peer.assert_usable().await
}

fn send_repeatedly(
    connector: Arc<Connector>,
    first: &[u8],
    repeated: &[u8],
    count: usize,
) -> impl Future<Output = String> + use<> {
    send_bytes_repeatedly(connector, first.to_vec(), repeated.to_vec(), count)
}

/// Opens 20,000 streams and resets each of them immediately.
async fn rapid_reset(connector: Arc<Connector>) -> String {
    let streams = (0..200).map(stream_id);
    let call = |stream| [fields().call(stream, "x"), cancel(stream)].concat();
    let bytes: Vec<u8> = streams.flat_map(call).collect();
    let mut results = Vec::new();
    for _ in 0..100 {
        let mut peer = connector.peer().await;
        peer.send(&bytes).await;
        results.push(peer.wait_for_close().await);
    }
    distinct(results)
}

/// Resets streams in groups that are within the limit of h2.
async fn resets_in_small_groups(connector: Arc<Connector>) -> String {
    let mut peer = connector.peer().await;
    for round in 0..50 {
        let streams = (0..20).map(|number| stream_id(21 * round + number));
        let call = |stream| [fields().call(stream, "x"), cancel(stream)].concat();
        let calls: Vec<u8> = streams.flat_map(call).collect();
        if !peer.send_and_call(&calls, stream_id(21 * round + 20)).await {
            return peer.wait_for_close().await;
        }
    }
    peer.assert_usable().await
}

/// Resets calls after the server has started to process them.
async fn cancelled_calls(connector: Arc<Connector>) -> String {
    let mut peer = connector.peer().await;
    // A thousand responses do not fit into the initial connection window of 65,535 bytes.
    peer.send(window_update(0, 1 << 20)).await;
    for round in 0..10 {
        let streams = (0..99).map(|number| stream_id(100 * round + number));
        let calls = streams
            .clone()
            .flat_map(|stream| fields().call(stream, "x"));
        let calls: Vec<u8> = calls.collect();
        if !peer
            .send_and_call(&calls, stream_id(100 * round + 99))
            .await
        {
            return peer.wait_for_close().await;
        }
        let cancels: Vec<u8> = streams.flat_map(cancel).collect();
        peer.send(&cancels).await;
    }
    peer.assert_usable().await
}

/// Sends 20,000 requests that the server has to reset.
async fn forced_resets(connector: Arc<Connector>, request: fn(u32) -> Vec<u8>) -> String {
    let bytes: Vec<u8> = (0..2_000).map(stream_id).flat_map(request).collect();
    let mut results = Vec::new();
    for _ in 0..10 {
        let mut peer = connector.peer().await;
        peer.send(&bytes).await;
        results.push(peer.wait_for_close().await);
    }
    distinct(results)
}

async fn pings(connector: Arc<Connector>) -> String {
    const COUNT: usize = 50_000;
    let mut peer = connector.peer().await;
    peer.send(frame(PING, 0, 0, &[7; 8]).repeat(COUNT)).await;
    peer.wait_until_frames(|frames| {
        frames.pings_acknowledged == COUNT || frames.connection_end().is_some()
    })
    .await;
    peer.assert_usable().await
}

async fn many_settings(connector: Arc<Connector>, streams: u32) -> String {
    const COUNT: usize = 10_000;
    let mut peer = connector.peer().await;
    let open: Vec<u8> = (0..streams)
        .map(stream_id)
        .flat_map(|stream| fields().headers(stream, 0))
        .collect();
    peer.send(open).await;
    let pair = [settings(&[(4, 0)]), settings(&[(4, 1 << 20)])].concat();
    peer.send(pair.repeat(COUNT / 2)).await;
    peer.wait_until_frames(|frames| frames.acks > COUNT || frames.connection_end().is_some())
        .await;
    end_streams(&mut peer, streams).await;
    peer.assert_usable().await
}

/// Sends pings without reading the replies. The server must not buffer them without limit: it stops reading.
async fn unread_pings(connector: Arc<Connector>) -> String {
    let mut peer = connector.without_reading().await;
    peer.start_http2(&[]).await;
    let pings = frame(PING, 0, 0, &[7; 8]).repeat(50_000);
    for _ in 0..100 {
        if !peer.is_accepted(&pings).await {
            return "stops reading".to_owned();
        }
    }
    "reads on".to_owned()
}
