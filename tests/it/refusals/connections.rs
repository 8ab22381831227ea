//! Floods of connections that end before a call: few lines in the log, and metrics that count all connections.

use std::{fs, path::Path};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use useradmin_testkit::{App, Process, pki::Authority};

use super::{FLOOD, REPORTED, configuration, server_configuration, upstream};
use crate::{callers::tls_section, connection_limit::HTTP2_START};

/// Opens a connection, sends these bytes, and waits until it is closed.
async fn send(address: &str, bytes: &[u8]) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // The server may have closed it already.
    let _ = stream.write_all(bytes).await;
    let _ = stream.shutdown().await;
    let _ = stream.read_to_end(&mut Vec::new()).await;
}

/// Returns the bytes of streams that are reset before the server starts to process them.
fn rapid_resets() -> Vec<u8> {
    let mut bytes = HTTP2_START.to_vec();
    for stream in (1..400_u16).step_by(2) {
        let [high, low] = stream.to_be_bytes();
        // HEADERS with `POST`, `http` and `/`, and RST_STREAM with CANCEL.
        bytes.extend([0, 0, 3, 1, 4, 0, 0, high, low, 0x83, 0x86, 0x84]);
        bytes.extend([0, 0, 4, 3, 0, 0, 0, high, low, 0, 0, 0, 8]);
    }
    bytes
}

/// Opens a connection and waits until the server has accepted it.
async fn open_connection(address: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(HTTP2_START).await.unwrap();
    stream.read_u8().await.unwrap();
    stream
}

/// Returns the number of connections that were logged individually for this reason, and the sum of their summaries.
fn connections(folder: &Path, event: &str, reason: &str) -> (u64, u64) {
    let sums = Process::log_records(folder, "refusals summarized");
    let sums = sums
        .iter()
        .filter(|line| line["event"] == event && line["reason"] == reason);
    let single_reports = Process::log_records(folder, event).into_iter();
    let single_reports = single_reports.filter(|line| {
        let actual = line.get("reason").or(line.get("limit"));
        actual.map_or("", |actual| actual.as_str().unwrap()) == reason
    });
    let sum = sums.map(|line| line["count"].as_u64().unwrap()).sum();
    (u64::try_from(single_reports.count()).unwrap(), sum)
}

#[tokio::test(flavor = "multi_thread")]
async fn repeated_failed_connections_are_summarized() {
    const BROKEN: &str = "connection aborted: peer violated HTTP/2";
    const FULL: &str = "connection refused: limit reached";
    let (upstream, folder) = (upstream().await, App::folder());
    let tls = tls_section(&folder, &Authority::new(), "");
    let tls = tls.replacen("admin_listen = \"127.0.0.1:0\"", "admin_listen = \"\"", 1);
    let few = server_configuration("") + "[server.limits]\nmax_connections = 1\n";
    // DATA must belong to an open stream (RFC 9113, section 6.1); the stream here is 0.
    let data = [HTTP2_START, &[0; 9]].concat();
    let http = b"GET / HTTP/1.1\r\n\r\n".to_vec();
    for (head, bytes, event, reason) in [
        (server_configuration(""), data, BROKEN, "PROTOCOL_ERROR"),
        (
            server_configuration(""),
            rapid_resets(),
            BROKEN,
            "ENHANCE_YOUR_CALM",
        ),
        (tls, http, "TLS handshake failed", ""),
        (few, HTTP2_START.to_vec(), FULL, "max_connections"),
    ] {
        let text = configuration(&folder, &upstream.url, &head);
        fs::write(folder.join("useradmin.toml"), text).unwrap();
        let process = Process::start(&folder);
        let open_connections = match event {
            FULL => Some(open_connection(&process.address).await),
            _ => None,
        };
        for _ in 0..FLOOD {
            send(&process.address, &bytes).await;
        }
        drop(open_connections);
        process.stop();
        let actual = connections(&folder, event, reason);
        assert_eq!(actual, (REPORTED, FLOOD - REPORTED), "{event} {reason}");
        let log = fs::read_to_string(folder.join("log")).unwrap();
        assert!(log.lines().count() < 70, "{log}");
        fs::remove_file(folder.join("log")).unwrap();
    }
    fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
async fn metrics_count_every_failed_handshake() {
    let (upstream, folder) = (upstream().await, App::folder());
    let text = tls_section(&folder, &Authority::new(), "");
    let text = configuration(&folder, &upstream.url, &text);
    let app = App::start_with_text(folder, &text).await;
    for _ in 0..FLOOD {
        send(&app.address.to_string(), b"GET / HTTP/1.1\r\n\r\n").await;
    }
    let metric_line = format!("useradmin_handshakes_failed_total{{cause=\"tls\"}} {FLOOD}");
    app.await_metric(&metric_line).await;
}
