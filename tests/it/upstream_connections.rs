//! Connections to upstreams: the version of HTTP that is agreed upon, TCP keepalive, and what is known of a request that
//! shares its connection with others.

use std::{fs, sync::Arc, time::Duration};

use futures_util::future::join_all;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tonic::{Code, Request, Response};
use useradmin::proto::DeleteOutcome::Deleted;
use useradmin_testkit::{
    App, Failed, Reply, Upstream, batch_deleted, batch_request, batch_section,
    pki::{Authority, Validity},
    token_or, until,
};

/// An upstream that does not have HTTP/2 gets HTTP/1.1, whether it takes part in ALPN or not.
#[tokio::test]
async fn a_connection_falls_back_to_http_1_1() {
    for alpn in [vec![b"http/1.1".to_vec()], Vec::new()] {
        let authority = Authority::new();
        let shown = authority.issue("localhost", Validity::Now);
        let mut config = shown.server(rustls::ALL_VERSIONS);
        config.alpn_protocols = alpn.clone();
        let script = |seen: &_| token_or(seen, batch_deleted);
        let upstream = Upstream::start_tls(config, script).await;
        let folder = App::folder();
        fs::write(folder.join("ca.pem"), authority.pem()).unwrap();
        let section = batch_section(&folder, &upstream.url);
        let section = section.replacen("url =", "ca_file = \"ca.pem\"\nurl =", 1);
        let app = App::start_in(folder, &section).await;
        for user in ["alice", "bob"] {
            let done = app.delete_batch_node_user(batch_request(user)).await;
            let done = done.unwrap_or_else(|failed| panic!("{alpn:?}: {failed:?}"));
            assert_eq!((done.outcome(), done.attempts), (Deleted, 1), "{alpn:?}");
        }
        assert_eq!(upstream.requests("DELETE", "/pools/").len(), 2, "{alpn:?}");
        // One of the token endpoint, which is the same upstream, and one for both DELETEs.
        assert_eq!(upstream.connections(), 2, "{alpn:?}");
    }
}

/// A connection whose peer vanished is detected by TCP keepalive. Linux shows the timer of each connection.
#[tokio::test]
async fn an_idle_connection_is_probed_by_tcp_keepalive() {
    if !fs::exists("/proc/net/tcp").unwrap_or_default() {
        eprintln!("skipped: timers of TCP connections are shown by Linux only");
        return;
    }
    let upstream = Upstream::start(|seen| token_or(seen, batch_deleted)).await;
    let folder = App::folder();
    let section = batch_section(&folder, &upstream.url);
    let app = App::start_in(folder, &section).await;
    let done = app.delete_batch_node_user(batch_request("alice")).await;
    done.unwrap();
    let port: u16 = upstream.url.rsplit(':').next().unwrap().parse().unwrap();
    until("a keepalive timer on each connection", async || {
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

/// Returns the time to the next keepalive probe of each connection to this port on 127.0.0.1; `None` if a connection has
/// no such timer. See `proc_net_tcp.rst` of the Linux kernel.
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

/// Over HTTP/2, a request that waits for others of its connection was not sent.
#[tokio::test]
async fn a_request_that_waits_for_a_stream_was_not_sent() {
    let authority = Authority::new();
    let mut config = authority
        .issue("localhost", Validity::Now)
        .server(rustls::ALL_VERSIONS);
    config.alpn_protocols = vec![b"h2".to_vec()];
    let (listener, url) = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        (listener, format!("https://localhost:{port}"))
    };
    tokio::spawn(one_stream_at_a_time(
        listener,
        TlsAcceptor::from(Arc::new(config)),
    ));
    let tokens = Upstream::start(|seen| token_or(seen, || Reply::empty(500))).await;
    let folder = App::folder();
    fs::write(folder.join("ca.pem"), authority.pem()).unwrap();
    let section = batch_section(&folder, &tokens.url);
    let account = format!("url = \"{}\"", tokens.url);
    let section = section.replacen(
        &account,
        &format!("url = \"{url}\"\nca_file = \"ca.pem\""),
        1,
    );
    let app = App::start_in(folder, &section).await;
    // The limit of streams is known to the client after the first call.
    app.delete_batch_node_user(batch_request("alice"))
        .await
        .unwrap();
    let call = async |timeout| {
        let mut request = Request::new(batch_request("bob"));
        request.set_timeout(timeout);
        let answer = app.client().delete_batch_node_user(request).await;
        Failed::from(answer.map(Response::into_inner).unwrap_err())
    };
    // One takes the stream, and the next one waits in the hands of HTTP/2, which does not tell whether it has written it.
    let earlier = join_all([Duration::from_secs(10); 2].map(call));
    let last = async {
        until("both intents", async || app.audit().len() == 4).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        call(Duration::from_secs(1)).await
    };
    tokio::select! {
        ended = earlier => panic!("{ended:?}"),
        failed = last => {
            failed.expect(Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
            assert_eq!(failed.meta("outcome"), "not_sent");
        }
    }
}

/// Answers the first request of a connection, and leaves the others open. The client may have one stream at a time.
async fn one_stream_at_a_time(listener: TcpListener, tls: TlsAcceptor) {
    let (stream, _) = listener.accept().await.unwrap();
    let stream = tls.accept(stream).await.unwrap();
    let mut builder = h2::server::Builder::new();
    builder.max_concurrent_streams(1);
    let mut connection = builder.handshake::<_, bytes::Bytes>(stream).await.unwrap();
    let mut open = Vec::new();
    while let Some(Ok((_, mut respond))) = connection.accept().await {
        if open.is_empty() {
            let answer = http::Response::builder().header("request-id", "1");
            respond
                .send_response(answer.body(()).unwrap(), true)
                .unwrap();
        }
        open.push(respond);
    }
}
