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
    connection_io::{ConnectionIo, Io},
    connection_limit::{ConnectionLimit, ConnectionPermit},
    connection_log::ConnectionLog,
    eviction::EvictionQueue,
    tls::Tls,
};
use crate::{access::certificate::PeerCertificate, config::Config, runtimes::Runtimes};

/// Time limit for TLS and the start of HTTP/2 together.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Length of the client's preface and of the header of its first frame (RFC 9113, sections 3.4 and 4.1). Clients send
/// both together, so waiting for them delays no client. Pings detect peers that become silent later.
const PREFACE_AND_FRAME_HEADER_LEN: usize = 33;
/// Lower bound of the limit of concurrent handshakes, so that a small `max_connections` does not make handshakes evict
/// each other.
pub const MIN_HANDSHAKES: u32 = 64;
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
    pub io: ConnectionIo,
    pub peer: Peer,
    pub permit: ConnectionPermit,
    /// Why the connection fails, if its first bytes are those of another protocol.
    pub mistake: Option<&'static str>,
}

/// Performs the handshakes of all connections.
pub struct Acceptor {
    pub tls: Option<Arc<Tls>>,
    pub connection_limit: Arc<ConnectionLimit>,
    /// `SETTINGS_MAX_HEADER_LIST_SIZE` that is sent to clients.
    pub max_header_list: u32,
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

/// Returns the error for an address that cannot be bound. If it is in use, the remedy is a key of `[server]`, or the option of
/// the sandbox with the same name.
pub fn cannot_listen(config: &Config, key: &str, address: SocketAddr, error: &io::Error) -> String {
    let remedy = match &config.source.path {
        _ if error.kind() != io::ErrorKind::AddrInUse => String::new(),
        Some(_) => format!("; set `{key}` in [server] to another address"),
        None => format!("; pass another address with --{}", key.replace('_', "-")),
    };
    format!("cannot listen on {address} ({key}): {error}{remedy}")
}

/// Accepts connections and passes them to `serve` once they have begun HTTP/2. The port is closed when this is dropped.
pub async fn accept<F>(listener: TcpListener, acceptor: Acceptor, runtimes: Arc<Runtimes>, serve: F)
where
    F: Fn(Connection) + Clone + Send + 'static,
{
    let acceptor = Arc::new(acceptor);
    let max = acceptor.connection_limit.max().max(MIN_HANDSHAKES) as usize;
    let mut handshakes = EvictionQueue::new(max, AbortHandle::is_finished);
    loop {
        // The socket is detached from this runtime; the runtime that serves it registers it again.
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
        let (acceptor, serve) = (Arc::clone(&acceptor), serve.clone());
        let task = runtimes.spawn(async move {
            let Ok(stream) = TcpStream::from_std(stream) else {
                return;
            };
            match timeout(HANDSHAKE_TIMEOUT, acceptor.begin(stream, address)).await {
                Ok(Some(connection)) => serve(connection),
                Ok(None) => {}
                Err(_) => acceptor.log.handshake_timed_out(address),
            }
        });
        if let Some(evicted) = handshakes.push(address.ip(), task) {
            evicted.abort();
        }
    }
}

impl Acceptor {
    /// Completes the handshake, reads the preface and takes a permit.
    async fn begin(&self, stream: TcpStream, address: SocketAddr) -> Option<Connection> {
        // Responses are small and must not be delayed.
        let _ = stream.set_nodelay(true);
        let local = stream.local_addr().ok();
        let (mut io, certificate) = self.handshake(stream, address).await?;
        let mut preface = [0; PREFACE_AND_FRAME_HEADER_LEN];
        io.read_exact(&mut preface).await.ok()?;
        let permit = self.connection_limit.try_acquire(address.ip());
        let permit = permit.inspect_err(|&limit| self.log.limit_reached(address, limit));
        let mistake = mistake(&preface);
        let preface = Bytes::copy_from_slice(&preface);
        Some(Connection {
            io: ConnectionIo::new(io, preface, self.max_header_list),
            peer: Peer {
                address,
                local,
                certificate,
            },
            permit: permit.ok()?,
            mistake,
        })
    }

    async fn handshake(
        &self,
        stream: TcpStream,
        address: SocketAddr,
    ) -> Option<(Io, Option<Arc<PeerCertificate>>)> {
        let Some(tls) = &self.tls else {
            return Some((Either::Left(stream), None));
        };
        let (config, number) = tls.current();
        let accepted = TlsAcceptor::from(config).accept(stream).await;
        let accepted = accepted.inspect_err(|error| self.log.tls_failed(address, error));
        let stream = Box::new(accepted.ok()?);
        let chain = stream.get_ref().1.peer_certificates();
        let certificate = chain.and_then(|chain| PeerCertificate::new(chain, number));
        Some((Either::Right(stream), certificate.map(Arc::new)))
    }
}

/// Returns the mistake of a client whose first bytes do not begin HTTP/2: a TLS handshake record of any version (RFC 8446,
/// section 5.1), or the first line of a request.
fn mistake(first: &[u8; PREFACE_AND_FRAME_HEADER_LEN]) -> Option<&'static str> {
    if first.starts_with(&[22, 3]) {
        Some("TLS client on the plaintext port")
    } else if first.is_ascii() && !first.starts_with(b"PRI ") {
        Some("client does not speak HTTP/2")
    } else {
        None
    }
}
