//! The sections of the configuration, as types.

use std::{fmt, net::SocketAddr, path::PathBuf, time::Duration};

use jsonwebtoken::Algorithm;
use rustls::pki_types::CertificateDer;
use url::Url;

use super::tls::TlsFiles;
use crate::{identity::Identity, pattern::Pattern};

/// `[server]`
#[derive(Clone, Debug)]
pub struct Server {
    /// Where gRPC is served.
    pub listen: SocketAddr,
    /// Where `/livez`, `/readyz` and `/metrics` are served.
    pub admin_listen: Option<SocketAddr>,
    /// Was `admin_listen` named in the file? Then it must be free.
    pub admin_named: bool,
    /// To whom health is told.
    pub health: Audience,
    /// To whom reflection is served; `None` when to nobody.
    pub reflection: Option<Audience>,
    /// Certificates; `None` for plaintext.
    pub tls: Option<TlsFiles>,
    /// `[server.limits]`
    pub limits: Limits,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 50051)),
            admin_listen: Some(SocketAddr::from(([127, 0, 0, 1], 9464))),
            admin_named: false,
            health: Audience::Everybody,
            reflection: Some(Audience::Everybody),
            tls: None,
            limits: Limits::default(),
        }
    }
}

/// To whom a service without rights of its own answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// Who can reach the port.
    Everybody,
    /// Who shows a valid identity, whether or not it is listed.
    Identified,
}

/// `[server.limits]`
#[derive(Clone, Debug)]
pub struct Limits {
    /// Largest request message in bytes.
    pub max_request_bytes: u32,
    /// Largest request metadata in bytes.
    pub max_metadata_bytes: u32,
    /// Calls in progress on one connection.
    pub max_concurrent_streams: u32,
    /// Calls in progress.
    pub max_concurrent_calls: u32,
    /// Connections at a time.
    pub max_connections: u32,
    /// Connections of one address at a time; loopback has no such limit.
    pub max_connections_per_peer: u32,
    /// How old a connection gets before its client is asked to make a new one.
    pub max_connection_age: Duration,
    /// How long a connection may be without a call before its client is asked to end it.
    pub max_connection_idle: Duration,
    /// How long calls may go on after a signal to stop.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_request_bytes: 65_536,
            max_metadata_bytes: 8_192,
            max_concurrent_streams: 100,
            max_concurrent_calls: 2_048,
            max_connections: 1_024,
            max_connections_per_peer: 64,
            max_connection_age: Duration::from_mins(30),
            max_connection_idle: Duration::from_mins(5),
            drain: Duration::from_secs(25),
        }
    }
}

/// `[tracing]`
#[derive(Clone, Debug)]
pub struct Tracing {
    /// Where spans are sent; `None` when nowhere.
    pub collector: Option<Url>,
    /// More authorities beside the system's.
    pub roots: Roots,
    /// The part of the calls without a caller's decision whose spans are sent.
    pub sample_ratio: f64,
}

impl Default for Tracing {
    fn default() -> Self {
        Self {
            collector: None,
            roots: Roots::default(),
            sample_ratio: 1.0,
        }
    }
}

/// `[audit]`
#[derive(Clone, Debug)]
pub struct Audit {
    /// Where records go.
    pub sink: AuditSink,
    /// Is a record on the disk before the call goes on?
    pub sync: bool,
}

/// Where audit records go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuditSink {
    /// A file that is only ever appended to.
    File(PathBuf),
    /// Standard output.
    Stdout,
    /// Nowhere: the sandbox deletes nothing real. No configuration file leads here.
    Nowhere,
}

impl fmt::Display for AuditSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Stdout => f.write_str("stdout"),
            Self::Nowhere => f.write_str("nowhere"),
        }
    }
}

/// How many calls a target takes at a time.
#[derive(Clone, Copy, Debug)]
pub struct BulkheadLimits {
    /// In progress.
    pub in_flight: u32,
    /// Waiting.
    pub queued: u32,
}

/// `ca_file`
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roots {
    /// The file, if there is one.
    pub file: Option<PathBuf>,
    /// What it held when it was read.
    pub certificates: Vec<CertificateDer<'static>>,
}

/// The table of a target, with the keys `S` of its kind.
#[derive(Clone)]
pub struct Target<S> {
    /// Where it is reached.
    pub url: Url,
    /// Authorities from `ca_file`.
    pub roots: Roots,
    /// Users that are never deleted.
    pub protected_users: Vec<Pattern>,
    /// Maximum number of requests at a time.
    pub bulkhead: BulkheadLimits,
    /// Keys of this kind of target.
    pub own: S,
}

/// `[[callers]]`
#[derive(Clone, Debug)]
pub struct Caller {
    /// Who.
    pub identity: Identity,
    /// What.
    pub allow: Vec<Allow>,
    /// Deletions per minute.
    pub deletes_per_minute: Option<u32>,
}

/// `[[jwt_issuers]]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwtIssuer {
    /// What `iss` must be.
    pub issuer: String,
    /// What `aud` must be, or hold.
    pub audience: String,
    /// What `alg` may be.
    pub algorithms: Vec<Algorithm>,
    /// Where the issuer's keys are.
    pub jwks: Jwks,
}

/// Where an issuer's keys are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Jwks {
    /// In a file.
    File(PathBuf),
    /// On a server.
    Url {
        /// Where.
        url: Url,
        /// More authorities beside the system's.
        roots: Roots,
    },
}

/// One entry of `allow`.
#[derive(Clone, Debug)]
pub struct Allow {
    /// The rpc's name.
    pub rpc: &'static str,
    /// Aliases.
    pub targets: Vec<Pattern>,
    /// Pools; `None` means all.
    pub pools: Option<Vec<Pattern>>,
}
