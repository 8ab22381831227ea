//! Keeps the open connections of one thread to one host: selects one for each request, shares a connection with HTTP/2,
//! and closes idle ones. The pool of `hyper_util` would take 8 thousand instructions more for each request, because it
//! serves all hosts.

#[cfg(test)]
mod tests;

use std::{
    collections::VecDeque,
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
use tower::BoxError;

use super::{
    connection::{Connection, Origin},
    connector::Connector,
    write_tracker::TrackedBody,
};

/// Idle time after which a connection is not used again. The connection is closed within twice this time.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// The head of a response whose body is not read yet, and the connection that it came from.
pub type ReceivedHead = (Response<Incoming>, Connection);

/// The open connections to one host. The tasks of all connections run on the same thread.
pub struct Pool {
    origin: Origin,
    connector: Connector,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Idle HTTP/1.1 connections and the times of their last use, the most recent last.
    idle: Vec<(Connection, Instant)>,
    /// The HTTP/2 connection that requests share, and the time when a request last took it.
    shared: Option<(http2::SendRequest<TrackedBody>, Instant)>,
    /// The queue of requests that wait for a connection. Each of them also opens one.
    waiting: VecDeque<oneshot::Sender<Connection>>,
    /// Whether the task that closes idle connections runs.
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
    ) -> Result<ReceivedHead, BoxError> {
        loop {
            let (mut connection, is_new) = match self.take() {
                Some(idle) => (idle, false),
                None => Box::pin(self.wait()).await?,
            };
            match connection.send(request, &self.origin).await {
                Ok(response) => return Ok((response, connection)),
                Err(mut error) => match error.take_message() {
                    // The connection was closed before the request was written, so another one is tried.
                    Some(unsent) if !is_new && !unsent.body().has_started() => {
                        request = Box::new(unsent);
                    }
                    _ => return Err(error.into_error().into()),
                },
            }
        }
    }

    /// Returns a connection that can take a request, or `None` if there is none.
    fn take(&self) -> Option<Connection> {
        let mut state = self.lock();
        let now = Instant::now();
        state.close_unusable_shared(now);
        if let Some((shared, used)) = &mut state.shared {
            *used = now;
            return Some(Connection::Http2(shared.clone()));
        }
        while let Some((idle, used)) = state.idle.pop() {
            if idle.is_ready() && !has_expired(used, now) {
                return Some(idle);
            }
        }
        None
    }

    /// Waits for a connection: a new one, or one that becomes available earlier. The flag is true for a new one.
    async fn wait(self: &Arc<Self>) -> Result<(Connection, bool), BoxError> {
        let (sender, returned) = oneshot::channel();
        self.lock().add_waiting(sender);
        let mut opening = Arc::clone(self).open().boxed();
        select! {
            biased;
            Ok(connection) = returned => {
                if let Connection::Http1(_) = connection {
                    // The opening continues in a task, so that a later request can use the connection.
                    let pool = Arc::clone(self);
                    tokio::spawn(async move { opening.await.map(|opened| pool.put(opened)) });
                }
                Ok((connection, false))
            }
            opened = &mut opening => Ok((opened?, true)),
        }
    }

    /// Opens a connection. If it uses HTTP/2, all requests that wait share it.
    async fn open(self: Arc<Self>) -> Result<Connection, BoxError> {
        let stream = self.connector.connect(self.origin.uri.clone()).await?;
        let opened = Connection::start(stream).await?;
        let Connection::Http2(sender) = &opened else {
            return Ok(opened);
        };
        let mut state = self.lock();
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
    pub fn put(self: &Arc<Self>, mut connection: Connection) {
        if let Connection::Http2(_) = connection {
            return;
        }
        if !connection.is_ready() {
            let pool = Arc::clone(self);
            tokio::spawn(pool.put_when_ready(connection));
            return;
        }
        let mut state = self.lock();
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
    /// Adds a request to the queue, and removes those that no longer wait.
    fn add_waiting(&mut self, sender: oneshot::Sender<Connection>) {
        self.waiting.retain(|waiting| !waiting.is_closed());
        self.waiting.push_back(sender);
    }

    /// Gives up the shared connection if it is closed, or was not used for [`IDLE_TIMEOUT`].
    fn close_unusable_shared(&mut self, now: Instant) {
        self.shared
            .take_if(|(shared, used)| shared.is_closed() || has_expired(*used, now));
    }

    /// Closes connections that were not used for [`IDLE_TIMEOUT`]. Returns whether there are others.
    fn close_idle(&mut self) -> bool {
        let now = Instant::now();
        self.idle
            .retain(|(idle, used)| idle.is_ready() && !has_expired(*used, now));
        self.close_unusable_shared(now);
        self.is_watched = !self.idle.is_empty() || self.shared.is_some();
        self.is_watched
    }
}

fn has_expired(used: Instant, now: Instant) -> bool {
    now - used >= IDLE_TIMEOUT
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
