//! Mutations of seeds like those of a fuzzer.

use proptest::{
    arbitrary::any,
    collection::vec,
    prelude::prop_oneof,
    sample::{Index, select},
    strategy::{BoxedStrategy, Just, Strategy},
};

use super::one_of;

#[derive(Clone, Debug)]
enum Change {
    Flip(Index, u8),
    Insert(Index, Vec<u8>),
    Remove(Index, Index),
    Repeat(Index, Index),
    Cut(Index),
    /// Replaces the rest with the rest of another seed.
    Splice(Index, Vec<u8>, Index),
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        let end = bytes.len() + 1;
        match self {
            Self::Flip(at, with) => {
                if let Some(byte) = bytes.get_mut(at.index(end)) {
                    *byte ^= with;
                }
            }
            Self::Insert(at, more) => {
                let at = at.index(end);
                bytes.splice(at..at, more.iter().copied());
            }
            Self::Remove(a, b) => {
                let (a, b) = (a.index(end), b.index(end));
                bytes.drain(a.min(b)..a.max(b));
            }
            Self::Repeat(a, b) => {
                let (a, b) = (a.index(end), b.index(end));
                // Without the limit, eight duplications in a row would make the input too large to be tested quickly.
                let b = b.clamp(a.saturating_sub(256), a + 256).min(bytes.len());
                let part = bytes[a.min(b)..a.max(b)].to_vec();
                bytes.splice(a..a, part);
            }
            Self::Cut(at) => bytes.truncate(at.index(end)),
            Self::Splice(at, other, from) => {
                bytes.truncate(at.index(end));
                bytes.extend_from_slice(&other[from.index(other.len() + 1)..]);
            }
        }
    }
}

/// Generates seeds with up to eight mutations.
pub fn of(seeds: &[Vec<u8>], tokens: &[Vec<u8>]) -> BoxedStrategy<Vec<u8>> {
    let place = any::<Index>;
    let change = prop_oneof![
        (place(), any::<u8>()).prop_map(|(at, with)| Change::Flip(at, with)),
        (place(), vec(any::<u8>(), 1..5)).prop_map(|(at, more)| Change::Insert(at, more)),
        (place(), select(tokens.to_vec())).prop_map(|(at, more)| Change::Insert(at, more)),
        (place(), any::<char>()).prop_map(|(at, c)| Change::Insert(at, c.to_string().into_bytes())),
        (place(), place()).prop_map(|(a, b)| Change::Remove(a, b)),
        (place(), place()).prop_map(|(a, b)| Change::Repeat(a, b)),
        place().prop_map(Change::Cut),
        (place(), one_of(seeds), place())
            .prop_map(|(at, other, from)| Change::Splice(at, other, from)),
    ];
    (
        one_of(seeds),
        prop_oneof![vec(change, 0..8), Just(Vec::new())],
    )
        .prop_map(|(mut bytes, changes)| {
            for change in changes {
                change.apply(&mut bytes);
            }
            bytes
        })
        .boxed()
}
