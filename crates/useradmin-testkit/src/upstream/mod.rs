//! An upstream that injects faults: an HTTP server on the loopback interface whose script decides how each request is
//! handled.

mod http2;
mod reply;
mod request;
mod server;
mod stream;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rustls::ServerConfig;
use tokio::{net::TcpListener, sync::watch, task::JoinHandle, time::timeout};

use crate::pki::Identity;

pub use self::{
    reply::Reply,
    request::Request,
    server::{Settings, serve},
};

/// An upstream that records the requests that it receives.
pub struct Upstream {
    /// Base URL. With TLS, its host is `localhost`.
    pub url: String,
    received: watch::Sender<Vec<Request>>,
    connections: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Upstream {
    /// Starts an upstream over HTTP/1.1 without TLS.
    pub async fn start(script: impl FnMut(&Request) -> Reply + Send + 'static) -> Self {
        Self::start_with(Settings::default(), script).await
    }

    /// Starts an upstream over TLS.
    pub async fn start_tls(
        config: ServerConfig,
        script: impl FnMut(&Request) -> Reply + Send + 'static,
    ) -> Self {
        let tls = Some(config);
        Self::start_with(
            Settings {
                tls,
                ..Settings::default()
            },
            script,
        )
        .await
    }

    /// Starts an upstream over TLS that offers only HTTP/2.
    pub async fn start_http2(
        identity: &Identity,
        script: impl FnMut(&Request) -> Reply + Send + 'static,
    ) -> Self {
        let mut config = identity.server(rustls::ALL_VERSIONS);
        config.alpn_protocols = vec![b"h2".to_vec()];
        Self::start_tls(config, script).await
    }

    /// Starts a server that sends only these bytes on each connection.
    pub async fn start_raw(bytes: &[u8]) -> Self {
        let greeting = Some(bytes.to_vec());
        let settings = Settings {
            greeting,
            ..Settings::default()
        };
        Self::start_with(settings, |request| panic!("{request:?}")).await
    }

    /// Starts an upstream with these settings. The script is called for each request, in the order of arrival.
    pub async fn start_with(
        settings: Settings,
        mut script: impl FnMut(&Request) -> Reply + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let url = match settings.tls {
            None => format!("http://{address}"),
            Some(_) => format!("https://localhost:{}", address.port()),
        };
        let connections = Arc::clone(&settings.connections);
        let received = watch::Sender::new(Vec::new());
        let record = received.clone();
        let handler = move |request: &Request| {
            record.send_modify(|requests| requests.push(request.clone()));
            script(request)
        };
        let task = tokio::spawn(serve(listener, settings, handler));
        Self {
            url,
            received,
            connections,
            task,
        }
    }

    /// Returns all requests received so far.
    pub fn received(&self) -> Vec<Request> {
        self.received.borrow().clone()
    }

    /// Returns the number of connections accepted so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Returns the requests with this method whose target starts with this text.
    pub fn requests(&self, method: &str, target: &str) -> Vec<Request> {
        let mut received = self.received();
        received.retain(|request| request.matches(method, target));
        received
    }

    /// Waits until `count` requests with this method and target prefix have been received. Panics if that takes
    /// longer than 5 seconds.
    pub async fn wait_for_requests(&self, method: &str, target: &str, count: usize) {
        let mut received = self.received.subscribe();
        let enough = received.wait_for(|received| {
            let found = received
                .iter()
                .filter(|request| request.matches(method, target));
            found.count() >= count
        });
        let in_time = timeout(Duration::from_secs(5), enough).await.is_ok();
        assert!(in_time, "{count} {method} {target}: {:?}", self.received());
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.task.abort();
    }
}
