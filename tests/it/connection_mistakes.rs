//! Log lines of connections that cannot work: the wrong protocol on a port, and host names that do not resolve.

use std::fs;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use useradmin_testkit::{
    App, Process, Upstream, batch_section, configure, delete_by_name, hmc_section, pki::Authority,
};

use crate::{authorization, callers::tls_section, connection_limit::HTTP2_START};

const HANDSHAKE: &str = "TLS handshake failed";
const ABORTED: &str = "connection aborted: peer violated HTTP/2";

/// Opens a connection, sends these bytes, and waits until the server closes it.
async fn send(address: &str, bytes: &[u8]) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    // The server may close the connection with unread bytes, which is a reset.
    let _ = stream.read_to_end(&mut Vec::new()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn client_with_wrong_protocol_is_logged() {
    let (upstream, folder) = (authorization::upstream().await, App::folder());
    configure(&folder, &upstream.url, "");
    let file = folder.join("useradmin.toml");
    let plain = fs::read_to_string(&file).unwrap();
    let targets = batch_section(&folder, &upstream.url);
    let tls = tls_section(&folder, &Authority::new(), "") + &targets;
    let http_1 = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    // Shorter than the preface of HTTP/2 with the header of a frame.
    let short_http_1 = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    // The heads of a record and of a ClientHello (RFC 8446, sections 4 and 5.1), and a part of it.
    let hello = [&[22, 3, 1, 1, 0, 1, 0, 0, 252, 3, 3][..], &[7; 64]].concat();
    for (configuration, bytes, message, key, words) in [
        (
            &tls,
            HTTP2_START,
            HANDSHAKE,
            "error",
            "plaintext client on the TLS port",
        ),
        (
            &tls,
            http_1,
            HANDSHAKE,
            "error",
            "plaintext client on the TLS port",
        ),
        (
            &plain,
            &hello,
            ABORTED,
            "cause",
            "TLS client on the plaintext port",
        ),
        (
            &plain,
            http_1,
            ABORTED,
            "cause",
            "client does not speak HTTP/2",
        ),
        (
            &plain,
            short_http_1,
            ABORTED,
            "cause",
            "client does not speak HTTP/2",
        ),
    ] {
        fs::write(&file, configuration).unwrap();
        let process = Process::start(&folder);
        send(&process.address, bytes).await;
        process.stop();
        let lines = Process::log_records(&folder, message);
        assert_eq!(lines.len(), 1, "{words}");
        assert_eq!(lines[0][key], words);
        fs::remove_file(folder.join("log")).unwrap();
    }
    fs::remove_dir_all(folder).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn unreachable_upstream_is_logged_with_cause() {
    let folder = App::folder();
    let http = Upstream::start_raw(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    let http = http.url.replace("http://127.0.0.1", "https://localhost");
    for (url, words) in [
        (
            "https://hmc.internal.invalid:6794",
            "host hmc.internal.invalid: ",
        ),
        (&*http, "the peer sent plaintext instead of TLS"),
    ] {
        let text = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\nadmin_listen = \"\"\n[[callers]]\nidentity = \"anonymous\"\n\
             allow = [{{ rpc = \"DeleteHmcUser\", targets = [\"*\"] }}]\n{}",
            hmc_section(&folder, url)
        );
        fs::write(folder.join("useradmin.toml"), text).unwrap();
        let process = Process::start(&folder);
        let failure = process
            .client()
            .delete_hmc_user(delete_by_name("alice"))
            .await
            .unwrap_err();
        assert!(
            !format!("{failure:?}").contains("hmc.internal"),
            "{failure:?}"
        );
        process.stop();
        let lines = Process::log_records(&folder, "call ended");
        let context = lines[0]["context"].as_str().unwrap();
        assert!(context.contains(words), "{context}");
        fs::remove_file(folder.join("log")).unwrap();
    }
    fs::remove_dir_all(folder).unwrap();
}
