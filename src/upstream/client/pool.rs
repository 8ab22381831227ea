//! The connections of one worker thread to one host. The pool of `hyper_util` takes 8 thousand instructions more for each
//! request, because it selects the host for each request, and keeps connections of all hosts.

use std::{
    collections::VecDeque,
    error::Error,
    mem,
    sync::{Arc, Mutex, MutexGuard, Weak},
    time::Duration,
};

use futures_util::FutureExt as _;
use http::{Request, Response};
use hyper::{body::Incoming, client::conn::http2};
use tokio::{
    select,
    sync::oneshot,
    time::{Instant, sleep, timeout},
};

use super::{
    connection::{Connection, Origin},
    connector::Connector,
    write_tracker::TrackedBody,
};

/// Idle time after which a connection is not used again. The connection is closed within twice this time.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// The head of a response, and the connection that it came from.
pub type Sent = (Response<Incoming>, Connection);
pub type SendError = Box<dyn Error + Send + Sync>;

/// The open connections to one host. The tasks of all connections run on the same thread.
pub struct Pool {
    origin: Origin,
    connector: Connector,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Connections with HTTP/1.1 that no request uses, and the times of their last use. The last one was used last.
    idle: Vec<(Connection, Instant)>,
    /// The connection with HTTP/2, and the time of its last use.
    shared: Option<(http2::SendRequest<TrackedBody>, Instant)>,
    /// Requests that wait for a connection. Each opens a connection meanwhile.
    waiting: VecDeque<oneshot::Sender<Connection>>,
    /// Whether a task closes idle connections.
    is_watched: bool,
}

impl Pool {
    /// Creates an empty pool.
    pub fn new(origin: Origin, connector: Connector) -> Arc<Self> {
        Arc::new(Self {
            origin,
            connector,
            state: Mutex::default(),
        })
    }

    /// Sends a request over an idle or a new connection, and waits for the head of the response. The connection must be
    /// returned with [`Self::put`] when the response has been read to its end.
    pub async fn send(
        self: &Arc<Self>,
        mut request: Box<Request<TrackedBody>>,
    ) -> Result<Sent, SendError> {
        loop {
            let (mut connection, is_new) = match self.take() {
                Some(idle) => (idle, false),
                None => Box::pin(self.wait()).await?,
            };
            match connection.send(request, &self.origin).await {
                Ok(response) => return Ok((response, connection)),
                Err(mut error) => match error.take_message() {
                    // The upstream has closed an idle connection.
                    Some(unsent) if !is_new => request = Box::new(unsent),
                    _ => return Err(error.into_error().into()),
                },
            }
        }
    }

    /// Returns a connection that can take a request, or `None` if there is none.
    fn take(&self) -> Option<Connection> {
        let mut state = self.lock();
        let now = Instant::now();
        if let Some((shared, used)) = &mut state.shared
            && !shared.is_closed()
        {
            *used = now;
            return Some(Connection::Http2(shared.clone()));
        }
        while let Some((idle, used)) = state.idle.pop() {
            if now - used < IDLE_TIMEOUT && idle.is_ready() {
                return Some(idle);
            }
        }
        None
    }

    /// Opens a connection. Returns another one instead if it becomes idle earlier, and whether it is a new one.
    async fn wait(self: &Arc<Self>) -> Result<(Connection, bool), SendError> {
        let (sender, returned) = oneshot::channel();
        self.lock().add_waiting(sender);
        let mut opening = Arc::clone(self).open().boxed();
        select! {
            biased;
            Ok(connection) = returned => {
                if let Connection::Http1(_) = connection {
                    // The next request will use it.
                    let pool = Arc::clone(self);
                    tokio::spawn(async move { opening.await.map(|opened| pool.put(opened)) });
                }
                Ok((connection, false))
            }
            opened = &mut opening => Ok((opened?, true)),
        }
    }

    /// Opens a connection. If it uses HTTP/2, all requests that wait share it.
    async fn open(self: Arc<Self>) -> Result<Connection, SendError> {
        let stream = self.connector.connect(self.origin.uri.clone()).await?;
        let opened = Connection::start(stream).await?;
        let Connection::Http2(sender) = &opened else {
            return Ok(opened);
        };
        let mut state = self.lock();
        if let Some((shared, _)) = &state.shared
            && !shared.is_closed()
        {
            return Ok(Connection::Http2(shared.clone()));
        }
        state.shared = Some((sender.clone(), Instant::now()));
        for waiting in mem::take(&mut state.waiting) {
            let _ = waiting.send(Connection::Http2(sender.clone()));
        }
        self.watch(&mut state);
        drop(state);
        Ok(opened)
    }

    /// Makes a connection available to other requests, the longest waiting one first. Its last response must have been
    /// read to its end.
    pub fn put(self: &Arc<Self>, connection: Connection) {
        if let Connection::Http2(_) = connection {
            return;
        }
        if !connection.is_ready() {
            let pool = Arc::clone(self);
            tokio::spawn(pool.put_when_ready(connection));
            return;
        }
        let mut state = self.lock();
        let mut connection = connection;
        while let Some(waiting) = state.waiting.pop_front() {
            match waiting.send(connection) {
                Ok(()) => return,
                Err(unused) => connection = unused,
            }
        }
        state.idle.push((connection, Instant::now()));
        self.watch(&mut state);
    }

    async fn put_when_ready(self: Arc<Self>, mut connection: Connection) {
        if let Ok(Ok(())) = timeout(IDLE_TIMEOUT, connection.ready()).await {
            self.put(connection);
        }
    }

    /// Returns the number of requests that wait, and of those that have stopped waiting since the last one began.
    #[cfg(test)]
    pub fn waiting(&self) -> usize {
        self.lock().waiting.len()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        crate::lock(&self.state)
    }

    /// Starts the task that closes idle connections, unless it runs.
    fn watch(self: &Arc<Self>, state: &mut State) {
        if !mem::replace(&mut state.is_watched, true) {
            tokio::spawn(close_idle(Arc::downgrade(self)));
        }
    }
}

impl State {
    fn add_waiting(&mut self, sender: oneshot::Sender<Connection>) {
        self.waiting.retain(|waiting| !waiting.is_closed());
        self.waiting.push_back(sender);
    }

    /// Closes connections that were not used for [`IDLE_TIMEOUT`]. Returns whether there are others.
    fn close_idle(&mut self) -> bool {
        let now = Instant::now();
        let is_used = |used: Instant| now - used < IDLE_TIMEOUT;
        self.idle
            .retain(|(idle, used)| is_used(*used) && idle.is_ready());
        self.shared
            .take_if(|(shared, used)| !is_used(*used) || shared.is_closed());
        self.is_watched = !self.idle.is_empty() || self.shared.is_some();
        self.is_watched
    }
}

/// Closes idle connections, until there are none.
async fn close_idle(pool: Weak<Pool>) {
    loop {
        sleep(IDLE_TIMEOUT).await;
        match pool.upgrade() {
            Some(pool) if pool.lock().close_idle() => {}
            _ => return,
        }
    }
}
