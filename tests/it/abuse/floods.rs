//! Endless sequences of frames.

use std::sync::Arc;

use super::{
    Kind, distinct,
    frames::{
        ACK, CONTINUATION, DATA, END_STREAM, HEADERS, MAX_FRAME, PADDED, PING, PRIORITY, cancel,
        fields, frame, nth, prefixed, settings, window_update,
    },
    kind,
    streams::finish,
    target::Connector,
};

const RESETS: &str = "GOAWAY ENHANCE_YOUR_CALM too_many_resets";
const INTERNAL: &str = "GOAWAY ENHANCE_YOUR_CALM too_many_internal_resets";
const CONTINUATIONS: &str = "GOAWAY ENHANCE_YOUR_CALM too_many_continuations";
const SMALL: &str = "GOAWAY ENHANCE_YOUR_CALM too_many_data_frames";

#[rustfmt::skip]
pub fn kinds() -> Vec<Kind> {
    vec![
        kind("rapid reset", RESETS, rapid_reset),
        kind("reset as fast as is allowed", "usable", resets_in_small_groups),
        kind("cancelled calls", "usable", calls_that_are_given_up),
        kind("windows that make the server reset", INTERNAL, |connector| made_to_reset(connector, |stream| {
            [fields().headers(stream, 0), window_update(stream, (1 << 31) - 1)].concat()
        })),
        kind("requests that make the server reset", INTERNAL, |connector| made_to_reset(connector, |stream| {
            fields().with("connection", "x").headers(stream, END_STREAM)
        })),
        kind("lengths that make the server reset", INTERNAL, |connector| made_to_reset(connector, |stream| {
            fields().with("content-length", "7").headers(stream, END_STREAM)
        })),
        kind("streams that the server refuses", INTERNAL, |connector| made_to_reset(connector, |stream| fields().headers(stream, 0))),
        kind("CONTINUATION", CONTINUATIONS, |connector| endless(connector, &continued(b""), &frame(CONTINUATION, 0, 1, &field()), 2_000)),
        kind("CONTINUATION of half a field", CONTINUATIONS, |connector| endless(connector, &continued(b"\0\x01x\x7f\xff\xff\x3f"), &frame(CONTINUATION, 0, 1, &[0; MAX_FRAME]), 2_000)),
        kind("empty CONTINUATION", CONTINUATIONS, |connector| endless(connector, &continued(b""), &frame(CONTINUATION, 0, 1, b""), 100_000)),
        kind("empty DATA", SMALL, |connector| endless(connector, &opened(), &frame(DATA, 0, 1, b""), 100_000)),
        kind("DATA of nothing but padding", SMALL, |connector| endless(connector, &opened(), &frame(DATA, PADDED, 1, &[9; 10]), 20_000)),
        kind("tiny DATA", SMALL, |connector| endless(connector, &opened(), &frame(DATA, 0, 1, b"x"), 50_000)),
        kind("PING", "usable", pings),
        kind("answers to no PING", "usable", |connector| endless(connector, b"", &frame(PING, ACK, 0, &[0; 8]), 50_000)),
        kind("SETTINGS", "usable", |connector| many_settings(connector, 0)),
        kind("SETTINGS that move the windows of 100 streams", "usable", |connector| many_settings(connector, 100)),
        kind("PRIORITY", "usable", |connector| endless(connector, b"", &frame(PRIORITY, 0, 77, &[0, 0, 0, 1, 9]), 50_000)),
        kind("WINDOW_UPDATE", "usable", |connector| endless(connector, b"", &window_update(0, 1), 50_000)),
        kind("RST_STREAM of one stream", "usable", |connector| endless(connector, &opened(), &cancel(1), 50_000)),
        kind("unknown frames", "usable", |connector| endless(connector, b"", &frame(0xfa, 0, 7, &[7; MAX_FRAME]), 1_000)),
        kind("PING without reading", "stops reading", unread_pings),
    ]
}

fn continued(begin: &[u8]) -> Vec<u8> {
    frame(HEADERS, 0, 1, begin)
}

/// Returns the start of a call whose message has been announced but not sent.
fn opened() -> Vec<u8> {
    let prefix = frame(DATA, 0, 1, &prefixed(0, 60_000, b""));
    [fields().headers(1, 0), prefix].concat()
}

/// Returns a header field that fills a frame.
fn field() -> Vec<u8> {
    let value = vec![b'x'; MAX_FRAME - 10];
    super::frames::literal(0, b"x", &value)
}

