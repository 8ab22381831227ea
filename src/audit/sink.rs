//! The file that the records are appended to. A write adds all of its lines or none, and a file that was renamed is
//! replaced by a new one.

use std::{
    borrow::Cow,
    fs::{File, OpenOptions},
    io::{self, ErrorKind, Write as _},
    path::Path,
    time::Duration,
};

use super::{
    file::{FileId, OpenFile, PROBE, metadata, try_lock},
    recovery::{RecoveredState, predecessor, recover},
};
use crate::config::AuditSink;

/// Faster syncs are over before a waiting call could be woken.
const SLOW_SYNC: Duration = Duration::from_millis(1);
const MAX_SYNC_DURATION: Duration = Duration::from_millis(100);

pub(super) struct Sink {
    target: AuditSink,
    sync: bool,
    open: Option<OpenFile>,
    /// The file that was opened last, even if it is closed.
    last: Option<FileId>,
    /// Expected length of the regular file; `None` before the first one was read.
    len: Option<u64>,
    /// Whether a failed write left bytes beyond `len`.
    excess: bool,
    /// Whether the last line lacks its newline.
    unfinished_line: bool,
    /// How often another program changed the file.
    pub(super) changes_by_others: u64,
    /// The file that another process has locked, whatever its name is now.
    locked: Option<File>,
}

/// Result of [`Sink::open`].
pub(super) enum Opened {
    /// The file is the same as before.
    Same,
    /// The first regular file of this process, with the state of earlier processes.
    First(RecoveredState),
    /// The file was renamed or deleted, and a new one is open.
    New,
}

impl Sink {
    pub(super) fn new(target: AuditSink, sync: bool) -> Self {
        Self {
            target,
            sync,
            open: None,
            last: None,
            len: None,
            excess: false,
            unfinished_line: false,
            changes_by_others: 0,
            locked: None,
        }
    }

    pub(super) fn name(&self) -> String {
        self.target.to_string()
    }

    /// Returns the duration of the last sync, or zero for a fast disk. Limited, because a disk that hangs once does not
    /// predict the next sync.
    pub(super) fn sync_duration(&self) -> Duration {
        let duration = self.open.as_ref().map(|open| open.sync_duration);
        let slow = duration.filter(|duration| *duration >= SLOW_SYNC);
        slow.unwrap_or_default().min(MAX_SYNC_DURATION)
    }

    /// Opens the file, unless the file of that name is open.
    pub(super) fn open(&mut self) -> io::Result<Opened> {
        let AuditSink::File(path) = self.target.clone() else {
            if self.open.is_none() {
                self.open = Some(OpenFile::stdout()?);
            }
            return Ok(Opened::Same);
        };
        // Wait for the lock, not for the name: the process that has the lock continues in a new file after a rename.
        if let Some(file) = self.locked.take() {
            self.lock(&file)?;
        }
        let existing = metadata(&path)?;
        if let (Some(open), Some(existing)) = (&self.open, &existing)
            && open.id == FileId::from(existing)
        {
            if open.regular {
                self.compare(existing.len())?;
            }
            return Ok(Opened::Same);
        }
        self.finish_renamed();
        // The old file is still open, so that the new one cannot have its inode.
        let mut open = OpenFile::open(&path, existing.as_ref(), self.sync)?;
        if open.regular {
            self.lock(&open.file)?;
        }
        // Whatever fails from here on must not leave a length without the state that belongs to it.
        let size = open.regular.then(|| open.file.metadata()).transpose()?;
        let opened = if open.regular && self.len.is_none() {
            let mut state = recover(&mut open.file)?;
            if state.head.is_none() {
                state = self.recover_predecessor(&path, state)?;
            }
            self.len = Some(state.len);
            Opened::First(state)
        } else if self.last.is_some_and(|last| last != open.id) {
            self.len = self.len.map(|_| 0);
            Opened::New
        } else {
            Opened::Same
        };
        if !matches!(opened, Opened::Same) {
            (self.excess, self.unfinished_line) = (false, false);
        }
        self.last = Some(open.id);
        self.open = Some(open);
        // The size of a file that was just recovered is known.
        if let Some(size) = size
            && !matches!(opened, Opened::First(_))
        {
            self.compare(size.len())?;
        }
        Ok(opened)
    }

    /// Locks the file, because a second writer would break the chain. Not every file system has locks.
    fn lock(&mut self, file: &File) -> io::Result<()> {
        if try_lock(file) {
            return Ok(());
        }
        self.locked = Some(file.try_clone()?);
        Err(io::Error::other("another process writes to this file"))
    }

