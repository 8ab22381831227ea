//! Takes connections in, TLS or plaintext, up to the point where they begin HTTP/2. Peers that are slow at that, or say
//! nothing, hold up nobody else.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{
    io::AsyncReadExt as _,
    net::{TcpListener, TcpSocket, TcpStream},
    task::AbortHandle,
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

use super::{
    connection_io::ConnectionIo,
    connection_limit::{ConnectionLimit, ConnectionPermit},
    eviction::EvictionQueue,
    tls::{Tls, peer_certificate},
};
use crate::{
    access::{
        certificate::PeerCertificate,
        refusals::{Kind, Refusals},
    },
    certificates::refusal::of_io,
    metrics::Metrics,
    runtimes::Runtimes,
};

/// For TLS and for the beginning of HTTP/2 together.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// The client begins HTTP/2 with 24 bytes and the 9 of a frame's head (RFC 9113, sections 3.4 and 4.1). They come at
/// once; afterwards, pings find out who is silent.
const PREFACE: usize = 33;
/// Even where there are few connection_limit, those who come at the same time do not push each other out.
pub const LEAST_ARRIVING: u32 = 64;
/// Connections that the system holds until they are accepted; its own limit may be lower.
const BACKLOG: u32 = 4_096;
/// After an error of the system, such as too many open files.
pub const ERROR_PAUSE: Duration = Duration::from_millis(100);

const UNACCEPTED: &str = "a connection could not be accepted";
const TOO_MANY: &str = "a connection was closed: there are too many";
const TLS_FAILED: &str = "a TLS handshake failed";
const LATE: &str = "a connection did not begin in time";

/// What is known of a connection; every one of its requests carries it.
#[derive(Clone)]
pub struct Peer {
    /// Its other end, ...
    pub address: SocketAddr,
    /// ... and ours.
    pub local: Option<SocketAddr>,
    /// The verified certificate that was shown.
    pub certificate: Option<Arc<PeerCertificate>>,
}

/// A connection that has begun HTTP/2.
pub struct Connection {
    /// Its bytes, from the first on.
    pub stream: ConnectionIo,
    /// Its other end.
    pub peer: Peer,
    /// Its permit, while it lasts.
    pub permit: ConnectionPermit,
}

/// What all connections share.
pub struct Acceptor {
    /// `None` for plaintext.
    pub tls: Option<Arc<Tls>>,
    /// How many connections there may be.
    pub connection_limit: Arc<ConnectionLimit>,
    /// The numbers for monitoring.
    pub metrics: Arc<Metrics>,
    /// Limits what refused connections write to the log.
    pub refusals: Arc<Refusals>,
}

/// Takes a port. A deep queue, for clients that come back all at once must not wait for a second SYN.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    // Else a restart would have to wait for the connections of the last process to be forgotten.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Accepts for ever, and hands on what has begun; the port is closed when this is dropped.
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
        // A worker waits for its connections itself.
        let accepted = listener.accept().await;
        let accepted = accepted.and_then(|(stream, address)| Ok((stream.into_std()?, address)));
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                if acceptor
                    .refusals
                    .admit(None, None, Kind::logged(UNACCEPTED, ""))
                {
                    tracing::warn!(%error, "{UNACCEPTED}");
                }
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
                Err(_) => acceptor.late(address),
            }
        });
        // As many may be on their way as there are connection_limit.
        if let Some(silent) = arriving.push(address.ip(), task) {
            silent.abort();
        }
    }
}

impl Acceptor {
    /// Handshake and preface, then a permit.
    async fn arrive(&self, stream: TcpStream, address: SocketAddr) -> Option<Connection> {
        // Answers are small, and callers wait for them.
        let _ = stream.set_nodelay(true);
        let local = stream.local_addr().ok();
        let (mut stream, certificate) = self.handshake(stream, address).await?;
        let mut begun = [0; PREFACE];
        // Who has gone again is none of our business.
        stream.read_exact(&mut begun).await.ok()?;
        let permit = self.connection_limit.try_acquire(address.ip());
        let permit = permit.map_err(|full| {
            let limit = full.as_str();
            self.metrics.connection_refused(limit);
            if self.reports(address, TOO_MANY, limit) {
                tracing::info!(peer = %address, limit, "{TOO_MANY}");
            }
        });
        Some(Connection {
            stream: stream.begun(Bytes::copy_from_slice(&begun)),
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
            return Some((ConnectionIo::plain(stream), None));
        };
        let (config, number) = tls.current();
        match TlsAcceptor::from(config).accept(stream).await {
            Ok(stream) => {
                let certificate = peer_certificate(stream.get_ref().1, number).map(Arc::new);
                Some((ConnectionIo::tls(stream), certificate))
            }
            Err(error) => {
                self.metrics.handshake_failed("tls");
                if self.reports(address, TLS_FAILED, "") {
                    let error = of_io(&error);
                    tracing::info!(peer = %address, error, "{TLS_FAILED}");
                }
                None
            }
        }
    }

    fn late(&self, address: SocketAddr) {
        self.metrics.handshake_failed("timeout");
        if self.reports(address, LATE, "") {
            tracing::info!(peer = %address, "{LATE}");
        }
    }

    /// Whether the connection is logged on its own.
    fn reports(&self, address: SocketAddr, event: &'static str, reason: &'static str) -> bool {
        self.refusals
            .admit(Some(address.ip()), None, Kind::logged(event, reason))
    }
}
