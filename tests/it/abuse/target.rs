//! The program under attack, and the callers that must not be affected.

use std::{
    collections::BTreeSet,
    fs,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use rand::RngExt as _;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use useradmin_testkit::{
    App, Process, SecureClient, Upstream, batch_request, configure, connect, connector,
    pki::{Authority, Validity},
    records, verify, wait_until,
};

use super::{
    messages::UNRECORDED_USER,
    peer::{Io, Peer},
    streams::MAX_CALLS,
};
use crate::authorization::upstream;

/// Limit for the response to a caller. The requirement is 1 s; three times as much is allowed, because the rest of the
/// suite runs at the same time on a machine with two cores. The actual time is printed.
const RESPONSE_LIMIT: Duration = Duration::from_secs(3);
/// Allowed growth of the resident memory, in KiB.
const MAX_GROWTH: u64 = 64 * 1_024;

/// Factory of connections to the program.
pub struct Connector {
    pub address: SocketAddr,
    tls: Option<(TlsConnector, String)>,
}

impl Connector {
    pub fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    pub async fn tcp(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    async fn stream(&self) -> Box<dyn Io> {
        match &self.tls {
            None => Box::new(self.tcp().await),
            Some((connector, _)) => Box::new(connect(connector, self.address).await.unwrap()),
        }
    }

    /// Opens a connection on which HTTP/2 has not been started.
    pub async fn silent(&self) -> Peer {
        Peer::silent(self.stream().await)
    }

    /// Opens a connection like [`Connector::silent`] that is never read.
    pub async fn without_reading(&self) -> Peer {
        Peer::without_reading(self.stream().await)
    }

    /// Opens a connection and starts HTTP/2.
    pub async fn peer(&self) -> Peer {
        self.peer_with(&[]).await
    }

    /// Opens a connection and starts HTTP/2 with these settings.
    pub async fn peer_with(&self, settings: &[(u16, u32)]) -> Peer {
        let mut peer = self.silent().await;
        peer.start_http2(settings).await;
        peer
    }

    /// Creates an ordinary caller with a separate connection.
    fn caller(&self) -> SecureClient {
        match &self.tls {
            None => SecureClient::plain(self.address),
            Some((_, authority)) => SecureClient::tls(self.address, authority, None),
        }
    }
}

/// The running program and the measurements.
pub struct Target {
    pub connector: Arc<Connector>,
    process: Process,
    upstream: Upstream,
    folder: PathBuf,
    caller: SecureClient,
    /// Users whose deletion was acknowledged.
    deleted_users: Mutex<Vec<String>>,
    /// Slowest response overall, and slowest response during the latest attack.
    slowest: Mutex<[Duration; 2]>,
    usage_before: Option<Usage>,
}

/// Resource usage of the process.
#[derive(Clone, Copy, Debug)]
struct Usage {
    /// Resident memory in KiB: current and peak.
    resident: u64,
    peak: u64,
    descriptors: usize,
}

impl Usage {
    /// Returns `None` if there is no `/proc`. Connections to the upstream are not counted, because they stay in the
    /// pool.
    fn of(process: &Process, upstream: &Upstream) -> Option<Self> {
        let folder = PathBuf::from(format!("/proc/{}", process.id()));
        let status = fs::read_to_string(folder.join("status")).ok()?;
        let kib = |name| {
            let line = status.lines().find(|line| line.starts_with(name))?;
            line.split_ascii_whitespace().nth(1)?.parse().ok()
        };
        let (_, port) = upstream.url.rsplit_once(':')?;
        let remote = format!(":{:04X}", port.parse::<u16>().ok()?);
        let sockets = fs::read_to_string(folder.join("net/tcp")).ok()?;
        // Slot, both addresses, ...; the tenth field is the inode, which is 0 if no process owns the socket any more.
        // `nth(2)` consumed three fields, so `nth(6)` is the tenth.
        let upstream_sockets = sockets.lines().filter(|line| {
            let mut words = line.split_ascii_whitespace();
            words.nth(2).is_some_and(|other| other.ends_with(&remote)) && words.nth(6) != Some("0")
        });
        let upstream_sockets = upstream_sockets.count();
        let descriptors = fs::read_dir(folder.join("fd")).ok()?.count();
        Some(Self {
            resident: kib("VmRSS:")?,
            peak: kib("VmHWM:")?,
            descriptors: descriptors.saturating_sub(upstream_sockets),
        })
    }
}

impl Target {
    pub async fn start(over_tls: bool) -> Self {
        let (upstream, folder) = (upstream().await, App::folder());
        let authority = Authority::new();
        let identity = authority.issue("localhost", Validity::Now);
        fs::write(folder.join("server.crt"), identity.pem()).unwrap();
        fs::write(folder.join("server.key"), identity.key_pem()).unwrap();
        let tls = "[server.tls]\ncert_file = \"server.crt\"\nkey_file = \"server.key\"\n";
        // The speed of the disk is not part of the measurement.
        let audit = "[audit]\nsync = false\n";
        let limits = format!("[server.limits]\nmax_concurrent_calls = {MAX_CALLS}\n");
        let sections = [audit, &limits, if over_tls { tls } else { "" }].concat();
        configure(&folder, &upstream.url, &sections);
        let process = Process::start(&folder);
        let connector = Connector {
            address: process.address.parse().unwrap(),
            tls: over_tls.then(|| {
                let authority = authority.pem();
                (connector(authority, None), authority.to_owned())
            }),
        };
        let mut target = Self {
            caller: connector.caller(),
            connector: Arc::new(connector),
            process,
            upstream,
            folder,
            deleted_users: Mutex::default(),
            slowest: Mutex::default(),
            usage_before: None,
        };
        // The first call opens connections that remain in the pool.
        target.probe().await;
        *target.slowest.lock().unwrap() = [Duration::ZERO; 2];
        target.usage_before = Usage::of(&target.process, &target.upstream);
        target
    }

    /// Makes a call and a health check on an existing connection and on a new one.
    pub async fn probe(&self) {
        self.call_and_check_health(&self.caller).await;
        self.call_and_check_health(&self.connector.caller()).await;
    }

    async fn call_and_check_health(&self, caller: &SecureClient) {
        let user = format!("user-{:x}", rand::rng().random::<u64>());
        let started = Instant::now();
        let deleted = caller.delete_batch_node_user(batch_request(&user)).await;
        self.assert_in_time(started, "a call");
        deleted.unwrap();
        self.deleted_users.lock().unwrap().push(user);
        let started = Instant::now();
        let mut health = HealthClient::new(caller.channel());
        let response = health.check(HealthCheckRequest::default()).await;
        self.assert_in_time(started, "health");
        assert_eq!(response.unwrap().into_inner().status, 1);
    }

    fn assert_in_time(&self, started: Instant, case: &str) {
        let elapsed = started.elapsed();
        for slowest in self.slowest.lock().unwrap().iter_mut() {
            *slowest = elapsed.max(*slowest);
        }
        assert!(elapsed < RESPONSE_LIMIT, "{case} took {elapsed:?}");
    }

    /// Returns the slowest response since the previous call of this function.
    pub fn slowest(&self) -> Duration {
        std::mem::take(&mut self.slowest.lock().unwrap()[1])
    }

    /// Checks after all attacks that all resources have been released and that the audit log is complete.
    pub async fn check(self, group: &str) {
        let (slowest, tls) = (self.slowest.lock().unwrap()[0], self.connector.is_tls());
        if let Some(usage_before) = self.usage_before {
            // The connection of the last probe may still be open.
            let max_descriptors = usage_before.descriptors + 1;
            let usage = || Usage::of(&self.process, &self.upstream).unwrap();
            wait_until("descriptors", async || {
                usage().descriptors <= max_descriptors
            })
            .await;
            let usage_after = usage();
            println!(
                "{group}, TLS {tls}: slowest {slowest:?}, {usage_before:?} -> {usage_after:?}"
            );
            assert!(
                usage_after.peak < usage_before.resident + MAX_GROWTH,
                "{usage_after:?}"
            );
        }
        let probes = self.deleted_users.into_inner().unwrap();
        assert!(!probes.is_empty());
        self.process.stop();
        // One line for each connection is acceptable, but not one for each frame.
        let log = fs::read_to_string(self.folder.join("log")).unwrap();
        let h2_log_lines = log
            .lines()
            .filter(|line| line.contains("\"target\":\"h2::"));
        assert!(h2_log_lines.count() < 500);
        let file = self.folder.join("audit.jsonl");
        let audit_records = records(&file);
        let values = |event: &str, key: &str| -> Vec<&str> {
            let records = audit_records
                .iter()
                .filter(|record| record["event"] == event);
            records.filter_map(|record| record[key].as_str()).collect()
        };
        let (intents, outcomes) = (
            values("intent", "request_id"),
            values("outcome", "request_id"),
        );
        let completed_ids: BTreeSet<_> = outcomes.iter().collect();
        assert_eq!(completed_ids.len(), outcomes.len());
        assert!(intents.iter().all(|id| completed_ids.contains(id)));
        assert!(
            audit_records
                .iter()
                .all(|record| record["user"] != UNRECORDED_USER)
        );
        let deleted = |record: &&Value| record["outcome"] == "deleted";
        let deleted: BTreeSet<_> = audit_records
            .iter()
            .filter(deleted)
            .filter_map(|record| record["user"].as_str())
            .collect();
        assert!(probes.iter().all(|user| deleted.contains(user.as_str())));
        assert!(self.upstream.requests("DELETE", "/pools").len() <= intents.len());
        assert_eq!(verify([&file]).0, 0);
        fs::remove_dir_all(&self.folder).unwrap();
    }
}