    /// Returns the state of an earlier process from the file that was renamed, for a log without any line.
    fn recover_predecessor(
        &mut self,
        path: &Path,
        state: RecoveredState,
    ) -> io::Result<RecoveredState> {
        let Some(predecessor) = predecessor(path) else {
            return Ok(state);
        };
        // A file that cannot be written is the end of its chain.
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .open(&predecessor);
        let Ok(mut file) = file else {
            return Ok(state);
        };
        self.lock(&file)?;
        let old = recover(&mut file)?;
        Ok(RecoveredState {
            len: state.len,
            cut: state.cut + old.cut,
            predecessor: Some(predecessor),
            ..old
        })
    }

    /// Compares the size of the file with the expected one. Changes by others cannot be repaired: the chain continues
    /// from what this process wrote, so that `verify` finds the place.
    fn compare(&mut self, size: u64) -> io::Result<()> {
        let (Some(open), Some(expected)) = (&self.open, self.len) else {
            return Ok(());
        };
        if size > expected && self.excess {
            open.file.set_len(expected)?;
            self.excess = false;
        } else if size != expected {
            self.unfinished_line = open.lacks_newline(size)?;
            self.len = Some(size);
            self.changes_by_others += 1;
            tracing::error!(
                file = self.target.to_string(),
                size,
                expected,
                "audit log changed by another process"
            );
        }
        Ok(())
    }

    /// Appends all lines or none: the bytes of a failed write are truncated, or ended by a newline before the next line.
    /// `sync` has an effect only if the configuration asks for it.
    pub(super) fn write(&mut self, lines: &str, sync: bool) -> io::Result<()> {
        let Some(open) = &mut self.open else {
            return Err(io::Error::other("the file is not open"));
        };
        let text = if self.unfinished_line {
            Cow::Owned(format!("\n{lines}"))
        } else {
            Cow::Borrowed(lines)
        };
        let mut synced = open.append(text.as_bytes());
        if sync && self.sync {
            synced = synced.and_then(|()| open.sync());
        }
        match (&synced, self.len.filter(|_| open.regular)) {
            (Ok(()), _) => {
                self.len = self.len.map(|len| len + text.len() as u64);
                self.unfinished_line = false;
            }
            (Err(_), None) => {
                self.unfinished_line = true;
                self.open = None;
            }
            (Err(error), Some(len)) => {
                // If this fails, the next `compare` repeats it.
                self.excess = open.file.set_len(len).is_err();
                // The file stays open, because its lock excludes other processes, unless it cannot be used any more.
                if error.kind() == ErrorKind::StaleNetworkFileHandle {
                    self.open = None;
                }
            }
        }
        synced
    }

    /// Syncs earlier writes, if the configuration asks for it.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        match &mut self.open {
            Some(open) if self.sync => open.sync(),
            _ => Ok(()),
        }
    }

    /// Returns how long lines have been waiting for a sync, or zero if none does.
    pub(super) fn unsynced(&self) -> Duration {
        let open = self.open.as_ref().filter(|open| self.sync && open.regular);
        let since = open.and_then(|open| open.unsynced_since);
        since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Truncates and syncs a file that lost its name, before the next one continues its chain. If that fails, `verify`
    /// finds the place.
    fn finish_renamed(&mut self) {
        let len = self.len.filter(|_| self.excess);
        if let (Some(open), Some(len)) = (&self.open, len) {
            let _ = open.file.set_len(len);
        }
        if let Err(error) = self.sync() {
            let file = self.target.to_string();
            tracing::error!(file, %error, "rotated audit log not synced");
        }
    }

    /// Checks for free space without writing.
    pub(super) fn check_space(&self) -> io::Result<()> {
        self.open.as_ref().map_or(Ok(()), OpenFile::check_space)
    }

    /// Verifies after a failure that the file accepts writes. Appends [`PROBE`] NUL bytes to a regular file and truncates
    /// it again; if the process dies in between, [`recover`] does that. Other files get a newline, which ends a line
    /// that may be unfinished.
    pub(super) fn probe(&mut self) -> io::Result<()> {
        // Avoid a write that is certain to fail: readers would see the probe.
        self.check_space()?;
        let open = self.open.as_mut().filter(|open| open.regular);
        let Some((open, len)) = open.zip(self.len) else {
            self.unfinished_line = true;
            return self.write("", false);
        };
        let written = open.file.write_all(&[0; PROBE]);
        let synced = written.and_then(|()| {
            if self.sync {
                open.file.sync_data()
            } else {
                Ok(())
            }
        });
        let cut = open.file.set_len(len);
        self.excess = cut.is_err();
        synced.and(cut)
    }
}
