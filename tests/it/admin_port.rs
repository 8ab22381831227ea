//! Peers that misuse the admin port: they must not exhaust the file descriptors of callers, probes or the audit log.

use std::{fs, time::Duration};

use futures_util::future::join_all;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{Instant, sleep, timeout},
};
use useradmin::proto::{DeleteOutcome::Deleted, user_admin_client::UserAdminClient};
use useradmin_testkit::{
    App, Process, Upstream, batch_request, batch_section, configure_with_admin, http_get,
    wait_until,
};

use crate::authorization::upstream;

/// The time limit for the head of a request.
const HEAD: Duration = Duration::from_secs(5);
/// The time limit for a connection.
const WHOLE: Duration = Duration::from_secs(10);
/// The log message about a low limit of file descriptors.
const LOWERED: &str = "max_connections lowered to fit the open-file limit";
/// Tolerance for a busy machine.
const MARGIN: Duration = Duration::from_secs(4);

/// The bytes that a peer sends first, the bytes that it then sends every half second, the response of the server, and
/// the time within which the connection is closed.
struct Peer {
    case: &'static str,
    first: String,
    then: &'static str,
    response: &'static str,
    within: Duration,
}

fn peer(
    case: &'static str,
    first: impl Into<String>,
    then: &'static str,
    response: &'static str,
    within: Duration,
) -> Peer {
    Peer {
        case,
        first: first.into(),
        then,
        response,
        within,
    }
}

fn peers() -> Vec<Peer> {
    let get = "GET /livez HTTP/1.1\r\nHost: x\r\n";
    let post = "POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n";
    vec![
        peer("silent", "", "", "", HEAD),
        peer("half a head", get, "", "", HEAD),
        peer("half a line", "GET /li", "", "", HEAD),
        peer("a head that trickles", get, "a: b\r\n", "", HEAD),
        peer("an empty line at a time", "", "\r\n", "", HEAD),
        peer("a request", format!("{get}\r\n"), "", "200", Duration::ZERO),
        peer(
            "HTTP/1.0",
            "GET /livez HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
            "",
            "200",
            Duration::ZERO,
        ),
        peer(
            "two requests at once",
            format!("{get}\r\n{get}\r\n"),
            "",
            "200",
            Duration::ZERO,
        ),
        peer("a body that never comes", post, "", "405", WHOLE),
        peer("a body that trickles", post, "x", "405", WHOLE),
        peer(
            "a large head",
            format!("{get}a: {}\r\n\r\n", "b".repeat(100_000)),
            "",
            "431",
            Duration::ZERO,
        ),
        peer(
            "many headers",
            format!("{get}{}\r\n", "a: b\r\n".repeat(1_000)),
            "",
            "431",
            Duration::ZERO,
        ),
        peer(
            "no HTTP",
            "\u{16}\u{3}\u{1}\0\u{5}hello\r\n\r\n",
            "",
            "400",
            Duration::ZERO,
        ),
    ]
}

async fn with_admin() -> (App, Upstream) {
    let (upstream, folder) = (upstream().await, App::folder());
    let server_section = "[server]\nlisten = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"\n";
    let section = batch_section(&folder, &upstream.url);
    let app = App::start_with_text(folder, &format!("{server_section}{section}")).await;
    (app, upstream)
}

async fn run(app: &App, peer: &Peer) {
    let started = Instant::now();
    let stream = TcpStream::connect(app.admin.unwrap()).await.unwrap();
    let (mut reader, mut write) = stream.into_split();
    // The server may have responded and closed the connection before everything is sent.
    let _ = write.write_all(peer.first.as_bytes()).await;
    let mut answer = Vec::new();
    let sending = async {
        loop {
            sleep(Duration::from_millis(500)).await;
            let _ = write.write_all(peer.then.as_bytes()).await;
        }
    };
    tokio::select! {
        // A reset also ends the connection.
        _ = reader.read_to_end(&mut answer) => {}
        () = sending => {}
    }
    let duration = started.elapsed();
    let answer = String::from_utf8(answer).unwrap();
    let status = answer.split(' ').nth(1).unwrap_or_default();
    assert_eq!(status, peer.response, "{}: {answer}", peer.case);
    assert_eq!(
        answer.matches("HTTP/1.").count(),
        usize::from(!answer.is_empty()),
        "{}",
        peer.case
    );
    assert!(
        duration < peer.within + MARGIN,
        "{}: {duration:?}",
        peer.case
    );
}

#[tokio::test]
async fn admin_connections_are_closed_after_timeout() {
    let (app, _upstream) = with_admin().await;
    join_all(peers().iter().map(|peer| run(&app, peer))).await;
}

#[tokio::test]
async fn oldest_idle_admin_connections_are_evicted() {
    let (app, _upstream) = with_admin().await;
    let mut open_connections = Vec::new();
    for _ in 0..200 {
        open_connections.push(TcpStream::connect(app.admin.unwrap()).await.unwrap());
        assert!(
            http_get(app.admin.unwrap(), "/livez")
                .await
                .ends_with("ok\n")
        );
    }
    // The first connections are closed, the last ones stay open.
    for stream in &mut open_connections[..130] {
        let closed = timeout(HEAD + MARGIN, stream.read(&mut [0])).await.unwrap();
        assert!(matches!(closed, Ok(0) | Err(_)), "{closed:?}");
    }
    let last = open_connections.last_mut().unwrap();
    last.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    let mut response = String::new();
    last.read_to_string(&mut response).await.unwrap();
    assert!(response.starts_with("HTTP/1.1 200"), "{response}");
}

#[tokio::test]
async fn idle_peers_do_not_exhaust_file_descriptors() {
    for silent_at_the_callers_port in [false, true] {
        let (upstream, folder) = (upstream().await, App::folder());
        let admin = configure_with_admin(&folder, &upstream.url);
        let process = Process::start_with_file_limit(&folder, 400);
        let lowered = || Process::log_records(&folder, LOWERED);
        wait_until(LOWERED, async || !lowered().is_empty()).await;
        let effective = lowered()[0]["effective"].as_u64().unwrap();
        assert!((32..200).contains(&effective), "{effective}");
        let attacked = if silent_at_the_callers_port {
            process.address.clone()
        } else {
            admin.clone()
        };
        let silent = join_all((0..600).map(|_| async {
            let mut stream = TcpStream::connect(&attacked).await.unwrap();
            let _ = stream.write_all(b"GET /livez HTTP/1.1\r\nHo").await;
            stream
        }));
        let open_connections = silent.await;
        for number in 0..20 {
            assert!(http_get(&admin, "/livez").await.ends_with("ok\n"));
            let rotated = folder.join(format!("audit.{number}"));
            fs::rename(folder.join("audit.jsonl"), &rotated).unwrap();
            // Each client has a separate connection.
            let mut client: UserAdminClient<_> = process.client();
            let response = client.delete_batch_node_user(batch_request("alice")).await;
            assert_eq!(response.unwrap().into_inner().outcome(), Deleted);
            wait_until("a new file", async || folder.join("audit.jsonl").exists()).await;
        }
        assert!(http_get(&admin, "/readyz").await.ends_with("ok\n"));
        let failure = Process::log_records(&folder, "connection not accepted");
        assert!(failure.is_empty(), "{failure:?}");
        drop(open_connections);
        process.stop();
        fs::remove_dir_all(folder).unwrap();
    }
}
