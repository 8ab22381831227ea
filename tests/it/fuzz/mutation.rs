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
            Self::Flip(index, mask) => {
                if let Some(byte) = bytes.get_mut(index.index(end)) {
                    *byte ^= mask;
                }
            }
            Self::Insert(index, more) => {
                let index = index.index(end);
                bytes.splice(index..index, more.iter().copied());
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
            Self::Cut(index) => bytes.truncate(index.index(end)),
            Self::Splice(index, other, from) => {
                bytes.truncate(index.index(end));
                bytes.extend_from_slice(&other[from.index(other.len() + 1)..]);
            }
        }
    }
}

/// Generates seeds with up to eight mutations.
pub fn mutations(seeds: &[Vec<u8>], tokens: &[Vec<u8>]) -> BoxedStrategy<Vec<u8>> {
    let index = any::<Index>;
    let change = prop_oneof![
        (index(), any::<u8>()).prop_map(|(index, mask)| Change::Flip(index, mask)),
        (index(), vec(any::<u8>(), 1..5)).prop_map(|(index, more)| Change::Insert(index, more)),
        (index(), select(tokens.to_vec())).prop_map(|(index, more)| Change::Insert(index, more)),
        (index(), any::<char>())
            .prop_map(|(index, c)| Change::Insert(index, c.to_string().into_bytes())),
        (index(), index()).prop_map(|(a, b)| Change::Remove(a, b)),
        (index(), index()).prop_map(|(a, b)| Change::Repeat(a, b)),
        index().prop_map(Change::Cut),
        (index(), one_of(seeds), index())
            .prop_map(|(index, other, from)| Change::Splice(index, other, from)),
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
