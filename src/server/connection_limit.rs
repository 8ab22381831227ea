//! Limits the number of connections, in total and for each peer.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex},
};

use crate::{config::Limits, metrics::Metrics};

// Keys of the limits in the configuration.
const TOTAL: &str = "max_connections";
const PER_PEER: &str = "max_connections_per_peer";

pub struct ConnectionLimit {
    pub max: u32,
    max_per_peer: u32,
    /// The gauge of open connections in these metrics is the number that is compared with `max`.
    metrics: Arc<Metrics>,
    by_peer: Mutex<HashMap<IpAddr, u32>>,
}

impl ConnectionLimit {
    pub fn new(limits: &Limits, metrics: Arc<Metrics>) -> Self {
        metrics.expect_connections(limits.max_connections, &[TOTAL, PER_PEER]);
        Self {
            max: limits.max_connections,
            max_per_peer: limits.max_connections_per_peer,
            metrics,
            by_peer: Mutex::default(),
        }
    }

    /// Returns a permit, or the key of the limit that is reached. The limit per peer does not apply to loopback
    /// addresses, because proxies and local programs share them.
    pub fn try_acquire(self: &Arc<Self>, peer: IpAddr) -> Result<ConnectionPermit, &'static str> {
        let peer = peer.to_canonical();
        let mut by_peer = crate::lock(&self.by_peer);
        if self.metrics.server.connections.get() >= self.max.into() {
            return Err(TOTAL);
        }
        let count = by_peer.get(&peer).copied().unwrap_or(0);
        if count >= self.max_per_peer && !peer.is_loopback() {
            return Err(PER_PEER);
        }
        by_peer.insert(peer, count + 1);
        self.metrics.server.connections.inc();
        Ok(ConnectionPermit {
            limit: Arc::clone(self),
            peer,
        })
    }
}

/// The permit of one connection. Dropping the permit releases it.
pub struct ConnectionPermit {
    limit: Arc<ConnectionLimit>,
    peer: IpAddr,
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let mut by_peer = crate::lock(&self.limit.by_peer);
        self.limit.metrics.server.connections.dec();
        let count = by_peer.remove(&self.peer).unwrap_or(1);
        if count > 1 {
            by_peer.insert(self.peer, count - 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{net::IpAddr, sync::Arc};

    use super::{ConnectionLimit, PER_PEER, TOTAL};
    use crate::config::Limits;

    #[test]
    fn connections_are_limited_in_total_and_per_peer() {
        let limits = Limits {
            max_connections: 4,
            max_connections_per_peer: 2,
            ..Limits::default()
        };
        let limit = Arc::new(ConnectionLimit::new(&limits, Arc::default()));
        let [one, same, two, own] = ["192.0.2.1", "::ffff:192.0.2.1", "192.0.2.2", "127.0.0.1"]
            .map(|text| text.parse::<IpAddr>().ok());
        let acquire = |peer: Option<IpAddr>| peer.map(|peer| limit.try_acquire(peer));
        let full = |peer| acquire(peer).and_then(Result::err);
        let mut held = vec![acquire(one), acquire(same)];
        assert_eq!(full(one), Some(PER_PEER));
        assert_eq!(full(two), None);
        held.pop();
        held.extend([acquire(own), acquire(own), acquire(own)]);
        assert_eq!(full(two), Some(TOTAL));
        drop(held);
        assert_eq!(full(one), None);
        assert!(crate::lock(&limit.by_peer).is_empty());
    }
}
