//! Serves the connections of the admin port. Each connection carries one request and has fixed time limits, and the
//! number of connections is bounded, so that peers that misuse the port neither use up the file descriptors that
//! callers need nor block the probes of the orchestrator.

use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::{AbortHandle, yield_now},
    time::{sleep, timeout},
};

use super::{acceptor::ERROR_PAUSE, eviction::EvictionQueue};

pub const MAX_CONNECTIONS: usize = 64;
/// Time limit from accept to the end of the request head.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// Time limit from accept to the last byte of the response.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// Serves requests until the future is dropped.
pub async fn serve(listener: TcpListener, routes: Router) {
    let mut open = EvictionQueue::new(MAX_CONNECTIONS, AbortHandle::is_finished);
    let mut failed = false;
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                failed = false;
                let task = tokio::spawn(serve_connection(stream, routes.clone())).abort_handle();
                if let Some(evicted) = open.push(peer.ip(), task) {
                    evicted.abort();
                }
                // Lets the new connection serve its request before later connections can evict it.
                yield_now().await;
            }
            Err(error) => {
                // The next attempt follows soon, so the error is logged once until a connection is accepted.
                if !failed {
                    tracing::warn!(%error, "admin connection not accepted");
                }
                failed = true;
                sleep(ERROR_PAUSE).await;
            }
        }
    }
}

async fn serve_connection(stream: TcpStream, routes: Router) {
    let mut http = http1::Builder::new();
    // A connection carries one request, so its time limits are those of the request.
    http.timer(TokioTimer::new())
        .keep_alive(false)
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_HEAD_BYTES);
    let connection = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes));
    // Errors of admin connections are ignored.
    let _ = timeout(CONNECTION_TIMEOUT, connection).await;
}

#[cfg(test)]
mod tests {
    use std::{io, net::SocketAddr, time::Duration};

    use axum::{Router, routing::get};
    use bytes::Bytes;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::{TcpListener, TcpStream},
        time::{Instant, sleep_until},
    };

    use super::{CONNECTION_TIMEOUT, MAX_CONNECTIONS, serve};

    /// More bytes than the buffers of both ends of a connection can hold.
    const LARGE: usize = 16 * 1024 * 1024;

    async fn send_request(address: SocketAddr, path: &str) -> io::Result<TcpStream> {
        let mut stream = TcpStream::connect(address).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        Ok(stream)
    }

    #[tokio::test]
    async fn peers_that_do_not_read_are_closed_and_do_not_block_others() -> io::Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let large = Bytes::from(vec![b'x'; LARGE]);
        let routes = Router::new()
            .route("/large", get(move || async move { large }))
            .route("/small", get(|| async { "ok" }));
        tokio::spawn(serve(listener, routes));
        let start = Instant::now();
        let mut slow = Vec::new();
        for _ in 0..MAX_CONNECTIONS {
            let mut stream = send_request(address, "/large").await?;
            stream.read_u8().await?;
            slow.push(stream);
        }
        for _ in 0..2 {
            let mut response = String::new();
            send_request(address, "/small")
                .await?
                .read_to_string(&mut response)
                .await?;
            assert!(response.ends_with("ok"), "{response}");
        }
        // Only the oldest connections were evicted; each other one lasts until its time limit.
        let mut last = slow.pop().ok_or(io::ErrorKind::NotFound)?;
        sleep_until(start + CONNECTION_TIMEOUT + Duration::from_secs(2)).await;
        let mut response = Vec::new();
        let _ = last.read_to_end(&mut response).await;
        assert!(response.len() < LARGE);
        Ok(())
    }
}
