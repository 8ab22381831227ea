//! The upstream of the tests, the soak test and the benchmark must read chunked request bodies correctly. If it took
//! the last chunk for another request, it would respond twice, and the client would have to close the connection.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use useradmin_testkit::{Reply, Upstream};

const PATH: &str = "/pools/pool-1/nodes/node-1/users/alice";

fn delete(headers: &str, body: &str) -> String {
    format!("DELETE {PATH} HTTP/1.1\r\nhost: upstream\r\n{headers}\r\n{body}")
}

fn empty_chunked() -> String {
    delete("transfer-encoding: chunked\r\n", "0\r\n\r\n")
}

/// Sends these requests on one connection. Returns everything received until the upstream closes it, at most 5 seconds.
async fn send_and_read(address: SocketAddr, requests: &[String]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let requests = requests.concat();
    stream.write_all(requests.as_bytes()).await.unwrap();
    let mut received = Vec::new();
    let _ = timeout(Duration::from_secs(5), stream.read_to_end(&mut received)).await;
    String::from_utf8(received).unwrap()
}

fn responses(received: &str) -> usize {
    received.matches("HTTP/1.1 ").count()
}

#[tokio::test]
async fn test_upstream_reads_chunked_requests() {
    // A raw reply closes the connection.
    let last = Reply::Raw(Reply::empty(200).bytes());
    let upstream = Upstream::start(move |request| match request.header("last") {
        None => Reply::empty(200),
        Some(_) => last.clone(),
    });
    let upstream = upstream.await;
    let address = upstream.url.trim_start_matches("http://").parse().unwrap();
    let chunks = "5;extension=1\r\nhello\r\n6\r\n world\r\n0\r\ntrailer: 1\r\n\r\n";
    let chunked = delete("transfer-encoding: chunked\r\n", chunks);
    let last = delete("last: 1\r\ncontent-length: 3\r\n", "end");
    let received = send_and_read(address, &[empty_chunked(), chunked, last]).await;
    assert_eq!(responses(&received), 3, "{received}");
    let bodies = upstream.received().into_iter().map(|request| request.body);
    assert_eq!(bodies.collect::<Vec<_>>(), ["", "hello world", "end"]);
}
