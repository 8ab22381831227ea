//! Tells, when time has run out, whether a request can have left at all.
//!
//! A request leaves on a connection: one that was idle, one that another request gave back, or a new one. If a
//! request had to connect, and since it began nobody has connected and nobody has given one back, it is here.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use tower::{Layer, Service};

tokio::task_local! {
    /// Set when the request of this task found no idle connection.
    static HAD_TO_CONNECT: Arc<AtomicBool>;
}

/// The connections of one client, counted. As a layer it goes around the client's connector.
#[derive(Clone, Debug, Default)]
pub struct Connections(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    made: AtomicU64,
    given_back: AtomicU64,
}

/// One request, watched.
pub struct Watch {
    connections: Connections,
    before: (u64, u64),
    had_to_connect: Arc<AtomicBool>,
}

impl Connections {
    /// Before a request begins.
    #[must_use]
    pub fn watch(&self) -> Watch {
        Watch {
            connections: self.clone(),
            before: self.counts(),
            had_to_connect: Arc::default(),
        }
    }

    /// A request has ended, and its connection may serve another one.
    pub fn given_back(&self) {
        self.0.given_back.fetch_add(1, Ordering::SeqCst);
    }

    fn counts(&self) -> (u64, u64) {
        let (made, given_back) = (&self.0.made, &self.0.given_back);
        (
            made.load(Ordering::SeqCst),
            given_back.load(Ordering::SeqCst),
        )
    }
}

impl Watch {
    /// Runs the request.
    pub async fn over<T>(&self, request: impl Future<Output = T>) -> T {
        let had_to_connect = Arc::clone(&self.had_to_connect);
        HAD_TO_CONNECT.scope(had_to_connect, request).await
    }

    /// Is it certain that the request has not left?
    #[must_use]
    pub fn never_left(&self) -> bool {
        self.had_to_connect.load(Ordering::SeqCst) && self.connections.counts() == self.before
    }
}

impl<S> Layer<S> for Connections {
    type Service = Counted<S>;

    fn layer(&self, connector: S) -> Counted<S> {
        Counted {
            connector,
            connections: self.clone(),
        }
    }
}

/// A connector whose connections are counted.
#[derive(Clone, Debug)]
pub struct Counted<S> {
    connector: S,
    connections: Connections,
}

impl<S, R> Service<R> for Counted<S>
where
    S: Service<R>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.connector.poll_ready(cx)
    }

    fn call(&mut self, destination: R) -> Self::Future {
        // Outside a watched request nobody asks.
        let _ = HAD_TO_CONNECT.try_with(|flag| flag.store(true, Ordering::SeqCst));
        let connecting = self.connector.call(destination);
        let connections = self.connections.clone();
        Box::pin(async move {
            let connection = connecting.await?;
            connections.0.made.fetch_add(1, Ordering::SeqCst);
            Ok(connection)
        })
    }
}
