//! Those who are waited for, and who has to go when there are too many of them.

use std::{
    collections::{HashMap, VecDeque},
    net::IpAddr,
};

/// In the order in which they came.
pub struct Waiting<T> {
    most: usize,
    /// Is it not waited for any more?
    is_over: fn(&T) -> bool,
    entries: VecDeque<(IpAddr, T)>,
}

impl<T> Waiting<T> {
    /// Nobody yet, and so many at the most.
    pub const fn new(most: usize, is_over: fn(&T) -> bool) -> Self {
        Self {
            most,
            is_over,
            entries: VecDeque::new(),
        }
    }

    /// One more. Returns who has to go for it: of the peer with the most of them the one that has waited longest, so
    /// that nobody is kept out by others.
    pub fn enter(&mut self, peer: IpAddr, entry: T) -> Option<T> {
        self.entries.push_back((peer.to_canonical(), entry));
        if self.entries.len() > self.most {
            let is_over = self.is_over;
            self.entries.retain(|(_, entry)| !is_over(entry));
        }
        if self.entries.len() > self.most {
            return self.leave();
        }
        None
    }

    fn leave(&mut self) -> Option<T> {
        let mut counts: HashMap<IpAddr, usize> = HashMap::new();
        for (peer, _) in &self.entries {
            *counts.entry(*peer).or_default() += 1;
        }
        let most = counts.values().max().copied();
        let of_most = |(peer, _): &(IpAddr, T)| counts.get(peer).copied() == most;
        let position = self.entries.iter().position(of_most)?;
        self.entries.remove(position).map(|(_, entry)| entry)
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, net::IpAddr, rc::Rc};

    use super::Waiting;

    #[test]
    fn whoever_has_the_most_makes_room() {
        let peer = |last: u8| IpAddr::from([192, 0, 2, last]);
        let over = Rc::new(Cell::new(false));
        let mut waiting = Waiting::new(4, |(_, over): &(u32, Rc<Cell<bool>>)| over.get());
        let mut enter = |from: u8, number: u32, over: &Rc<Cell<bool>>| {
            let left = waiting.enter(peer(from), (number, Rc::clone(over)));
            left.map(|(number, _)| number)
        };
        let goes_on = Rc::default();
        for (from, number) in [(1, 1), (2, 2), (2, 3), (3, 4)] {
            assert_eq!(enter(from, number, &goes_on), None);
        }
        // The first one has waited longer, but the second peer has more.
        assert_eq!(enter(4, 5, &goes_on), Some(2));
        // All have one: the order decides.
        assert_eq!(enter(5, 6, &over), Some(1));
        // It only makes room for itself.
        assert_eq!(enter(5, 7, &over), Some(6));
        over.set(true);
        assert_eq!(enter(6, 8, &goes_on), None);
        assert_eq!(enter(6, 9, &goes_on), Some(8));
    }
}
