//! The server of an upstream: reads requests over HTTP/1.1 or HTTP/2 and sends the replies of its handler.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use rustls::ServerConfig;
use tokio::{
    io::{AsyncWriteExt as _, BufReader, copy, sink},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

use super::{
    http2,
    reply::{Handler, Reply},
    request::Request,
    stream::Io,
};

/// Protocol settings of an upstream. By default, it uses HTTP/1.1 without TLS.
#[derive(Clone, Default)]
pub struct Settings {
    /// TLS configuration. If it is set, connections are encrypted, and ALPN selects HTTP/1.1 or HTTP/2.
    pub tls: Option<ServerConfig>,
    /// Whether clients use HTTP/2 without TLS.
    pub prior_knowledge: bool,
    /// Maximum number of concurrent HTTP/2 streams of a client.
    pub max_streams: Option<u32>,
    /// Bytes that are sent on each connection instead of any response.
    pub greeting: Option<Vec<u8>>,
    /// Number of accepted connections.
    pub connections: Arc<AtomicUsize>,
}

/// Serves the connections of this listener. All connections are closed when the future is dropped.
pub async fn serve(
    listener: TcpListener,
    settings: Settings,
    handler: impl FnMut(&Request) -> Reply + Send + 'static,
) {
    let tls = settings.tls.clone();
    let server = Server {
        tls: tls.map(|config| TlsAcceptor::from(Arc::new(config))),
        settings,
        handler: Arc::new(Mutex::new(handler)),
    };
    let server = Arc::new(server);
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let number = 1 + server.settings.connections.fetch_add(1, Ordering::Relaxed);
        connections.spawn(Arc::clone(&server).connection(stream, number));
        while connections.try_join_next().is_some() {}
    }
}

struct Server {
    tls: Option<TlsAcceptor>,
    settings: Settings,
    handler: Handler,
}

impl Server {
    async fn connection(self: Arc<Self>, mut stream: TcpStream, number: usize) {
        // Without this option, a small response waits for the acknowledgement of the previous one.
        stream.set_nodelay(true).unwrap();
        if let Some(greeting) = &self.settings.greeting {
            let _ = stream.write_all(greeting).await;
            let _ = copy(&mut stream, &mut sink()).await;
            return;
        }
        let Some(tls) = &self.tls else {
            let http2 = self.settings.prior_knowledge;
            return self.serve_protocol(stream, http2, number).await;
        };
        // A failed handshake is ignored here, because the client reports it.
        if let Ok(stream) = tls.accept(stream).await {
            let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            self.serve_protocol(stream, http2, number).await;
        }
    }

    async fn serve_protocol(&self, stream: impl Io, http2: bool, number: usize) {
        if http2 {
            return http2::serve(stream, self.settings.max_streams, &self.handler, number).await;
        }
        let mut stream = BufReader::new(stream);
        while let Some(mut request) = Request::read(&mut stream).await {
            request.connection = number;
            let reply = self.handler.lock().unwrap()(&request);
            if !reply.write_to(&mut stream).await {
                return;
            }
        }
    }
}
