//! Where the lines go: whole lines or none, as far as the sink allows it; and to the file that has the name, even
//! when it is another one than before.

use std::{
    fs::{self, File, Metadata, OpenOptions, TryLockError},
    io::{self, ErrorKind, Write as _},
    os::{
        fd::AsFd,
        unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _},
    },
    path::Path,
    time::{Duration, Instant},
};

use rustix::{
    fs::{FallocateFlags, fallocate, fstat},
    io::Errno,
    process::{Resource, getrlimit},
};

use super::{
    stdout::{self, Stdout},
    takeover::{Legacy, predecessor, take_over},
};
use crate::config::AuditSink;

/// A disk with less than this is full.
const ROOM: u64 = 64 * 1024;
/// Bytes of a probe: no record of an ordinary call is longer.
const PROBE: usize = 4 * 1024;
const SLOW_SYNC: Duration = Duration::from_millis(1);
const LONGEST_SYNC: Duration = Duration::from_millis(100);

/// The sink.
pub struct Sink {
    target: AuditSink,
    sync: bool,
    open: Option<Open>,
    /// The file that was opened last, even if it is closed again.
    last: Option<Id>,
    /// Bytes of the regular file as this process has left it; `None` before one was read.
    len: Option<u64>,
    /// A failed write has left something beyond `len`.
    rest: bool,
    /// The last line has no end.
    broken: bool,
    /// How often the file was found changed by somebody else.
    changes_by_others: u64,
    /// The file that another process has locked, whatever its name is by now.
    locked: Option<File>,
    /// Where it is the sink.
    stdout: Option<Stdout>,
}

struct Open {
    file: File,
    id: Id,
    /// Neither a pipe nor a device: it can be cut, locked and synced.
    regular: bool,
    /// Since when something that was written may not be on the disk.
    unsynced: Option<Instant>,
    /// How long the last sync took.
    sync_took: Duration,
}

/// Device and inode: what a file is, whatever its name.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Id(u64, u64);

impl Id {
    fn of(found: &Metadata) -> Self {
        Self(found.dev(), found.ino())
    }
}

/// How what is open now stands to what was open before.
pub enum Opened {
    /// It goes on where the last write ended.
    Same,
    /// The first regular file of this process, with what was in it.
    First(Legacy),
    /// The file was moved or deleted, and another one has its name.
    Other,
}

impl Sink {
    /// Not yet opened.
    pub fn new(target: AuditSink, sync: bool) -> Self {
        Self {
            stdout: (target == AuditSink::Stdout).then(Stdout::find),
            target,
            sync,
            open: None,
            last: None,
            len: None,
            rest: false,
            broken: false,
            changes_by_others: 0,
            locked: None,
        }
    }

    /// How often the file was found changed by somebody else.
    pub const fn changes_by_others(&self) -> u64 {
        self.changes_by_others
    }

    /// Would so many bytes be written without waiting for anybody? The disk of a file that is named may hang.
    pub fn is_quick(&self, bytes: impl FnOnce() -> usize) -> bool {
        self.stdout.is_some_and(|stdout| stdout.is_quick(bytes))
    }

    /// How long a sync takes, as far as it is worth a thought: a fast disk's is over before anybody has been woken, and
    /// a disk that hangs for a moment says nothing of the next time.
    pub fn sync_takes(&self) -> Duration {
        let took = self.open.as_ref().map(|open| open.sync_took);
        let slow = took.filter(|took| *took >= SLOW_SYNC);
        slow.unwrap_or_default().min(LONGEST_SYNC)
    }

    /// Its name, for the log.
    pub fn name(&self) -> String {
        self.target.to_string()
    }

