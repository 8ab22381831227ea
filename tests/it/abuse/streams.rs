//! Exhausted streams and windows, and connections that are cut.

use std::sync::Arc;

use futures_util::future::join_all;

use super::{
    Kind, distinct,
    frames::{DATA, END_STREAM, fields, frame, message, nth, prefixed, settings, window_update},
    kind,
    peer::Peer,
    target::Connector,
};

/// The `max_concurrent_streams` of the server.
pub const STREAMS: u32 = 100;
/// The `max_concurrent_calls` of the server in these tests.
pub const CALLS: u32 = 400;

#[rustfmt::skip]
pub fn kinds() -> Vec<Kind> {
    vec![
        kind("too many streams", "50 refused, then usable", too_many),
        kind("responses with a flow-control window of 0", "usable", zero_window),
        kind("responses read byte by byte", "OK", trickle),
        kind("responses that are never read", "stops reading", without_reading),
        kind("announced messages that are not sent", "usable", unsent_messages),
        kind("connections that are cut with open streams", "cut", |connector| cut(connector, false)),
        kind("connections that are cut with calls", "cut", |connector| cut(connector, true)),
    ]
}

fn all(frames: impl FnMut(u32) -> Vec<u8>) -> Vec<u8> {
    (0..STREAMS).map(nth).flat_map(frames).collect()
}

/// Ends calls whose messages have not been sent. Resetting them could be mistaken for a rapid reset attack if the
/// server has not processed them yet.
pub async fn finish(peer: &mut Peer, streams: u32) {
    let streams: Vec<_> = (0..streams).map(nth).collect();
    let ends = streams
        .iter()
        .flat_map(|stream| frame(DATA, END_STREAM, *stream, b""));
    peer.send(ends.collect::<Vec<_>>()).await;
    peer.until(|frames| {
        let ended = |stream| frames.ended.contains(stream);
        frames.connection_end().is_some() || streams.iter().all(ended)
    })
    .await;
}

/// Opens 1.5 times as many streams as allowed.
async fn too_many(connector: Arc<Connector>) -> String {
    let mut peer = connector.peer().await;
    let streams = (0..STREAMS * 3 / 2).map(nth);
    let bytes: Vec<u8> = streams
        .flat_map(|stream| fields().headers(stream, 0))
        .collect();
    peer.send(bytes).await;
    peer.until(|frames| frames.resets.len() >= 50).await;
    let refused = peer.inspect(|frames| {
        let refused = frames
            .resets
            .iter()
            .filter(|(_, code)| *code == "REFUSED_STREAM");
        refused
            .filter(|(stream, _)| **stream >= nth(STREAMS))
            .count()
    });
    finish(&mut peer, STREAMS).await;
    format!("{refused} refused, then {}", peer.assert_usable().await)
}

/// Makes 300 calls with a window of zero. The responses are sent as soon as the window is increased.
async fn zero_window(connector: Arc<Connector>) -> String {
    let mut peers = Vec::new();
    for _ in 0..3 {
        let mut peer = connector.peer_with(&[(4, 0)]).await;
        peer.send(all(|stream| fields().call(stream, "x"))).await;
        // Not more concurrent calls than the account accepts.
        let every = STREAMS as usize;
        peer.until(|frames| frames.answers.len() == every || frames.connection_end().is_some())
            .await;
        assert!(peer.inspect(|frames| frames.ended.is_empty()), "{peer:?}");
        peers.push(peer);
    }
    let ends = peers.iter_mut().map(async |peer| {
        peer.send(all(|stream| window_update(stream, 1_000))).await;
        let every = STREAMS as usize;
        peer.until(|frames| frames.ended.len() == every || frames.connection_end().is_some())
            .await;
        peer.send(settings(&[(4, 1_000)])).await;
        peer.assert_usable().await
    });
    distinct(join_all(ends).await)
}

/// Increases the window by one byte at a time.
async fn trickle(connector: Arc<Connector>) -> String {
    let mut peer = connector.peer_with(&[(4, 0)]).await;
    peer.send(fields().call(1, "x")).await;
    peer.until(|frames| frames.answers.contains_key(&1)).await;
    peer.send(window_update(1, 1).repeat(1_000)).await;
    peer.until(|frames| frames.end(1).is_some()).await;
    peer.inspect(|frames| frames.end(1).unwrap())
}

/// Makes calls whose responses are never read. The server must stop accepting calls.
async fn without_reading(connector: Arc<Connector>) -> String {
    let mut peer = connector.without_reading().await;
    peer.begin(&[(4, (1 << 31) - 1)]).await;
    peer.is_accepted(&window_update(0, (1 << 30) - 1)).await;
    // Rejected without an audit record; only the responses matter here.
    let list = fields().set("content-type", "text/plain");
    for round in 0..1_000 {
        let streams = (0..1_000).map(|number| nth(1_000 * round + number));
        let calls: Vec<u8> = streams
            .flat_map(|stream| list.headers(stream, END_STREAM))
            .collect();
        if !peer.is_accepted(&calls).await {
            return "stops reading".to_owned();
        }
    }
    "reads on".to_owned()
}

/// Opens more calls than allowed, whose messages are not sent. Those that have been silent for the longest time are
/// rejected; calls with a complete message succeed, and the connections stay usable.
async fn unsent_messages(connector: Arc<Connector>) -> String {
    let open = |stream| {
        let body = [prefixed(0, 65_536, b""), vec![0; 100]].concat();
        [fields().headers(stream, 0), frame(DATA, 0, stream, &body)].concat()
    };
    let silent: Vec<u8> = (0..STREAMS - 1).map(nth).flat_map(open).collect();
    let mut peers = Vec::new();
    for _ in 0..CALLS / STREAMS + 2 {
        let mut peer = connector.peer().await;
        // After a call has succeeded, all others are waiting for their messages.
        assert!(peer.send_and_call(&silent, nth(STREAMS - 1)).await);
        peers.push(peer);
    }
    let mut first = peers.remove(0);
    let every = STREAMS as usize;
    first
        .until(|frames| frames.ended.len() == every || frames.connection_end().is_some())
        .await;
    first.inspect(|frames| {
        let mut ends = (0..STREAMS - 1).map(|at| frames.end(nth(at)).unwrap());
        assert!(ends.all(|end| end == "ResourceExhausted OVERLOADED"));
    });
    let mut last = peers.pop().unwrap();
    finish(&mut last, STREAMS - 1).await;
    distinct(vec![
        first.assert_usable().await,
        last.assert_usable().await,
    ])
}

/// Cuts connections with calls in progress. All calls end and release their resources.
async fn cut(connector: Arc<Connector>, complete: bool) -> String {
    for _ in 0..20 {
        let mut peer = connector.peer().await;
        peer.send(all(|stream| {
            let body = message("x");
            let (body, flags) = if complete {
                (&body[..], END_STREAM)
            } else {
                (&body[..9], 0)
            };
            [
                fields().headers(stream, 0),
                frame(DATA, flags, stream, body),
            ]
            .concat()
        }))
        .await;
    }
    "cut".to_owned()
}
