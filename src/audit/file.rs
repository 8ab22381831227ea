//! An open file of the audit log: a regular file, a pipe, a device, or standard output.

use std::{
    fs::{self, File, Metadata, OpenOptions, TryLockError},
    io::{self, ErrorKind, Write as _},
    os::{
        fd::AsFd as _,
        unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _},
    },
    path::Path,
    time::{Duration, Instant},
};

use rustix::{
    fs::{FallocateFlags, fallocate},
    io::Errno,
    process::{Resource, getrlimit},
};

/// Minimum free space of the disk in bytes. With less, the disk counts as full.
const FREE_SPACE: u64 = 64 * 1024;
/// Number of bytes that a probe writes. Records of ordinary calls are shorter.
pub(super) const PROBE: usize = 4 * 1024;

/// Device and inode number, which identify a file even after it is renamed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct FileId(u64, u64);

impl From<&Metadata> for FileId {
    fn from(metadata: &Metadata) -> Self {
        Self(metadata.dev(), metadata.ino())
    }
}

pub(super) struct OpenFile {
    pub(super) file: File,
    pub(super) id: FileId,
    /// Whether the file can be truncated, locked and synced. Always false for standard output.
    pub(super) regular: bool,
    /// Whether the file is the standard output of the process.
    stdout: bool,
    /// Time of the first write since the last sync; `None` if all writes are synced.
    pub(super) unsynced_since: Option<Instant>,
    /// Duration of the last sync.
    pub(super) sync_duration: Duration,
}

impl OpenFile {
    /// Opens a file for appending, and creates it if it does not exist. `existing` is the metadata of the file at
    /// `path`, or `None` if there is none.
    pub(super) fn open(path: &Path, existing: Option<&Metadata>, sync: bool) -> io::Result<Self> {
        let regular = existing.is_none_or(Metadata::is_file);
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .read(regular)
            .mode(0o640)
            .open(path)?;
        if existing.is_none() && sync {
            // Makes the new name durable. Errors are ignored, because not every file system can sync a folder.
            let _ = File::open(folder(path)).and_then(|folder| folder.sync_all());
        }
        Self::new(file, regular)
    }

    pub(super) fn stdout() -> io::Result<Self> {
        let stdout = io::stdout().as_fd().try_clone_to_owned()?;
        let file = Self::new(stdout.into(), false)?;
        Ok(Self {
            stdout: true,
            ..file
        })
    }

    fn new(file: File, regular: bool) -> io::Result<Self> {
        let id = FileId::from(&file.metadata()?);
        Ok(Self {
            file,
            id,
            regular,
            stdout: false,
            unsynced_since: None,
            sync_duration: Duration::ZERO,
        })
    }

    pub(super) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        // Prevents other output of this process between the lines of a batch.
        let _lock = self.stdout.then(|| io::stdout().lock());
        self.file.write_all(bytes)?;
        self.unsynced_since.get_or_insert_with(Instant::now);
        Ok(())
    }

    /// Syncs earlier writes if the file can be synced and has unsynced writes.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        if self.regular && self.unsynced_since.is_some() {
            let start = Instant::now();
            self.file.sync_data()?;
            self.sync_duration = start.elapsed();
            self.unsynced_since = None;
        }
        Ok(())
    }

    /// Returns whether the last line of the file, which has this size, lacks its newline.
    pub(super) fn lacks_newline(&self, size: u64) -> io::Result<bool> {
        let mut last = *b"\n";
        if let Some(at) = size.checked_sub(1) {
            self.file.read_exact_at(&mut last, at)?;
        }
        Ok(last != *b"\n")
    }

    /// Returns an error if the disk is full or the file has reached the size limit of the process. Writes nothing.
    pub(super) fn check_space(&self) -> io::Result<()> {
        let metadata = self.file.metadata()?;
        if !metadata.is_file() {
            return Ok(());
        }
        let len = metadata.len();
        // `fallocate` does not check the size limit of the process if the length of the file stays the same.
        let limit = getrlimit(Resource::Fsize).current;
        if limit.is_some_and(|limit| limit < len + PROBE as u64) {
            return Err(ErrorKind::FileTooLarge.into());
        }
        match fallocate(&self.file, FallocateFlags::KEEP_SIZE, len, FREE_SPACE) {
            // Some file systems do not support `fallocate`.
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Returns the folder that contains the file.
pub(super) fn folder(path: &Path) -> &Path {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or(Path::new("."))
}

/// Returns the metadata of the file with this name, or `None` if there is no such file.
pub(super) fn metadata(path: &Path) -> io::Result<Option<Metadata>> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(Some(metadata)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Tries to lock a file. Returns false if another process holds the lock. Returns true if the file is locked now, or
/// if it cannot be locked, since not every file system has locks.
pub(super) fn try_lock(file: &File) -> bool {
    !matches!(file.try_lock(), Err(TryLockError::WouldBlock))
}
