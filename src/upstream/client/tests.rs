use http::{Method, uri::PathAndQuery};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    time::{Duration, Instant, advance, timeout},
};
use url::Url;

use super::{Client, HTTP_1, pools::IDLE_TIMEOUT, request};
use crate::{
    client_tls::Trust,
    config::Roots,
    metrics::Metrics,
    upstream::{deadline::Deadline, instrument::Operation},
};

const READ: Operation = Operation::new("read", "/");

#[test]
fn debug_output_hides_secret_headers() {
    let shown = super::secret_header("Bearer token-1").map(|value| format!("{value:?}"));
    assert_eq!(shown.ok().as_deref(), Some("Sensitive"));
}

#[tokio::test]
async fn idle_connection_is_closed() -> Result<(), Box<dyn std::error::Error>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = Url::parse(&format!("http://{}", listener.local_addr()?))?;
    let numbers = Metrics::default().upstreams.requests("test", "test");
    let client = Client::new(&url, Trust::More, &Roots::default(), HTTP_1, numbers)?;
    let limits = Deadline::after(Duration::from_secs(5)).into();
    let request = request(Method::GET, PathAndQuery::from_static("/"));
    let answer = async {
        let (mut stream, _) = listener.accept().await?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_buf(&mut head).await?;
        }
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
        stream.write_all(answer).await.map(|()| stream)
    };
    let (sent, stream) = tokio::join!(client.send(&READ, request, None, &limits), answer);
    let mut stream = stream?;
    assert!(sent.is_ok());
    tokio::time::pause();
    let start = Instant::now();
    advance(IDLE_TIMEOUT.saturating_sub(Duration::from_secs(1))).await;
    // The connection is still open, so this read must time out.
    let early = timeout(
        Duration::from_millis(1),
        stream.read_to_end(&mut Vec::new()),
    )
    .await;
    assert!(early.is_err(), "it was closed too early");
    assert!(stream.read_to_end(&mut Vec::new()).await.is_ok());
    assert!(start.elapsed() <= IDLE_TIMEOUT * 2);
    Ok(())
}
