//! Connections to upstreams: the negotiated version of HTTP, TCP keepalive, and the outcome of a request that shares
//! its connection with others.

use std::{fs, mem, time::Duration};

use tonic::{Code, Request, Response};
use useradmin::proto::DeleteOutcome::Deleted;
use useradmin_testkit::{
    App, CallFailure, ReceivedRequest, Reply, Settings, Upstream, batch_deleted, batch_request,
    batch_section,
    pki::{Authority, Validity},
    token_reply_or, wait_until,
};

/// An upstream without HTTP/2 is used over HTTP/1.1, with or without ALPN.
#[tokio::test]
async fn connection_falls_back_to_http_1_1() {
    for alpn in [vec![b"http/1.1".to_vec()], Vec::new()] {
        let authority = Authority::new();
        let identity = authority.issue("localhost", Validity::Now);
        let mut config = identity.server(rustls::ALL_VERSIONS);
        config.alpn_protocols = alpn.clone();
        let script = |request: &_| token_reply_or(request, batch_deleted);
        let upstream = Upstream::start_tls(config, script).await;
        let folder = App::folder();
        fs::write(folder.join("ca.pem"), authority.pem()).unwrap();
        let section = batch_section(&folder, &upstream.url);
        let section = section.replacen("url =", "ca_file = \"ca.pem\"\nurl =", 1);
        let app = App::start_in(folder, &section).await;
        for user in ["alice", "bob"] {
            let response = app.delete_batch_node_user(batch_request(user)).await;
            let response = response.unwrap_or_else(|failure| panic!("{alpn:?}: {failure:?}"));
            assert_eq!(
                (response.outcome(), response.attempts),
                (Deleted, 1),
                "{alpn:?}"
            );
        }
        assert_eq!(upstream.requests("DELETE", "/pools/").len(), 2, "{alpn:?}");
        // One connection for the token endpoint, which is the same upstream, and one for both DELETEs.
        assert_eq!(upstream.connections(), 2, "{alpn:?}");
    }
}

/// A connection whose peer vanished is detected by TCP keepalive. Linux shows the timer of each connection.
#[tokio::test]
async fn idle_connection_uses_tcp_keepalive() {
    if !fs::exists("/proc/net/tcp").unwrap_or_default() {
        eprintln!("skipped: timers of TCP connections are shown by Linux only");
        return;
    }
    let upstream = Upstream::start(|request| token_reply_or(request, batch_deleted)).await;
    let folder = App::folder();
    let section = batch_section(&folder, &upstream.url);
    let app = App::start_in(folder, &section).await;
    let response = app.delete_batch_node_user(batch_request("alice")).await;
    response.unwrap();
    let port: u16 = upstream.url.rsplit(':').next().unwrap().parse().unwrap();
    wait_until("a keepalive timer on each connection", async || {
        let timers = keepalive_timers(port);
        timers.len() == upstream.connections()
            && timers.iter().all(|timer| {
                timer.is_some_and(|left| {
                    left > Duration::from_secs(5) && left <= Duration::from_secs(15)
                })
            })
    })
    .await;
}

/// Returns the time to the next keepalive probe of each connection to this port on 127.0.0.1; `None` if a connection
/// has no such timer. See `proc_net_tcp.rst` of the Linux kernel.
fn keepalive_timers(port: u16) -> Vec<Option<Duration>> {
    const ESTABLISHED: &str = "01";
    const KEEPALIVE: &str = "02";
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let peer = format!("0100007F:{port:04X}");
    let rows = table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    rows.filter(|row| row[2] == peer && row[3] == ESTABLISHED)
        .map(|row| {
            let (timer, when) = row[5].split_once(':').unwrap();
            // In hundredths of a second, on every architecture.
            let when = u64::from_str_radix(when, 16).unwrap() * 10;
            (timer == KEEPALIVE).then(|| Duration::from_millis(when))
        })
        .collect()
}

/// A request that waits for a free HTTP/2 stream was not sent.
#[tokio::test]
async fn request_waiting_for_stream_reports_not_sent() {
    let authority = Authority::new();
    let identity = authority.issue("localhost", Validity::Now);
    let mut config = identity.server(rustls::ALL_VERSIONS);
    config.alpn_protocols = vec![b"h2".to_vec()];
    let settings = Settings {
        tls: Some(config),
        max_streams: Some(1),
        ..Settings::default()
    };
    // The first request is answered, and the others stay open.
    let mut first = true;
    let script = move |_: &ReceivedRequest| {
        if mem::take(&mut first) {
            batch_deleted()
        } else {
            Reply::Hang
        }
    };
    let upstream = Upstream::start_with(settings, script).await;
    let tokens = Upstream::start(|received| token_reply_or(received, || Reply::empty(500))).await;
    let folder = App::folder();
    fs::write(folder.join("ca.pem"), authority.pem()).unwrap();
    let section = batch_section(&folder, &tokens.url);
    let account = format!("url = \"{}\"", tokens.url);
    let https = format!("url = \"{}\"\nca_file = \"ca.pem\"", upstream.url);
    let section = section.replacen(&account, &https, 1);
    let app = App::start_in(folder, &section).await;
    // The client knows the limit of streams after the first call.
    app.delete_batch_node_user(batch_request("alice"))
        .await
        .unwrap();
    let call = async |timeout| {
        let mut request = Request::new(batch_request("bob"));
        request.set_timeout(timeout);
        let response = app.client().delete_batch_node_user(request).await;
        CallFailure::from(response.map(Response::into_inner).unwrap_err())
    };
    // The first call takes the stream.
    let open = call(Duration::from_secs(20));
    // The second request was handed to the HTTP/2 library, which does not report whether it wrote the request, so its
    // outcome is unknown. It is not determined which of the later calls is the third one.
    let handed_over = call(Duration::from_secs(20));
    let later = async {
        upstream.wait_for_requests("DELETE", "", 2).await;
        wait_until("a request that was not sent", async || {
            let failure = call(Duration::from_secs(1)).await;
            assert_eq!(failure.code, Code::DeadlineExceeded, "{failure:?}");
            failure.metadata_value("outcome") == "not_sent"
        })
        .await;
    };
    let handed_over = async {
        upstream.wait_for_requests("DELETE", "", 2).await;
        handed_over.await
    };
    tokio::select! {
        ended = open => panic!("{ended:?}"),
        ended = handed_over => panic!("{ended:?}"),
        () = later => {}
    }
}
