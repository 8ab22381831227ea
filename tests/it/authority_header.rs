//! The `:authority` of a call. h2 resets a call whose authority is not a host name before any code of the server sees
//! it. The log contains the reason, in a limited number of lines.

use std::fs;

use tokio::net::TcpStream;
use useradmin_testkit::{App, Process, configure, wait_until};

use crate::{
    abuse::{
        frames::{fields, stream_id},
        peer::Peer,
    },
    authorization::upstream,
};

const REFUSED: &str = "RST_STREAM PROTOCOL_ERROR";
const LINE: &str = "request rejected by the HTTP/2 library";
/// More requests than are logged individually in a minute.
const MANY: u32 = 100;
const LOGGED: usize = 60;

async fn connect(process: &Process) -> (Peer, String) {
    let stream = TcpStream::connect(&process.address).await.unwrap();
    let address = stream.local_addr().unwrap().to_string();
    let mut peer = Peer::silent(Box::new(stream));
    peer.start_http2(&[]).await;
    (peer, address)
}

#[tokio::test]
async fn refused_authority_is_logged() {
    let (upstream, folder) = (upstream().await, App::folder());
    configure(&folder, &upstream.url, "");
    let process = Process::start(&folder);
    let (mut peer, address) = connect(&process).await;
    let rows = [
        ("localhost", "OK"),
        ("useradmin", "OK"),
        ("127.0.0.1:50051", "OK"),
        ("[::1]:50051", "OK"),
        ("useradmin.svc.cluster.local.", "OK"),
        ("user@localhost", "OK"),
        // The gRPC C core sends several addresses, or the path of a Unix socket.
        ("127.0.0.1:50051,127.0.0.1:50052", REFUSED),
        ("%2Ftmp%2Fu.sock", REFUSED),
        // Authorities that Istio sends.
        ("outbound|50051||useradmin.svc.cluster.local", REFUSED),
        ("outbound_.50051_._.useradmin.svc.cluster.local", "OK"),
        ("", REFUSED),
        ("a b", REFUSED),
        ("/tmp/u.sock", REFUSED),
        ("localhost:65536", "OK"),
        ("127.0.0.1:50051,[::1]:50051", "OK"),
        ("xds:///useradmin", REFUSED),
    ];
    let mut refusal = Vec::new();
    for (at, (authority, end)) in (0..).map(stream_id).zip(rows) {
        peer.send(fields().set(":authority", authority).call(at, "x"))
            .await;
        peer.wait_until_frames(|frames| frames.end(at).is_some())
            .await;
        assert_eq!(
            peer.inspect(|frames| frames.end(at).unwrap()),
            end,
            "{authority}"
        );
        if end == REFUSED {
            refusal.push(authority);
        }
    }
    wait_until("a line for each", async || {
        Process::log_records(&folder, LINE).len() >= refusal.len()
    })
    .await;
    let lines = Process::log_records(&folder, LINE);
    assert_eq!(lines.len(), refusal.len());
    for (line, authority) in lines.iter().zip(&refusal) {
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["peer"], address);
        let error = line["error"].as_str().unwrap();
        assert!(error.contains("authority"), "{line}");
        assert!(error.contains(authority), "{line}");
    }
    process.stop();
    fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
async fn secrets_of_refused_requests_are_not_logged() {
    let (upstream, folder) = (upstream().await, App::folder());
    configure(&folder, &upstream.url, "");
    let process = Process::start(&folder);
    let (mut peer, _) = connect(&process).await;
    let rows = [
        (":authority", "user:secret@a|b", "a|b"),
        (":authority", "user:sec@ret@a b", "a b"),
        (":authority", "user%3Asecret%40a%2Fb", "a%2Fb"),
        (":authority", "user:\"): secret@a|b", "a|b"),
        (":authority", "user:sec?ret@a|b", ""),
        (":authority", "a|b?access_token=secret", "a|b"),
        (":path", "/x y?access_token=secret", "/x y"),
        (":path", "/x?access_token=sec ret", "/x"),
        (":path", "/x?user=a@b&access_token=sec ret", ""),
        (":path", "/x y%3Faccess_token=secret", "/x y"),
        (":path", "/x y#access_token=secret", "/x y"),
        (":path", "http://user:secret@a/x y", "a/x y"),
    ];
    for (at, (name, value, _)) in (0..).map(stream_id).zip(rows) {
        peer.send(fields().set(name, value).call(at, "x")).await;
        peer.wait_until_frames(|frames| frames.end(at).is_some())
            .await;
        assert_eq!(peer.inspect(|frames| frames.end(at).unwrap()), REFUSED);
    }
    process.stop();
    let lines = Process::log_records(&folder, LINE);
    assert_eq!(lines.len(), rows.len());
    for (line, (_, value, printed)) in lines.iter().zip(rows) {
        let error = line["error"].as_str().unwrap();
        assert!(
            error.contains(&format!("(b\"{printed}\"): ")),
            "{value}: {error}"
        );
        for secret in ["sec", "ret"] {
            assert!(!error.contains(secret), "{value}: {error}");
        }
    }
    fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
async fn repeated_refused_authorities_are_summarized() {
    let (upstream, folder) = (upstream().await, App::folder());
    configure(&folder, &upstream.url, "");
    let process = Process::start(&folder);
    let (mut peer, _) = connect(&process).await;
    for at in (0..MANY).map(stream_id) {
        peer.send(fields().set(":authority", "a|b").call(at, "x"))
            .await;
        peer.wait_until_frames(|frames| frames.end(at).is_some())
            .await;
    }
    process.stop();
    assert_eq!(Process::log_records(&folder, LINE).len(), LOGGED);
    let summaries = Process::log_records(&folder, "refusals summarized");
    let summary = summaries.iter().find(|line| line["event"] == LINE).unwrap();
    assert_eq!(summary["count"], MANY as usize - LOGGED);
    fs::remove_dir_all(folder).unwrap();
}
