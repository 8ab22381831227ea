//! Connections that do not start correctly.

use std::sync::Arc;

use futures_util::future::join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{
    Kind,
    frames::{ACK, PING, PREFACE, SETTINGS, frame, settings},
    kind, same,
    target::Door,
};

/// The header and the first bytes of a `ClientHello` of 512 bytes.
const HELLO: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";

#[rustfmt::skip]
pub fn kinds() -> Vec<Kind> {
    vec![
        kind("a preface byte by byte", "goes on", byte_by_byte),
        kind("half a preface, half a ClientHello, nothing", "closed", half),
        kind("HTTP/1.1", "closed", |door| behind_tls(door, b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n\r\n".to_vec())),
        kind("a preface of HTTP/2 with another end", "closed", |door| behind_tls(door, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\rxxxxxxxxxxxxxxxxx".to_vec())),
        kind("a preface without SETTINGS", "goes on", without_settings),
        kind("noise", "closed", |door| bare(door, (0..=255).rev().cycle().take(4_096).collect())),
        kind("the other kind of connection", "closed", other_kind),
        kind("connections that come and go", "come and gone", churn),
        kind("connections that come, begin and go", "come and gone", begun_churn),
        kind("peers that close one half", "closed", half_closed),
    ]
}

/// Sends the start of a connection byte by byte, without pauses.
async fn byte_by_byte(door: Arc<Door>) -> String {
    let mut peer = door.silent().await;
    let begin = [PREFACE, &settings(&[(1, 0)]), &frame(SETTINGS, ACK, 0, &[])].concat();
    for byte in begin {
        peer.send([byte]).await;
    }
    peer.goes_on().await
}

/// Starts connections and then sends nothing more. The server closes them after 5 s.
async fn half(door: Arc<Door>) -> String {
    let parts = [&b""[..], &HELLO[..1], HELLO, &PREFACE[..1], &PREFACE[..20]];
    let ends = parts.map(|part| {
        let door = Arc::clone(&door);
        async move {
            let ends = (0..40).map(|_| bare(Arc::clone(&door), part.to_vec()));
            same(join_all(ends).await)
        }
    });
    same(join_all(ends).await)
}

/// Sends these bytes on a TCP connection without TLS.
async fn bare(door: Arc<Door>, bytes: Vec<u8>) -> String {
    let mut stream = door.tcp().await;
    stream.write_all(&bytes).await.unwrap();
    // The connection may be closed or reset.
    let _ = stream.read_to_end(&mut Vec::new()).await;
    "closed".to_owned()
}

/// Sends these bytes instead of the preface.
async fn behind_tls(door: Arc<Door>, bytes: Vec<u8>) -> String {
    let mut peer = door.silent().await;
    peer.send(bytes).await;
    peer.gone().await
}

async fn without_settings(door: Arc<Door>) -> String {
    let mut peer = door.silent().await;
    peer.send([PREFACE, &frame(PING, 0, 0, &[0; 8])].concat())
        .await;
    peer.until(|heard| heard.pongs == 1).await;
    peer.send(settings(&[(1, 0)])).await;
    peer.goes_on().await
}

/// Uses TLS on the plaintext port, or plaintext on the TLS port.
async fn other_kind(door: Arc<Door>) -> String {
    let preface = [PREFACE, &settings(&[])].concat();
    let hello = [HELLO, &[0; 506]].concat();
    bare(
        Arc::clone(&door),
        if door.is_tls() { preface } else { hello },
    )
    .await
}

/// Opens and closes connections, no more than fit in the listen backlog. With more, the kernel drops the SYN of the
/// next client, which is then repeated after a second.
async fn churn(door: Arc<Door>) -> String {
    for _ in 0..500 {
        drop(door.tcp().await);
    }
    "come and gone".to_owned()
}

async fn begun_churn(door: Arc<Door>) -> String {
    for _ in 0..200 {
        drop(door.peer().await);
    }
    "come and gone".to_owned()
}

/// Closes the sending half of the connection and keeps reading.
async fn half_closed(door: Arc<Door>) -> String {
    let mut peer = door.peer().await;
    peer.say_no_more().await;
    match peer.gone().await.as_str() {
        "GOAWAY NO_ERROR" => "closed".to_owned(),
        other => other.to_owned(),
    }
}
