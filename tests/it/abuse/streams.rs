//! Exhausted streams and windows, and connections that are cut.

use std::sync::Arc;

use futures_util::future::join_all;

use super::{
    Attack, attack, distinct,
    frames::{
        DATA, END_STREAM, fields, frame, message, settings, stream_id, window_update,
        with_grpc_prefix,
    },
    peer::Peer,
    target::Connector,
};

/// The `max_concurrent_streams` of the server.
pub const MAX_STREAMS: u32 = 100;
/// The `max_concurrent_calls` of the server in these tests.
pub const MAX_CALLS: u32 = 400;

#[rustfmt::skip]
pub fn attacks() -> Vec<Attack> {
    vec![
        attack("too many streams", "50 refused, then usable", open_too_many_streams),
        attack("responses with a flow-control window of 0", "usable", zero_window),
        attack("responses read byte by byte", "OK", read_byte_by_byte),
        attack("responses that are never read", "stops reading", without_reading),
        attack("announced messages that are not sent", "usable", unsent_messages),
        attack("connections that are cut with open streams", "cut", |connector| disconnect(connector, false)),
        attack("connections that are cut with calls", "cut", |connector| disconnect(connector, true)),
    ]
}

fn frames_on_all_streams(frames: impl FnMut(u32) -> Vec<u8>) -> Vec<u8> {
    (0..MAX_STREAMS).map(stream_id).flat_map(frames).collect()
}

/// Ends calls whose messages have not been sent. Resetting them could be mistaken for a rapid reset attack if the
/// server has not processed them yet.
pub async fn end_streams(peer: &mut Peer, streams: u32) {
    let streams: Vec<_> = (0..streams).map(stream_id).collect();
    let end_frames = streams
        .iter()
        .flat_map(|stream| frame(DATA, END_STREAM, *stream, b""));
    peer.send(end_frames.collect::<Vec<_>>()).await;
    peer.wait_until_frames(|frames| {
        let ended = |stream| frames.ended_streams.contains(stream);
        frames.connection_end().is_some() || streams.iter().all(ended)
    })
    .await;
}

/// Opens 1.5 times as many streams as allowed.
async fn open_too_many_streams(connector: Arc<Connector>) -> String {
    let mut peer = connector.peer().await;
    let streams = (0..MAX_STREAMS * 3 / 2).map(stream_id);
    let bytes: Vec<u8> = streams
        .flat_map(|stream| fields().headers(stream, 0))
        .collect();
    peer.send(bytes).await;
    peer.wait_until_frames(|frames| frames.resets.len() >= 50)
        .await;
    let refusal = peer.inspect(|frames| {
        let refusal = frames
            .resets
            .iter()
            .filter(|(_, code)| *code == "REFUSED_STREAM");
        refusal
            .filter(|(stream, _)| **stream >= stream_id(MAX_STREAMS))
            .count()
    });
    end_streams(&mut peer, MAX_STREAMS).await;
    format!("{refusal} refused, then {}", peer.assert_usable().await)
}

/// Makes 300 calls with a window of zero. The responses are sent as soon as the window is increased.
async fn zero_window(connector: Arc<Connector>) -> String {
    let mut peers = Vec::new();
    for _ in 0..3 {
        let mut peer = connector.peer_with(&[(4, 0)]).await;
        peer.send(frames_on_all_streams(|stream| fields().call(stream, "x")))
            .await;
        // Not more concurrent calls than the account accepts.
        let stream_count = MAX_STREAMS as usize;
        peer.wait_until_frames(|frames| {
            frames.responses.len() == stream_count || frames.connection_end().is_some()
        })
        .await;
        assert!(
            peer.inspect(|frames| frames.ended_streams.is_empty()),
            "{peer:?}"
        );
        peers.push(peer);
    }
    let results = peers.iter_mut().map(async |peer| {
        peer.send(frames_on_all_streams(|stream| window_update(stream, 1_000)))
            .await;
        let stream_count = MAX_STREAMS as usize;
        peer.wait_until_frames(|frames| {
            frames.ended_streams.len() == stream_count || frames.connection_end().is_some()
        })
        .await;
        peer.send(settings(&[(4, 1_000)])).await;
        peer.assert_usable().await
    });
    distinct(join_all(results).await)
}

/// Increases the window by one byte at a time.
async fn read_byte_by_byte(connector: Arc<Connector>) -> String {
    let mut peer = connector.peer_with(&[(4, 0)]).await;
    peer.send(fields().call(1, "x")).await;
    peer.wait_until_frames(|frames| frames.responses.contains_key(&1))
        .await;
    peer.send(window_update(1, 1).repeat(1_000)).await;
    peer.wait_until_frames(|frames| frames.end(1).is_some())
        .await;
    peer.inspect(|frames| frames.end(1).unwrap())
}

/// Makes calls whose responses are never read. The server must stop accepting calls.
async fn without_reading(connector: Arc<Connector>) -> String {
    let mut peer = connector.without_reading().await;
    peer.start_http2(&[(4, (1 << 31) - 1)]).await;
    peer.is_accepted(&window_update(0, (1 << 30) - 1)).await;
    // Rejected without an audit record; only the responses matter here.
    let list = fields().set("content-type", "text/plain");
    for round in 0..1_000 {
        let streams = (0..1_000).map(|number| stream_id(1_000 * round + number));
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
        let body = [with_grpc_prefix(0, 65_536, b""), vec![0; 100]].concat();
        [fields().headers(stream, 0), frame(DATA, 0, stream, &body)].concat()
    };
    let silent: Vec<u8> = (0..MAX_STREAMS - 1).map(stream_id).flat_map(open).collect();
    let mut peers = Vec::new();
    for _ in 0..MAX_CALLS / MAX_STREAMS + 2 {
        let mut peer = connector.peer().await;
        // After a call has succeeded, all others are waiting for their messages.
        assert!(
            peer.send_and_call(&silent, stream_id(MAX_STREAMS - 1))
                .await
        );
        peers.push(peer);
    }
    let mut first = peers.remove(0);
    let stream_count = MAX_STREAMS as usize;
    first
        .wait_until_frames(|frames| {
            frames.ended_streams.len() == stream_count || frames.connection_end().is_some()
        })
        .await;
    first.inspect(|frames| {
        let mut results = (0..MAX_STREAMS - 1).map(|at| frames.end(stream_id(at)).unwrap());
        assert!(results.all(|end| end == "ResourceExhausted OVERLOADED"));
    });
    let mut last = peers.pop().unwrap();
    end_streams(&mut last, MAX_STREAMS - 1).await;
    distinct(vec![
        first.assert_usable().await,
        last.assert_usable().await,
    ])
}

/// Cuts connections with calls in progress. All calls end and release their resources.
async fn disconnect(connector: Arc<Connector>, complete: bool) -> String {
    for _ in 0..20 {
        let mut peer = connector.peer().await;
        peer.send(frames_on_all_streams(|stream| {
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
