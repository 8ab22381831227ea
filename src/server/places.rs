//! How many connections there may be: in all, and of one peer.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex},
};

use crate::config::Limits;

/// The places for connections.
pub struct Places {
    most: u32,
    most_of_a_peer: u32,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    all: u32,
    by_peer: HashMap<IpAddr, u32>,
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// There are too many connections.
    All,
    /// There are too many of this peer.
    Peer,
}

impl Full {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::All, Self::Peer];

    /// The word of the log and of the metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::All => "max_connections",
            Self::Peer => "max_connections_per_peer",
        }
    }
}

impl Places {
    /// With these limits.
    pub fn new(limits: &Limits) -> Self {
        Self {
            most: limits.max_connections,
            most_of_a_peer: limits.max_connections_per_peer,
            taken: Mutex::default(),
        }
    }

    /// Places in all.
    pub const fn most(&self) -> u32 {
        self.most
    }

    /// Takes a place. On this machine one address stands for everybody: a proxy, or all programs.
    pub fn take(self: &Arc<Self>, peer: IpAddr) -> Result<Place, Full> {
        let peer = peer.to_canonical();
        let mut taken = crate::lock(&self.taken);
        if taken.all >= self.most {
            return Err(Full::All);
        }
        let of_peer = taken.by_peer.get(&peer).copied().unwrap_or(0);
        if of_peer >= self.most_of_a_peer && !peer.is_loopback() {
            return Err(Full::Peer);
        }
        taken.all += 1;
        taken.by_peer.insert(peer, of_peer + 1);
        Ok(Place {
            places: Arc::clone(self),
            peer,
        })
    }

    fn give_back(&self, peer: IpAddr) {
        let mut taken = crate::lock(&self.taken);
        taken.all -= 1;
        let of_peer = taken.by_peer.remove(&peer).unwrap_or(1);
        if of_peer > 1 {
            taken.by_peer.insert(peer, of_peer - 1);
        }
    }
}

/// The place of one connection; given back when it is dropped.
pub struct Place {
    places: Arc<Places>,
    peer: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.give_back(self.peer);
    }
}

#[cfg(test)]
mod tests {
    use std::{net::IpAddr, sync::Arc};

    use super::{Full, Places};
    use crate::config::Limits;

    #[test]
    fn places_are_for_all_and_for_each_peer() {
        let places = Arc::new(Places::new(&Limits {
            max_connections: 4,
            max_connections_per_peer: 2,
            ..Limits::default()
        }));
        let [one, same, two, own] = ["192.0.2.1", "::ffff:192.0.2.1", "192.0.2.2", "127.0.0.1"]
            .map(|text| text.parse::<IpAddr>().ok());
        let take = |peer: Option<IpAddr>| peer.map(|peer| places.take(peer));
        let full = |peer| take(peer).and_then(Result::err);
        let mut held = vec![take(one), take(same)];
        assert_eq!(full(one), Some(Full::Peer));
        assert_eq!(full(two), None);
        held.pop();
        held.extend([take(own), take(own), take(own)]);
        assert_eq!(full(two), Some(Full::All));
        drop(held);
        assert_eq!(full(one), None);
        assert!(crate::lock(&places.taken).by_peer.is_empty());
    }
}
