//! The connections of the admin port: one request each, within fixed times, and a bounded number of them, so that peers
//! that misuse the port take neither file descriptors from callers nor probes from the orchestrator.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::Router;
use http::Request;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    task::{AbortHandle, yield_now},
    time::{sleep, timeout},
};
use tower::Service as _;

use super::acceptor::ERROR_PAUSE;

/// Connections at a time.
pub const MAX_CONNECTIONS: usize = 64;
/// Time limit from accept to the end of the request head.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// Time limit from accept to the last byte of the response.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);
/// Size of a request's head.
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// An open connection.
struct Connection {
    /// Set as soon as the request has been read.
    is_serving: Arc<AtomicBool>,
    task: AbortHandle,
}

/// Serves until it is dropped.
pub async fn serve(listener: TcpListener, routes: Router) {
    // The oldest one is at the front.
    let mut open = VecDeque::with_capacity(MAX_CONNECTIONS);
    let mut fails = false;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                fails = false;
                make_room(&mut open);
                open.push_back(Connection::start(stream, routes.clone()));
                // The connection can serve its request before later ones replace it.
                yield_now().await;
            }
            Err(error) => {
                // Once, until it works again: the next attempt follows soon.
                if !fails {
                    tracing::warn!(%error, "a connection to the admin port could not be accepted");
                }
                fails = true;
                sleep(ERROR_PAUSE).await;
            }
        }
    }
}

/// Closes the oldest connection if there are too many: preferably one that has not sent its request.
fn make_room(open: &mut VecDeque<Connection>) {
    open.retain(|connection| !connection.task.is_finished());
    if open.len() < MAX_CONNECTIONS {
        return;
    }
    let waits = |connection: &Connection| !connection.is_serving.load(Ordering::Relaxed);
    let oldest = open.iter().position(waits).unwrap_or(0);
    if let Some(connection) = open.remove(oldest) {
        connection.task.abort();
    }
}

impl Connection {
    fn start(stream: TcpStream, routes: Router) -> Self {
        let is_serving = Arc::new(AtomicBool::new(false));
        let serving = Arc::clone(&is_serving);
        let service = service_fn(move |request: Request<Incoming>| {
            serving.store(true, Ordering::Relaxed);
            routes.clone().call(request)
        });
        let mut http = http1::Builder::new();
        // Without keep-alive, the time of a connection is the time of its request.
        http.timer(TokioTimer::new())
            .keep_alive(false)
            .header_read_timeout(HEADER_TIMEOUT)
            .max_buf_size(MAX_HEAD_BYTES);
        let connection = http.serve_connection(TokioIo::new(stream), service);
        let task = tokio::spawn(async move {
            // Errors of admin connections are ignored.
            let _ = timeout(CONNECTION_TIMEOUT, connection).await;
        });
        Self {
            is_serving,
            task: task.abort_handle(),
        }
    }
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

    /// More than the buffers of both systems hold.
    const LARGE: usize = 16 * 1024 * 1024;

    async fn ask(address: SocketAddr, path: &str) -> io::Result<TcpStream> {
        let mut stream = TcpStream::connect(address).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        Ok(stream)
    }

    #[tokio::test]
    async fn peers_that_do_not_read_are_closed_in_time_and_do_not_stop_others() -> io::Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let large = Bytes::from(vec![b'x'; LARGE]);
        let routes = Router::new()
            .route("/large", get(move || async move { large }))
            .route("/small", get(|| async { "ok" }));
        tokio::spawn(serve(listener, routes));
        let begun = Instant::now();
        let mut slow = Vec::new();
        for _ in 0..MAX_CONNECTIONS {
            let mut stream = ask(address, "/large").await?;
            stream.read_u8().await?;
            slow.push(stream);
        }
        for _ in 0..2 {
            let mut answer = String::new();
            ask(address, "/small")
                .await?
                .read_to_string(&mut answer)
                .await?;
            assert!(answer.ends_with("ok"), "{answer}");
        }
        // Only the oldest one made room; the others have their time.
        let mut last = slow.pop().ok_or(io::ErrorKind::NotFound)?;
        sleep_until(begun + CONNECTION_TIMEOUT + Duration::from_secs(2)).await;
        let mut answer = Vec::new();
        let _ = last.read_to_end(&mut answer).await;
        assert!(answer.len() < LARGE);
        Ok(())
    }
}
