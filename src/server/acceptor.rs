//! Accepts TLS and plaintext connections, and prepares each of them until its client has started HTTP/2. Slow or
//! silent peers do not delay other peers.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
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
use crate::{
    access::certificate::PeerCertificate, config::Config, runtimes::Runtimes, trace::Endpoints,
};

/// Time limit from accepting a connection until its client has started HTTP/2, including the TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// The start of the client's preface (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Length in bytes of this text and of the header of the client's first frame (RFC 9113, section 4.1). Clients send
/// both together, so waiting for both delays no client. Pings detect peers that become silent later.
const PREFACE_AND_FRAME_HEADER_LEN: usize = 33;
/// Minimum limit of handshakes. With a small `max_connections`, they would otherwise evict each other.
pub const MIN_HANDSHAKES: u32 = 64;
/// Requested length of the operating system's queue of connections. The system may enforce a lower limit.
const BACKLOG: u32 = 4_096;
/// Pause after the operating system fails to accept a connection, for example because too many files are open.
pub const ERROR_PAUSE: Duration = Duration::from_millis(100);

/// The peer of a connection. The server adds it to the extensions of each request of that connection.
#[derive(Clone)]
pub struct Peer {
    pub endpoints: Endpoints,
    /// The verified client certificate, if the client has presented one.
    pub certificate: Option<Arc<PeerCertificate>>,
}

/// A connection that has a permit, and whose first bytes have been read.
pub struct Connection {
    pub io: ConnectionIo,
    pub peer: Peer,
    pub permit: ConnectionPermit,
    /// The cause to log when the connection fails, if its first bytes are those of another protocol than HTTP/2.
    pub wrong_protocol: Option<&'static str>,
}

/// Performs the handshakes of all connections.
pub struct Acceptor {
    pub tls: Option<Arc<Tls>>,
    pub connection_limit: Arc<ConnectionLimit>,
    /// Value of `SETTINGS_MAX_HEADER_LIST_SIZE` that the server sends to clients.
    pub max_header_list: u32,
    pub log: Arc<ConnectionLog>,
}

/// Binds this address and listens on it. The queue of connections is long, so that clients that reconnect all at once
/// do not have to repeat their SYN. Fails if the address cannot be bound.
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

/// Returns the message for an address that cannot be bound. If the address is in use, the message names the remedy:
/// the key of `[server]` or, for the sandbox, the option with the same name.
pub fn cannot_listen(config: &Config, key: &str, address: SocketAddr, error: &io::Error) -> String {
    let remedy = match &config.source.path {
        _ if error.kind() != io::ErrorKind::AddrInUse => String::new(),
        Some(_) => format!("; set `{key}` in [server] to another address"),
        None => format!("; pass another address with --{}", key.replace('_', "-")),
    };
    format!("cannot listen on {address} ({key}): {error}{remedy}")
}

/// Accepts connections, and passes each one to `serve` once its first bytes have been read. Runs until the future is
/// dropped, which closes the port.
pub async fn accept<F>(listener: TcpListener, acceptor: Acceptor, runtimes: Arc<Runtimes>, serve: F)
where
    F: Fn(Connection) + Clone + Send + 'static,
{
    let acceptor = Arc::new(acceptor);
    let max = acceptor.connection_limit.max.max(MIN_HANDSHAKES) as usize;
    let mut handshakes = EvictionQueue::new(max, AbortHandle::is_finished);
    loop {
        // The socket is detached from this runtime, because the runtime that serves the connection registers it.
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
    /// Completes the handshake, reads the preface and takes a permit. Returns `None` if one of these steps fails.
    async fn begin(&self, stream: TcpStream, address: SocketAddr) -> Option<Connection> {
        // Responses are small and must not be delayed.
        let _ = stream.set_nodelay(true);
        let local = stream.local_addr().ok();
        let (mut io, certificate) = self.handshake(stream, address).await?;
        let first_bytes = read_first_bytes(&mut io).await?;
        let permit = self.connection_limit.try_acquire(address.ip());
        let permit = permit.inspect_err(|&limit| self.log.limit_reached(address, limit));
        let wrong_protocol = wrong_protocol(&first_bytes);
        Some(Connection {
            io: ConnectionIo::new(io, first_bytes, self.max_header_list),
            peer: Peer {
                endpoints: Endpoints::new(address, local),
                certificate,
            },
            permit: permit.ok()?,
            wrong_protocol,
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

/// Reads the preface and the header of the first frame, or the bytes up to the first one that differs from the preface,
/// because a client of another protocol may wait for the response to a shorter request. Returns `None` if the
/// connection ends before.
async fn read_first_bytes(io: &mut Io) -> Option<Bytes> {
    let mut bytes = BytesMut::with_capacity(PREFACE_AND_FRAME_HEADER_LEN);
    loop {
        let compared = bytes.len().min(PREFACE.len());
        if bytes.len() >= PREFACE_AND_FRAME_HEADER_LEN || bytes[..compared] != PREFACE[..compared] {
            return Some(bytes.freeze());
        }
        if io.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}

/// Returns the protocol mistake of a client whose first bytes are not those of HTTP/2 but a TLS handshake record (RFC
/// 8446, section 5.1) or ASCII text, such as the first line of an HTTP/1 request. Otherwise returns `None`.
fn wrong_protocol(first: &[u8]) -> Option<&'static str> {
    if first.starts_with(&[22]) {
        Some("TLS client on the plaintext port")
    } else if first.is_ascii() && !first.starts_with(b"PRI ") {
        Some("client does not speak HTTP/2")
    } else {
        None
    }
}
