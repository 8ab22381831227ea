//! Detects changes of a file without reading it. Follows symbolic links: a mounted secret changes when the link to its
//! folder is swapped.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path};

/// Identifies one version of a file, or the absence of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileFingerprint(Option<Metadata>);

/// The metadata of a file. Every write and every swap changes at least one of these values.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Metadata {
    device: u64,
    inode: u64,
    size: u64,
    /// Time of the last status change, in seconds and nanoseconds. No program can set it.
    changed: (i64, i64),
}

impl FileFingerprint {
    pub fn of(path: &Path) -> Self {
        let metadata = fs::metadata(path).ok();
        Self(metadata.map(|metadata| Metadata {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }))
    }
}
