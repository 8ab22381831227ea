//! Takes connections in, TLS or plaintext. A peer that is slow at its handshake holds up nobody else, as long as there
//! are not a thousand of them.

use std::{
    future::Future as _,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{
        Semaphore,
        mpsc::{self, Receiver, Sender},
    },
    time::{Sleep, sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;

use super::tls::{Tls, peer_certificate};
use crate::access::certificate::PeerCertificate;

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// The client begins HTTP/2 with 24 bytes and the 9 of a frame's head (RFC 9113, sections 3.4 and 4.1). They come at
/// once; afterwards, pings find out who is silent.
const PREFACE: u64 = 33;
/// Handshakes at a time.
const MAX_HANDSHAKES: usize = 1_024;
/// After an error of the system, such as too many open files.
const ERROR_PAUSE: Duration = Duration::from_millis(100);
/// Connections that wait for the server to take them.
const QUEUE: usize = 64;

/// What is known of a connection; every one of its requests carries it.
#[derive(Clone)]
pub struct Peer {
    /// Its other end.
    pub address: SocketAddr,
    /// The verified certificate that was shown.
    pub certificate: Option<Arc<PeerCertificate>>,
}

/// A connection.
pub struct Connection {
    stream: Stream,
    peer: Peer,
    /// What is still missing of the preface, and how long it is waited for.
    missing: u64,
    patience: Option<Pin<Box<Sleep>>>,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connection {
    fn new(stream: Stream, peer: Peer) -> Self {
        Self {
            stream,
            peer,
            missing: PREFACE,
            patience: Some(Box::pin(sleep(HANDSHAKE_TIMEOUT))),
        }
    }

    /// Is it too late for the preface?
    fn poll_patience(&mut self, cx: &mut Context<'_>) -> bool {
        let patience = self.patience.as_mut();
        patience.is_some_and(|patience| patience.as_mut().poll(cx).is_ready())
    }

    fn received(&mut self, bytes: usize) {
        self.missing = self.missing.saturating_sub(bytes as u64);
        if self.missing == 0 {
            self.patience = None;
        }
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

/// Accepts until `stop` is cancelled; then the port is closed.
pub fn accept(
    listener: TcpListener,
    tls: Option<Arc<Tls>>,
    stop: CancellationToken,
) -> Receiver<Connection> {
    let (sender, connections) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        let handshakes = Arc::new(Semaphore::new(MAX_HANDSHAKES));
        let _stopped = stop
            .run_until_cancelled(accept_all(&listener, tls, handshakes, sender))
            .await;
    });
    connections
}

async fn accept_all(
    listener: &TcpListener,
    tls: Option<Arc<Tls>>,
    handshakes: Arc<Semaphore>,
    sender: Sender<Connection>,
) {
    loop {
        let Ok(place) = Arc::clone(&handshakes).acquire_owned().await else {
            return;
        };
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(ERROR_PAUSE).await;
                continue;
            }
        };
        let (tls, sender) = (tls.clone(), sender.clone());
        tokio::spawn(async move {
            if let Some(connection) = handshake(stream, address, tls.as_deref()).await {
                // A server that has stopped takes none.
                let _ = sender.send(connection).await;
            }
            drop(place);
        });
    }
}

async fn handshake(
    stream: TcpStream,
    address: SocketAddr,
    tls: Option<&Tls>,
) -> Option<Connection> {
    // Answers are small, and callers wait for them.
    let _ = stream.set_nodelay(true);
    let Some(tls) = tls else {
        let peer = Peer {
            address,
            certificate: None,
        };
        return Some(Connection::new(Stream::Plain(stream), peer));
    };
    let (config, number) = tls.current();
    let accepting = TlsAcceptor::from(config).accept(stream);
    let stream = match timeout(HANDSHAKE_TIMEOUT, accepting).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::info!(peer = %address, %error, "a TLS handshake failed");
            return None;
        }
        Err(_) => {
            tracing::info!(peer = %address, "a TLS handshake took too long");
            return None;
        }
    };
    let certificate = peer_certificate(stream.get_ref().1, number).map(Arc::new);
    let peer = Peer {
        address,
        certificate,
    };
    Some(Connection::new(Stream::Tls(Box::new(stream)), peer))
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let read = match &mut this.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        };
        this.received(buffer.filled().len() - before);
        if read.is_pending() && this.poll_patience(cx) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bytes),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }
}
