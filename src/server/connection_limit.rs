//! Limits the number of connections, in total and for each peer.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex},
};

use crate::config::Limits;

const TOTAL: &str = "max_connections";
const PER_PEER: &str = "max_connections_per_peer";
/// Keys of the limits in the configuration.
pub const LIMITS: [&str; 2] = [TOTAL, PER_PEER];

/// Permits for connections.
pub struct ConnectionLimit {
    max: u32,
    max_per_peer: u32,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    all: u32,
    by_peer: HashMap<IpAddr, u32>,
}

impl ConnectionLimit {
    pub fn new(limits: &Limits) -> Self {
        Self {
            max: limits.max_connections,
            max_per_peer: limits.max_connections_per_peer,
            held: Mutex::default(),
        }
    }

    pub const fn max(&self) -> u32 {
        self.max
    }

    /// Takes a permit, or returns the key of the limit that is reached. The limit of a peer does not apply
    /// to loopback addresses, which proxies and programs share.
    pub fn try_acquire(self: &Arc<Self>, peer: IpAddr) -> Result<ConnectionPermit, &'static str> {
        let peer = peer.to_canonical();
        let mut held = crate::lock(&self.held);
        if held.all >= self.max {
            return Err(TOTAL);
        }
        let of_peer = held.by_peer.get(&peer).copied().unwrap_or(0);
        if of_peer >= self.max_per_peer && !peer.is_loopback() {
            return Err(PER_PEER);
        }
        held.all += 1;
        held.by_peer.insert(peer, of_peer + 1);
        Ok(ConnectionPermit {
            limit: Arc::clone(self),
            peer,
        })
    }

    fn release(&self, peer: IpAddr) {
        let mut held = crate::lock(&self.held);
        held.all -= 1;
        let of_peer = held.by_peer.remove(&peer).unwrap_or(1);
        if of_peer > 1 {
            held.by_peer.insert(peer, of_peer - 1);
        }
    }
}

/// Permit of one connection, which is released when it is dropped.
pub struct ConnectionPermit {
    limit: Arc<ConnectionLimit>,
    peer: IpAddr,
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.limit.release(self.peer);
    }
}

#[cfg(test)]
mod tests {
    use std::{net::IpAddr, sync::Arc};

    use super::{ConnectionLimit, PER_PEER, TOTAL};
    use crate::config::Limits;

    #[test]
    fn connections_are_limited_in_total_and_for_each_peer() {
        let limit = Arc::new(ConnectionLimit::new(&Limits {
            max_connections: 4,
            max_connections_per_peer: 2,
            ..Limits::default()
        }));
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
        assert!(crate::lock(&limit.held).by_peer.is_empty());
    }
}