    /// Opens it, unless what has its name is open.
    pub fn open(&mut self) -> io::Result<Opened> {
        let AuditSink::File(path) = self.target.clone() else {
            return Ok(Opened::Same);
        };
        // Whoever has the lock goes on in a new file when this one is renamed: to wait for the name would be to take it.
        if let Some(file) = self.locked.take() {
            self.lock(&file)?;
        }
        let named = named(&path)?;
        if let (Some(open), Some(named)) = (&self.open, &named)
            && open.id == Id::of(named)
        {
            if open.regular {
                self.compare(named.len())?;
            }
            return Ok(Opened::Same);
        }
        self.leave();
        // What is still open keeps its inode, so that the new file cannot be taken for it.
        let mut opened = open(&path, named.as_ref(), self.sync)?;
        if opened.regular {
            self.lock(&opened.file)?;
        }
        let (size, last) = (opened.file.metadata()?.len(), self.last);
        let news = match last {
            _ if opened.regular && self.len.is_none() => {
                let found = take_over(&mut opened.file)?;
                let legacy = if found.prev.is_none() {
                    self.before(&path, found)?
                } else {
                    found
                };
                (self.rest, self.broken) = (false, false);
                self.len = Some(legacy.len);
                Opened::First(legacy)
            }
            None => Opened::Same,
            Some(last) if last == opened.id => Opened::Same,
            Some(_) => {
                (self.rest, self.broken) = (false, false);
                self.len = self.len.map(|_| 0);
                Opened::Other
            }
        };
        self.last = Some(opened.id);
        let regular = opened.regular;
        self.open = Some(opened);
        if regular && !matches!(news, Opened::First(_)) {
            self.compare(size)?;
        }
        Ok(news)
    }

    /// Two writers would tear the chain. Where a file system has no locks, nobody can tell.
    fn lock(&mut self, file: &File) -> io::Result<()> {
        if matches!(file.try_lock(), Err(TryLockError::WouldBlock)) {
            self.locked = Some(file.try_clone()?);
            return Err(io::Error::other("another process writes to this file"));
        }
        Ok(())
    }

    /// What an earlier process has left in the file that was renamed after it, when there is not one line in the log.
    fn before(&mut self, path: &Path, found: Legacy) -> io::Result<Legacy> {
        let Some(before) = predecessor(path) else {
            return Ok(found);
        };
        // One that cannot be taken over is the end of its chain.
        let Ok(mut file) = OpenOptions::new().read(true).append(true).open(&before) else {
            return Ok(found);
        };
        self.lock(&file)?;
        let legacy = take_over(&mut file)?;
        Ok(Legacy {
            len: found.len,
            cut: found.cut + legacy.cut,
            before: Some(before),
            ..legacy
        })
    }

    /// Is the file as long as this process has left it? What was changed by others cannot be repaired: the chain
    /// goes on from what this process wrote, so that `verify` finds the place.
    fn compare(&mut self, size: u64) -> io::Result<()> {
        let (Some(Open { file, .. }), Some(expected)) = (&self.open, self.len) else {
            return Ok(());
        };
        if size > expected && self.rest {
            file.set_len(expected)?;
            self.rest = false;
        } else if size != expected {
            self.broken = size > 0 && {
                let mut last = [0];
                file.read_exact_at(&mut last, size - 1)?;
                last != *b"\n"
            };
            self.len = Some(size);
            self.changes_by_others += 1;
            tracing::error!(
                file = self.target.to_string(),
                size,
                expected,
                "the audit log was changed by somebody else; `audit verify` shows the place"
            );
        }
        Ok(())
    }

    /// All of it, or nothing: what a full disk leaves of a line is cut off again, or ended before the next one.
    pub fn write(&mut self, lines: &str, sync: bool) -> io::Result<()> {
        let ended = if self.broken { "\n" } else { "" };
        let bytes = format!("{ended}{lines}");
        let written = match (&mut self.open, &self.target) {
            (Some(open), _) => append(open, bytes.as_bytes(), sync),
            (None, AuditSink::Stdout) => stdout::write(bytes.as_bytes()),
            (None, _) => Err(io::Error::other("the file is not open")),
        };
        let regular = self.open.as_ref().is_some_and(|open| open.regular);
        match &written {
            Ok(()) => {
                self.len = self.len.map(|len| len + bytes.len() as u64);
                self.broken = false;
            }
            Err(_) if !regular => {
                self.broken = true;
                self.open = None;
            }
            Err(error) => {
                // If even this fails, it is done before the next write.
                let open = self.open.as_ref().zip(self.len);
                let cut = open.map(|(open, len)| open.file.set_len(len));
                self.rest = !matches!(cut, Some(Ok(())));
                // It stays open, for its lock keeps others from taking over; but not when it is of no use.
                if error.kind() == ErrorKind::StaleNetworkFileHandle {
                    self.open = None;
                }
            }
        }
        written
    }
}

