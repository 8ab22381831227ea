//! A bounded queue of connections or calls that the server waits for. A full queue evicts an entry of the peer that
//! has the most entries, so that no peer can displace the others.

use std::{
    collections::{HashMap, VecDeque},
    net::IpAddr,
};

/// A queue of at most `max` entries, in the order of their arrival.
pub struct EvictionQueue<T> {
    max: usize,
    /// Returns whether the server no longer waits for an entry.
    is_finished: fn(&T) -> bool,
    entries: VecDeque<(IpAddr, T)>,
}

impl<T> EvictionQueue<T> {
    pub const fn new(max: usize, is_finished: fn(&T) -> bool) -> Self {
        Self {
            max,
            is_finished,
            entries: VecDeque::new(),
        }
    }

    /// Adds an entry. If the queue is full, removes the finished entries. If there are none, removes and returns the
    /// oldest entry of the peer that has the most entries.
    pub fn push(&mut self, peer: IpAddr, entry: T) -> Option<T> {
        self.entries.push_back((peer.to_canonical(), entry));
        if self.entries.len() > self.max {
            let is_finished = self.is_finished;
            self.entries.retain(|(_, entry)| !is_finished(entry));
        }
        if self.entries.len() > self.max {
            return self.evict();
        }
        None
    }

    fn evict(&mut self) -> Option<T> {
        let mut counts: HashMap<IpAddr, usize> = HashMap::new();
        for (peer, _) in &self.entries {
            *counts.entry(*peer).or_default() += 1;
        }
        let max = counts.values().max().copied();
        let has_max = |(peer, _): &(IpAddr, T)| counts.get(peer).copied() == max;
        let position = self.entries.iter().position(has_max)?;
        self.entries.remove(position).map(|(_, entry)| entry)
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, net::IpAddr, rc::Rc};

    use super::EvictionQueue;

    #[test]
    fn evicts_oldest_entry_of_peer_with_most_entries() {
        let peer = |last: u8| IpAddr::from([192, 0, 2, last]);
        let over = Rc::new(Cell::new(false));
        let mut queue = EvictionQueue::new(4, |(_, over): &(u32, Rc<Cell<bool>>)| over.get());
        let mut push = |from: u8, number: u32, over: &Rc<Cell<bool>>| {
            let evicted = queue.push(peer(from), (number, Rc::clone(over)));
            evicted.map(|(number, _)| number)
        };
        let open = Rc::default();
        for (from, number) in [(1, 1), (2, 2), (2, 3), (3, 4)] {
            assert_eq!(push(from, number, &open), None);
        }
        // The first entry is older, but the second peer has more.
        assert_eq!(push(4, 5, &open), Some(2));
        // All peers have one entry.
        assert_eq!(push(5, 6, &over), Some(1));
        // A peer with two entries loses its own.
        assert_eq!(push(5, 7, &over), Some(6));
        over.set(true);
        assert_eq!(push(6, 8, &open), None);
        assert_eq!(push(6, 9, &open), Some(8));
    }
}