/// Sends the first bytes and then the same frame repeatedly.
async fn endless_bytes(
    connector: Arc<Connector>,
    first: Vec<u8>,
    again: Vec<u8>,
    count: usize,
) -> String {
    let mut peer = connector.peer().await;
    peer.send(&first).await;
    let some = again.repeat((count / 10).max(1));
    for _ in 0..10 {
        peer.send(&some).await;
    }
    peer.assert_usable().await
}

fn endless(
    connector: Arc<Connector>,
    first: &[u8],
    again: &[u8],
    count: usize,
) -> impl Future<Output = String> + use<> {
    endless_bytes(connector, first.to_vec(), again.to_vec(), count)
}

/// Opens 20,000 streams and resets each of them immediately.
async fn rapid_reset(connector: Arc<Connector>) -> String {
    let streams = (0..200).map(nth);
    let call = |stream| [fields().call(stream, "x"), cancel(stream)].concat();
    let bytes: Vec<u8> = streams.flat_map(call).collect();
    let mut ends = Vec::new();
    for _ in 0..100 {
        let mut peer = connector.peer().await;
        peer.send(&bytes).await;
        ends.push(peer.wait_for_close().await);
    }
    distinct(ends)
}

/// Resets streams in groups that are within the limit of h2.
async fn resets_in_small_groups(connector: Arc<Connector>) -> String {
    let mut peer = connector.peer().await;
    for round in 0..50 {
        let streams = (0..20).map(|number| nth(21 * round + number));
        let call = |stream| [fields().call(stream, "x"), cancel(stream)].concat();
        let calls: Vec<u8> = streams.flat_map(call).collect();
        if !peer.send_and_call(&calls, nth(21 * round + 20)).await {
            return peer.wait_for_close().await;
        }
    }
    peer.assert_usable().await
}

/// Resets calls after the server has started to process them.
async fn calls_that_are_given_up(connector: Arc<Connector>) -> String {
    let mut peer = connector.peer().await;
    // A thousand responses do not fit into the initial connection window of 65,535 bytes.
    peer.send(window_update(0, 1 << 20)).await;
    for round in 0..10 {
        let streams = (0..99).map(|number| nth(100 * round + number));
        let calls = streams
            .clone()
            .flat_map(|stream| fields().call(stream, "x"));
        let calls: Vec<u8> = calls.collect();
        if !peer.send_and_call(&calls, nth(100 * round + 99)).await {
            return peer.wait_for_close().await;
        }
        let cancels: Vec<u8> = streams.flat_map(cancel).collect();
        peer.send(&cancels).await;
    }
    peer.assert_usable().await
}

/// Sends 20,000 requests that the server has to reset.
async fn made_to_reset(connector: Arc<Connector>, request: fn(u32) -> Vec<u8>) -> String {
    let bytes: Vec<u8> = (0..2_000).map(nth).flat_map(request).collect();
    let mut ends = Vec::new();
    for _ in 0..10 {
        let mut peer = connector.peer().await;
        peer.send(&bytes).await;
        ends.push(peer.wait_for_close().await);
    }
    distinct(ends)
}

async fn pings(connector: Arc<Connector>) -> String {
    const COUNT: usize = 50_000;
    let mut peer = connector.peer().await;
    peer.send(frame(PING, 0, 0, &[7; 8]).repeat(COUNT)).await;
    peer.until(|frames| frames.pongs == COUNT || frames.connection_end().is_some())
        .await;
    peer.assert_usable().await
}

async fn many_settings(connector: Arc<Connector>, streams: u32) -> String {
    const COUNT: usize = 10_000;
    let mut peer = connector.peer().await;
    let open: Vec<u8> = (0..streams)
        .map(nth)
        .flat_map(|stream| fields().headers(stream, 0))
        .collect();
    peer.send(open).await;
    let pair = [settings(&[(4, 0)]), settings(&[(4, 1 << 20)])].concat();
    peer.send(pair.repeat(COUNT / 2)).await;
    peer.until(|frames| frames.acks > COUNT || frames.connection_end().is_some())
        .await;
    finish(&mut peer, streams).await;
    peer.assert_usable().await
}

/// Sends pings without reading the replies. The server must not buffer them without limit: it stops reading.
async fn unread_pings(connector: Arc<Connector>) -> String {
    let mut peer = connector.without_reading().await;
    peer.begin(&[]).await;
    let pings = frame(PING, 0, 0, &[7; 8]).repeat(50_000);
    for _ in 0..100 {
        if !peer.is_accepted(&pings).await {
            return "stops reading".to_owned();
        }
    }
    "reads on".to_owned()
}