impl Sink {
    /// Gets onto the disk what was written.
    pub fn sync(&mut self) -> io::Result<()> {
        match &mut self.open {
            Some(open) if self.sync && open.regular && open.unsynced.is_some() => {
                open.file.sync_data()?;
                open.unsynced = None;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Has something been written that should be on the disk by now?
    pub fn is_overdue(&self, after: Duration) -> bool {
        let since = self.open.as_ref().and_then(|open| open.unsynced);
        since.is_some_and(|since| since.elapsed() >= after)
    }

    /// Leaves a file that has lost its name as it should be: whole, and on the disk before the next one says so. If
    /// that fails, `verify` finds the place.
    fn leave(&mut self) {
        let rest = self.len.filter(|_| self.rest);
        if let (Some(open), Some(len)) = (&self.open, rest) {
            let _ = open.file.set_len(len);
        }
        if let Err(error) = self.sync() {
            let file = self.target.to_string();
            tracing::error!(file, %error, "the end of the old file may not be on the disk");
        }
    }

    /// Checks for free space without writing.
    pub fn check_room(&self) -> io::Result<()> {
        match (self.regular(), self.stdout) {
            (Some((file, len)), _) => reserve(file, len),
            (None, Some(Stdout::File)) => {
                let stdout = io::stdout();
                reserve(&stdout, fstat(&stdout)?.st_size.unsigned_abs())
            }
            _ => Ok(()),
        }
    }

    /// Verifies after a failure that the sink accepts writes. Appends [`PROBE`] NUL bytes to a regular file and truncates
    /// it again; if the process dies in between, the next one does that ([`take_over`]). Other sinks get the end of the
    /// line that may be incomplete.
    pub fn probe(&mut self) -> io::Result<()> {
        // Avoid a write that is certain to fail: readers would see the probe.
        self.check_room()?;
        let Some((mut file, len)) = self.regular() else {
            self.broken = true;
            return self.write("", false);
        };
        let written = file.write_all(&[0; PROBE]);
        let synced = written.and_then(|()| if self.sync { file.sync_data() } else { Ok(()) });
        let cut = file.set_len(len);
        self.rest = cut.is_err();
        synced.and(cut)
    }

    /// Returns the open regular file, and its length as this process has left it.
    fn regular(&self) -> Option<(&File, u64)> {
        let open = self.open.as_ref().filter(|open| open.regular);
        open.map(|open| &open.file).zip(self.len)
    }
}

/// Checks that [`ROOM`] bytes are free after offset `len`.
fn reserve(file: impl AsFd, len: u64) -> io::Result<()> {
    // `fallocate` does not regard the limit of the process where the length of the file stays the same.
    let limit = getrlimit(Resource::Fsize).current;
    if limit.is_some_and(|limit| limit < len + PROBE as u64) {
        return Err(ErrorKind::FileTooLarge.into());
    }
    match fallocate(file, FallocateFlags::KEEP_SIZE, len, ROOM) {
        // Not every file system can tell.
        Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn append(open: &mut Open, bytes: &[u8], sync: bool) -> io::Result<()> {
    open.file.write_all(bytes)?;
    open.unsynced.get_or_insert_with(Instant::now);
    if sync && open.regular {
        let begun = Instant::now();
        open.file.sync_data()?;
        open.sync_took = begun.elapsed();
        open.unsynced = None;
    }
    Ok(())
}

/// What has the name, if anything has it.
fn named(path: &Path) -> io::Result<Option<Metadata>> {
    match fs::metadata(path) {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Opens for appending.
fn open(path: &Path, named: Option<&Metadata>, sync: bool) -> io::Result<Open> {
    let regular = named.is_none_or(Metadata::is_file);
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .read(regular)
        .mode(0o640)
        .open(path)?;
    if named.is_none() && sync {
        // A new name is as safe as its folder. Not every file system can sync one.
        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        let _ = File::open(folder.unwrap_or(Path::new("."))).and_then(|folder| folder.sync_all());
    }
    let id = Id::of(&file.metadata()?);
    Ok(Open {
        file,
        id,
        regular,
        unsynced: None,
        sync_took: Duration::ZERO,
    })
}
