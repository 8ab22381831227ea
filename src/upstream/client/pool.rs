//! The connections to one host that wait for requests; each worker has its own. The one that was used last is used next,
//! so that those that are not needed grow old, and are closed.

use std::{
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use http::header::HOST;
use tokio::time::{Instant, sleep_until};

use super::{
    Request,
    connector::{Connection, Connector},
    exchange::Terms,
    http1::Http1,
    http2::Http2,
};
use crate::{
    upstream::http::{Answer, NoAnswer},
    workers::PerWorker,
};

/// A connection that was not used for so long is closed.
const IDLE: Duration = Duration::from_secs(30);

/// The connections.
pub struct Pool {
    connector: Connector,
    waiting: PerWorker<Mutex<Waiting>>,
}

#[derive(Default)]
struct Waiting {
    /// The one that was used last is at the end.
    #[allow(clippy::vec_box, reason = "they are large, and come and go")]
    http1: Vec<Box<Http1>>,
    http2: Option<Http2>,
    /// There is a task that closes what grows old.
    watched: bool,
}

impl Waiting {
    /// Closes what is old. When will something be?
    fn age(&mut self, now: Instant) -> Option<Instant> {
        let is_old = |used: Instant| now >= used + IDLE;
        let old = self.http1.partition_point(|kept| is_old(kept.used));
        self.http1.drain(..old);
        self.http2
            .take_if(|kept| is_old(kept.used) || !kept.is_open());
        let used = self.http1.first().map(|kept| kept.used);
        let used = used
            .into_iter()
            .chain(self.http2.as_ref().map(|kept| kept.used));
        used.min().map(|used| used + IDLE)
    }
}

impl Pool {
    /// None yet.
    pub fn new(connector: Connector) -> Self {
        Self {
            connector,
            waiting: PerWorker::new(Mutex::default),
        }
    }

    /// Sends a request over a connection that waits, or over a new one.
    pub async fn send(
        self: &Arc<Self>,
        mut request: Request,
        terms: &Terms<'_>,
    ) -> Result<Answer, NoAnswer> {
        let path = request.uri().clone();
        loop {
            let kept = self.take().await;
            let is_new = kept.is_none();
            let connection = match kept {
                Some(connection) => connection,
                None => self.connect(terms).await?,
            };
            match connection {
                Connection::Http1(mut connection) => {
                    let host = self.connector.host.clone();
                    request.headers_mut().insert(HOST, host);
                    *request.uri_mut() = path;
                    let (answer, again) = connection.send(request, terms).await;
                    if again {
                        self.keep(|waiting| waiting.http1.push(connection));
                    }
                    return answer;
                }
                Connection::Http2(mut connection) => {
                    let uri = self.connector.absolute(path.clone());
                    *request.uri_mut() =
                        uri.map_err(|error| NoAnswer::Unreachable(error.to_string()))?;
                    let sent = connection.send(request, terms).await;
                    if sent.is_err() {
                        crate::lock(self.waiting.here()).http2 = None;
                    }
                    match sent {
                        Ok(answer) => return answer,
                        Err(_) if is_new => {
                            let text = "a new connection takes no requests";
                            return Err(NoAnswer::Unreachable(text.to_owned()));
                        }
                        // It was kept for too long: another one is asked.
                        Err(back) => request = back,
                    }
                }
            }
        }
    }

    /// One that waits.
    async fn take(&self) -> Option<Connection> {
        let waiting = self.waiting.here();
        loop {
            let mut kept = {
                let mut waiting = crate::lock(waiting);
                waiting.http2.take_if(|kept| !kept.is_open());
                if let Some(kept) = &mut waiting.http2 {
                    kept.used = Instant::now();
                    return Some(Connection::Http2(kept.clone()));
                }
                waiting.http1.pop()?
            };
            if kept.is_ready().await {
                return Some(Connection::Http1(kept));
            }
        }
    }

    async fn connect(self: &Arc<Self>, terms: &Terms<'_>) -> Result<Connection, NoAnswer> {
        // It is rare, and large.
        let connecting = Box::pin(self.connector.connect());
        let connected = terms.before(connecting).await?;
        let connection = connected.map_err(NoAnswer::Unreachable)?;
        if let Connection::Http2(connection) = &connection {
            // Of those that were made at the same time, the last one is shared.
            self.keep(|waiting| waiting.http2 = Some(connection.clone()));
        }
        Ok(connection)
    }

    /// Keeps a connection, and sees to it that it is closed in time.
    fn keep(self: &Arc<Self>, keep: impl FnOnce(&mut Waiting)) {
        let mut waiting = crate::lock(self.waiting.here());
        keep(&mut waiting);
        if !std::mem::replace(&mut waiting.watched, true) {
            tokio::spawn(watch(Arc::downgrade(self)));
        }
    }

    /// See [`Waiting::age`].
    fn age(&self) -> Option<Instant> {
        let mut waiting = crate::lock(self.waiting.here());
        let next = waiting.age(Instant::now());
        waiting.watched = next.is_some();
        next
    }
}

/// Closes connections that grow old, for as long as there are some.
async fn watch(pool: Weak<Pool>) {
    while let Some(next) = pool.upgrade().and_then(|pool| pool.age()) {
        sleep_until(next).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use http::{Method, uri::PathAndQuery};
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::{TcpListener, TcpStream},
        time::{Duration, Instant, advance, timeout},
    };
    use url::Url;

    use super::{IDLE, Pool};
    use crate::upstream::{
        attempt::Limits,
        client::{connector::Connector, exchange::Terms, request},
        deadline::Deadline,
        http::{Answer, NoAnswer},
    };

    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

    async fn upstream() -> (Arc<Pool>, TcpListener) {
        let Ok(listener) = TcpListener::bind("127.0.0.1:0").await else {
            unreachable!("there is a free port")
        };
        let address = listener
            .local_addr()
            .map(|address| format!("http://{address}"));
        let url = Url::parse(&address.unwrap_or_default());
        let connector = url.map(|url| Connector::new(&url, None));
        let Ok(Ok(connector)) = connector else {
            unreachable!("it is a URL")
        };
        (Arc::new(Pool::new(connector)), listener)
    }

    async fn send(pool: &Arc<Pool>) -> Result<Answer, NoAnswer> {
        let limits = Limits::from(Deadline::after(Duration::from_secs(5)));
        let terms = Terms {
            done: None,
            limits: &limits,
        };
        let request = request(Method::GET, PathAndQuery::from_static("/"));
        pool.send(request, &terms).await
    }

    /// Accepts a connection, and answers a request on it.
    async fn answer(listener: &TcpListener) -> TcpStream {
        let Ok((mut stream, _)) = listener.accept().await else {
            unreachable!("somebody comes")
        };
        again(&mut stream).await;
        stream
    }

    async fn again(stream: &mut TcpStream) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            assert!(stream.read_buf(&mut head).await.is_ok_and(|read| read > 0));
        }
        assert!(stream.write_all(ANSWER).await.is_ok());
    }

    fn body(sent: Result<Answer, NoAnswer>) -> Option<Bytes> {
        sent.ok()?.body
    }

    #[tokio::test]
    async fn a_connection_serves_again_until_the_other_side_closes_it() {
        let (pool, listener) = upstream().await;
        let (sent, mut stream) = tokio::join!(send(&pool), answer(&listener));
        assert_eq!(body(sent).as_deref(), Some(&b"ok"[..]));
        let (sent, ()) = tokio::join!(send(&pool), again(&mut stream));
        assert_eq!(body(sent).as_deref(), Some(&b"ok"[..]));
        // What is closed is found out before anything is sent on it, once the runtime has heard of it.
        drop(stream);
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        let (sent, _stream) = tokio::join!(send(&pool), answer(&listener));
        assert_eq!(body(sent).as_deref(), Some(&b"ok"[..]));
    }

    #[tokio::test]
    async fn a_connection_that_is_not_used_is_closed() {
        let (pool, listener) = upstream().await;
        let begun = Instant::now();
        let (sent, mut stream) = tokio::join!(send(&pool), answer(&listener));
        assert!(sent.is_ok());
        tokio::time::pause();
        advance(IDLE.saturating_sub(Duration::from_secs(1))).await;
        let mut read = [0];
        let early = timeout(Duration::from_millis(1), stream.read(&mut read)).await;
        assert!(early.is_err(), "it was closed too early");
        assert_eq!(stream.read(&mut read).await.ok(), Some(0));
        assert!(begun.elapsed() >= IDLE);
    }
}
