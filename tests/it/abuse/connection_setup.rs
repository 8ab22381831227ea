//! Connections that do not start correctly.

use std::sync::Arc;

use futures_util::future::join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{
    Attack, attack, distinct,
    frames::{ACK, PING, PREFACE, SETTINGS, frame, settings},
    target::Connector,
};

/// The header and the first bytes of a `ClientHello` of 512 bytes.
const HELLO: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";

#[rustfmt::skip]
pub fn attacks() -> Vec<Attack> {
    vec![
        attack("a preface byte by byte", "usable", preface_byte_by_byte),
        attack("half a preface, half a ClientHello, nothing", "closed", half_open),
        attack("HTTP/1.1", "closed", |connector| send_raw(connector, b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n\r\n".to_vec())),
        attack("a preface of HTTP/2 with another end", "closed", |connector| send_raw(connector, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\rxxxxxxxxxxxxxxxxx".to_vec())),
        attack("a preface without SETTINGS", "usable", without_settings),
        attack("noise", "closed", |connector| send_without_tls(connector, (0..=255).rev().cycle().take(4_096).collect())),
        attack("the other kind of connection", "closed", wrong_protocol),
        attack("connections that are opened and closed", "closed by the peer", open_and_close),
        attack("connections that are closed after the preface", "closed by the peer", close_after_preface),
        attack("peers that close one half", "closed", close_sending_half),
    ]
}

/// Sends the start of a connection byte by byte, without pauses.
async fn preface_byte_by_byte(connector: Arc<Connector>) -> String {
    let mut peer = connector.silent().await;
    let first_bytes = [PREFACE, &settings(&[(1, 0)]), &frame(SETTINGS, ACK, 0, &[])].concat();
    for byte in first_bytes {
        peer.send([byte]).await;
    }
    peer.assert_usable().await
}

/// Starts connections and then sends nothing more. The server closes them after 5 s.
async fn half_open(connector: Arc<Connector>) -> String {
    let parts = [&b""[..], &HELLO[..1], HELLO, &PREFACE[..1], &PREFACE[..20]];
    let ends = parts.map(|part| {
        let connector = Arc::clone(&connector);
        async move {
            let ends = (0..40).map(|_| send_without_tls(Arc::clone(&connector), part.to_vec()));
            distinct(join_all(ends).await)
        }
    });
    distinct(join_all(ends).await)
}

/// Sends these bytes on a TCP connection without TLS.
async fn send_without_tls(connector: Arc<Connector>, bytes: Vec<u8>) -> String {
    let mut stream = connector.tcp().await;
    stream.write_all(&bytes).await.unwrap();
    // The connection may be closed or reset.
    let _ = stream.read_to_end(&mut Vec::new()).await;
    "closed".to_owned()
}

/// Sends these bytes instead of the preface.
async fn send_raw(connector: Arc<Connector>, bytes: Vec<u8>) -> String {
    let mut peer = connector.silent().await;
    peer.send(bytes).await;
    peer.wait_for_close().await
}

async fn without_settings(connector: Arc<Connector>) -> String {
    let mut peer = connector.silent().await;
    peer.send([PREFACE, &frame(PING, 0, 0, &[0; 8])].concat())
        .await;
    peer.wait_until_frames(|frames| frames.pings_acknowledged == 1)
        .await;
    peer.send(settings(&[(1, 0)])).await;
    peer.assert_usable().await
}

/// Uses TLS on the plaintext port, or plaintext on the TLS port.
async fn wrong_protocol(connector: Arc<Connector>) -> String {
    let preface = [PREFACE, &settings(&[])].concat();
    let hello = [HELLO, &[0; 506]].concat();
    send_without_tls(
        Arc::clone(&connector),
        if connector.is_tls() { preface } else { hello },
    )
    .await
}

/// Opens and closes connections, no more than fit in the listen backlog. With more, the kernel drops the SYN of the
/// next client, which is then repeated after a second.
async fn open_and_close(connector: Arc<Connector>) -> String {
    for _ in 0..500 {
        drop(connector.tcp().await);
    }
    "closed by the peer".to_owned()
}

async fn close_after_preface(connector: Arc<Connector>) -> String {
    for _ in 0..200 {
        drop(connector.peer().await);
    }
    "closed by the peer".to_owned()
}

/// Closes the sending half of the connection and keeps reading.
async fn close_sending_half(connector: Arc<Connector>) -> String {
    let mut peer = connector.peer().await;
    peer.close_write().await;
    match peer.wait_for_close().await.as_str() {
        "GOAWAY NO_ERROR" => "closed".to_owned(),
        other => other.to_owned(),
    }
}
