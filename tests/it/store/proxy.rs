//! The proxy of `useradmin-testkit` injects the faults that the tests of the store rely on.

use std::{io::ErrorKind, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use useradmin_testkit::{Cut, Postgres, TcpProxy, wait_until};

use super::rig::{count, psql};

/// Starts a proxy in front of a server that returns every byte.
async fn echo() -> TcpProxy {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                let _ = copy(&mut from, &mut to).await;
            });
        }
    });
    TcpProxy::start(port).await
}

async fn connect(proxy: &TcpProxy) -> TcpStream {
    let address = ("127.0.0.1", proxy.port());
    TcpStream::connect(address).await.unwrap()
}

/// Sends a text of five bytes and returns its part that is received before the end of the connection.
async fn exchange(stream: &mut TcpStream, text: &str) -> String {
    let _ = stream.write_all(text.as_bytes()).await;
    let (mut received, mut part) = (Vec::new(), [0; 5]);
    while received.len() < text.len() {
        match stream.read(&mut part).await {
            Ok(len @ 1..) => received.extend_from_slice(&part[..len]),
            _ => break,
        }
    }
    String::from_utf8(received).unwrap()
}

#[tokio::test]
async fn connections_are_cut_at_the_given_moment() {
    let proxy = echo().await;
    let cases = [
        (Cut::AfterResponseBytes(0), ["", "", ""]),
        (Cut::AfterResponseBytes(8), ["first", "com", ""]),
        (Cut::BeforeRequest("mmi"), ["first", "", ""]),
        (Cut::BeforeResponseTo("mmi"), ["first", "", ""]),
        (Cut::BeforeRequest("other"), ["first", "commi", "third"]),
    ];
    for (index, (cut, expected)) in cases.into_iter().enumerate() {
        let (mut stream, mut idle) = (connect(&proxy).await, connect(&proxy).await);
        assert_eq!(exchange(&mut idle, "hello").await, "hello");
        proxy.cut_at(cut);
        for (text, expected) in ["first", "commi", "third"].iter().zip(expected) {
            assert_eq!(exchange(&mut stream, text).await, expected, "{index}");
        }
        let will_cut = index + 1 == cases.len();
        assert_eq!(proxy.will_cut(), will_cut, "{index}");
        let expected = if will_cut { "hello" } else { "" };
        assert_eq!(exchange(&mut idle, "hello").await, expected, "{index}");
    }
    let mut stream = connect(&proxy).await;
    assert_eq!(exchange(&mut stream, "hello").await, "hello");
    proxy.cut().await;
    assert_eq!(exchange(&mut stream, "hello").await, "");
}

#[tokio::test]
async fn new_connections_are_refused() {
    let mut proxy = echo().await;
    let mut stream = connect(&proxy).await;
    assert_eq!(exchange(&mut stream, "first").await, "first");
    proxy.refuse().await;
    let error = TcpStream::connect(("127.0.0.1", proxy.port())).await;
    assert_eq!(error.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    assert_eq!(exchange(&mut stream, "later").await, "later");
    proxy.accept().await;
    let mut stream = connect(&proxy).await;
    assert_eq!(exchange(&mut stream, "again").await, "again");
}

#[tokio::test]
async fn black_hole_forwards_later() {
    let proxy = echo().await;
    let mut old = connect(&proxy).await;
    assert_eq!(exchange(&mut old, "first").await, "first");
    proxy.set_black_hole(true);
    let mut new = connect(&proxy).await;
    for stream in [&mut old, &mut new] {
        let nothing = timeout(Duration::from_millis(50), exchange(stream, "quiet")).await;
        assert!(nothing.is_err());
    }
    proxy.set_black_hole(false);
    for mut stream in [old, new] {
        assert_eq!(exchange(&mut stream, "later").await, "quiet");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connection_is_lost_in_the_middle_of_a_commit() {
    let Some(postgres) = Postgres::shared() else {
        return;
    };
    let proxy = TcpProxy::start(postgres.port()).await;
    let database = postgres.create_database("rig_commit");
    database.sql("CREATE TABLE t (id int)").unwrap();
    let url = database.url_at(proxy.port(), "postgres");
    let statements = ["BEGIN", "INSERT INTO t VALUES (1)", "COMMIT"];
    for (cut, rows) in [
        (Cut::BeforeRequest("COMMIT"), "0"),
        (Cut::BeforeResponseTo("COMMIT"), "1"),
    ] {
        proxy.cut_at(cut);
        let error = psql(&url, &statements).unwrap_err();
        assert!(error.contains("closed the connection"), "{error}");
        assert!(!proxy.will_cut());
        assert_eq!(count(&database), rows);
    }
    assert_eq!(psql(&url, &["SELECT 1"]), Ok("1".to_owned()));
    let sessions = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'rig_commit'";
    wait_until("the server ends the sessions", async || {
        postgres.sql(sessions).unwrap() == "0"
    })
    .await;
}
