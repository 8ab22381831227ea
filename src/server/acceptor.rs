//! Accepts connections, TLS or plaintext, up to the start of HTTP/2. Slow or silent peers do not delay others.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{
    io::AsyncReadExt as _,
    net::{TcpListener, TcpSocket, TcpStream},
    task::AbortHandle,
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::either::Either;

use super::{
    connection_io::ConnectionIo,
    connection_limit::{ConnectionLimit, ConnectionPermit},
    connection_log::ConnectionLog,
    eviction::EvictionQueue,
    tls::{Tls, peer_certificate},
};
use crate::{access::certificate::PeerCertificate, runtimes::Runtimes};

/// Time limit for TLS and the start of HTTP/2 together.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Length of the client's preface and of the header of its first frame (RFC 9113, sections 3.4 and 4.1). Clients send
/// both at once; later, pings detect silent peers.
const PREFACE: usize = 33;
/// Minimum number of handshakes at a time, so that they do not evict each other if few connections are allowed.
pub const LEAST_ARRIVING: u32 = 64;
/// Length of the system's queue of connections to accept; its own limit may be lower.
const BACKLOG: u32 = 4_096;
/// Pause after an error of the system, such as too many open files.
pub const ERROR_PAUSE: Duration = Duration::from_millis(100);

/// The peer of a connection, an extension of each of its requests.
#[derive(Clone)]
pub struct Peer {
    pub address: SocketAddr,
    pub local: Option<SocketAddr>,
    /// The verified client certificate.
    pub certificate: Option<Arc<PeerCertificate>>,
}

/// A connection that has begun HTTP/2.
pub struct Connection {
    pub stream: ConnectionIo,
    pub peer: Peer,
    pub permit: ConnectionPermit,
}

/// What the handshakes of all connections share.
pub struct Acceptor {
    pub tls: Option<Arc<Tls>>,
    pub connection_limit: Arc<ConnectionLimit>,
    pub log: Arc<ConnectionLog>,
}

/// Binds a port. The queue is long, so that clients that reconnect all at once need not repeat their SYN.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    // Allows a restart while connections of the previous process are in TIME_WAIT.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Accepts connections and passes them to `hand_on` once they have begun HTTP/2. The port is closed when this is dropped.
pub async fn accept<F>(
    listener: TcpListener,
    acceptor: Acceptor,
    runtimes: Arc<Runtimes>,
    hand_on: F,
) where
    F: Fn(Connection) + Clone + Send + 'static,
{
    let acceptor = Arc::new(acceptor);
    let most = acceptor.connection_limit.max().max(LEAST_ARRIVING) as usize;
    let mut arriving = EvictionQueue::new(most, AbortHandle::is_finished);
    loop {
        // Each runtime registers its connections itself.
        let accepted = listener.accept().await;
        let accepted = accepted.and_then(|(stream, address)| Ok((stream.into_std()?, address)));
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                acceptor.log.not_accepted(&error);
                sleep(ERROR_PAUSE).await;
                continue;
            }
        };
        let (acceptor, hand_on) = (Arc::clone(&acceptor), hand_on.clone());
        let task = runtimes.spawn(async move {
            let Ok(stream) = TcpStream::from_std(stream) else {
                return;
            };
            let arrived = timeout(HANDSHAKE_TIMEOUT, acceptor.arrive(stream, address)).await;
            match arrived {
                Ok(Some(connection)) => hand_on(connection),
                Ok(None) => {}
                Err(_) => acceptor.log.handshake_timed_out(address),
            }
        });
        if let Some(silent) = arriving.push(address.ip(), task) {
            silent.abort();
        }
    }
}

impl Acceptor {
    /// Completes the handshake, reads the preface and takes a permit.
    async fn arrive(&self, stream: TcpStream, address: SocketAddr) -> Option<Connection> {
        // Responses are small and must not be delayed.
        let _ = stream.set_nodelay(true);
        let local = stream.local_addr().ok();
        let (mut stream, certificate) = self.handshake(stream, address).await?;
        let mut begun = [0; PREFACE];
        stream.read_exact(&mut begun).await.ok()?;
        let permit = self.connection_limit.try_acquire(address.ip());
        let permit = permit.inspect_err(|&limit| self.log.limit_reached(address, limit));
        Some(Connection {
            stream: stream.with_prefix(Bytes::copy_from_slice(&begun)),
            peer: Peer {
                address,
                local,
                certificate,
            },
            permit: permit.ok()?,
        })
    }

    async fn handshake(
        &self,
        stream: TcpStream,
        address: SocketAddr,
    ) -> Option<(ConnectionIo, Option<Arc<PeerCertificate>>)> {
        let Some(tls) = &self.tls else {
            return Some((ConnectionIo::new(Either::Left(stream)), None));
        };
        let (config, number) = tls.current();
        match TlsAcceptor::from(config).accept(stream).await {
            Ok(stream) => {
                let certificate = peer_certificate(stream.get_ref().1, number).map(Arc::new);
                Some((
                    ConnectionIo::new(Either::Right(Box::new(stream))),
                    certificate,
                ))
            }
            Err(error) => {
                self.log.tls_failed(address, &error);
                None
            }
        }
    }
}
