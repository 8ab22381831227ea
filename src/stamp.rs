//! Has a file changed? Told without reading it, and through symbolic links: a mounted secret is changed by
//! swapping the link to its folder.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path};

/// What tells one content of a file from the next, or from no file at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stamp(Option<Found>);

/// Every write and every swap changes at least one of these.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Found {
    device: u64,
    inode: u64,
    size: u64,
    /// Seconds and nanoseconds; unlike the time of modification, nobody can set it.
    changed: (i64, i64),
}

impl Stamp {
    /// Of the file as it is now.
    #[must_use]
    pub fn of(path: &Path) -> Self {
        let found = fs::metadata(path).ok();
        Self(found.map(|found| Found {
            device: found.dev(),
            inode: found.ino(),
            size: found.size(),
            changed: (found.ctime(), found.ctime_nsec()),
        }))
    }
}
