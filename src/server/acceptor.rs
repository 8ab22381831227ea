//! Takes connections in, TLS or plaintext, up to the point where they begin HTTP/2. Peers that are slow at that, or say
//! nothing, hold up nobody else.

use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::mpsc::{self, Receiver, Sender},
    task::AbortHandle,
    time::{sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;

use super::{
    places::{Place, Places},
    tls::{Tls, peer_certificate},
};
use crate::{access::certificate::PeerCertificate, metrics::Metrics};

/// For TLS and for the beginning of HTTP/2 together.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// The client begins HTTP/2 with 24 bytes and the 9 of a frame's head (RFC 9113, sections 3.4 and 4.1). They come at
/// once; afterwards, pings find out who is silent.
const PREFACE: usize = 33;
/// Even where there are few places, those who come at the same time do not push each other out.
const LEAST_ARRIVING: u32 = 64;
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

/// A connection that has begun HTTP/2.
pub struct Connection {
    stream: Stream,
    peer: Peer,
    /// What was read of the preface, and has yet to be handed on.
    begun: Bytes,
    _place: Place,
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

/// What all connections share.
pub struct Acceptor {
    /// `None` for plaintext.
    pub tls: Option<Arc<Tls>>,
    /// How many connections there may be.
    pub places: Arc<Places>,
    /// The numbers for monitoring.
    pub metrics: Arc<Metrics>,
}

/// Accepts until `stop` is cancelled; then the port is closed.
pub fn accept(
    listener: TcpListener,
    acceptor: Acceptor,
    stop: CancellationToken,
) -> Receiver<Connection> {
    let (sender, connections) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        let _stopped = stop
            .run_until_cancelled(accept_all(&listener, Arc::new(acceptor), sender))
            .await;
    });
    connections
}

async fn accept_all(listener: &TcpListener, acceptor: Arc<Acceptor>, sender: Sender<Connection>) {
    let mut arriving = VecDeque::new();
    loop {
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(ERROR_PAUSE).await;
                continue;
            }
        };
        let most = acceptor.places.most().max(LEAST_ARRIVING);
        make_room(&mut arriving, most as usize);
        let (acceptor, sender) = (Arc::clone(&acceptor), sender.clone());
        let task = tokio::spawn(async move {
            let arrived = timeout(HANDSHAKE_TIMEOUT, acceptor.arrive(stream, address)).await;
            match arrived {
                // A server that has stopped takes none.
                Ok(Some(connection)) => drop(sender.send(connection).await),
                Ok(None) => {}
                Err(_) => tracing::info!(peer = %address, "a connection did not begin in time"),
            }
        });
        arriving.push_back(task.abort_handle());
    }
}

/// As many may be on their way as there are places. Whoever is silent longest goes first, so that silent peers keep
/// nobody out.
fn make_room(arriving: &mut VecDeque<AbortHandle>, most: usize) {
    if arriving.len() >= most {
        arriving.retain(|task| !task.is_finished());
    }
    if arriving.len() >= most
        && let Some(oldest) = arriving.pop_front()
    {
        oldest.abort();
    }
}

impl Acceptor {
    /// Handshake and preface, then a place.
    async fn arrive(&self, stream: TcpStream, address: SocketAddr) -> Option<Connection> {
        // Answers are small, and callers wait for them.
        let _ = stream.set_nodelay(true);
        let (mut stream, certificate) = self.handshake(stream, address).await?;
        let mut begun = [0; PREFACE];
        // Who has gone again is none of our business.
        stream.read_exact(&mut begun).await.ok()?;
        let place = self.places.take(address.ip());
        let place = place.map_err(|full| {
            let limit = full.as_str();
            self.metrics.connection_refused(limit);
            tracing::info!(peer = %address, limit, "a connection was closed: there are too many");
        });
        Some(Connection {
            stream,
            peer: Peer {
                address,
                certificate,
            },
            begun: Bytes::copy_from_slice(&begun),
            _place: place.ok()?,
        })
    }

    async fn handshake(
        &self,
        stream: TcpStream,
        address: SocketAddr,
    ) -> Option<(Stream, Option<Arc<PeerCertificate>>)> {
        let Some(tls) = &self.tls else {
            return Some((Stream::Plain(stream), None));
        };
        let (config, number) = tls.current();
        match TlsAcceptor::from(config).accept(stream).await {
            Ok(stream) => {
                let certificate = peer_certificate(stream.get_ref().1, number).map(Arc::new);
                Some((Stream::Tls(Box::new(stream)), certificate))
            }
            Err(error) => {
                tracing::info!(peer = %address, %error, "a TLS handshake failed");
                None
            }
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.begun.is_empty() {
            return Pin::new(&mut this.stream).poll_read(cx, buffer);
        }
        let part = this
            .begun
            .split_to(this.begun.len().min(buffer.remaining()));
        buffer.put_slice(&part);
        Poll::Ready(Ok(()))
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
