//! The destination of the records. A write appends all of its lines or none. If the file was renamed, a new file with
//! the configured name is opened.

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

pub(super) struct Sink {
    target: AuditSink,
    sync: bool,
    open: Option<OpenFile>,
    /// The ID of the file that was opened last, even if that file is closed now.
    last: Option<FileId>,
    /// Expected length of the regular file; `None` until the first regular file has been read.
    len: Option<u64>,
    /// Whether a failed write left bytes beyond `len` that could not be truncated.
    excess: bool,
    /// Whether the last line has no newline. If so, the next write begins with one.
    unfinished_line: bool,
    /// Number of detected changes of the file by other programs.
    pub(super) external_changes: u64,
    /// A file whose lock another process holds. It stays open, because it may be renamed before the lock is free.
    locked: Option<File>,
}

/// Result of [`Sink::open`].
pub(super) enum Opened {
    /// The file is the same as before, or the sink is not a regular file and was opened for the first time.
    Same,
    /// The first regular file of this process was opened, with the state that earlier processes left.
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
            external_changes: 0,
            locked: None,
        }
    }

    pub(super) fn name(&self) -> String {
        self.target.to_string()
    }

    /// Returns the duration of the last sync.
    pub(super) fn sync_duration(&self) -> Duration {
        let open = self.open.as_ref();
        open.map(|open| open.sync_duration).unwrap_or_default()
    }

    /// Opens the file, unless the open file still has the configured name. Returns an error if the file cannot be
    /// opened or read, or if another process holds its lock.
    pub(super) fn open(&mut self) -> io::Result<Opened> {
        let AuditSink::File(path) = self.target.clone() else {
            if self.open.is_none() {
                self.open = Some(OpenFile::stdout()?);
            }
            return Ok(Opened::Same);
        };
        // Tries to lock the same file again, even if it was renamed: the process that holds the lock then continues
        // the chain in a new file.
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
        // The old file stays open until the new one is open, so that the new file cannot get the same inode number.
        let mut open = OpenFile::open(&path, existing.as_ref(), self.sync)?;
        if open.regular {
            self.lock(&open.file)?;
        }
        // The metadata is read before `len` is set: if it failed afterwards, `len` would be set without the recovered
        // state, and the next call would not recover the file.
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
        // A file that was just recovered needs no check, because recovery has determined its size.
        if let Some(size) = size
            && !matches!(opened, Opened::First(_))
        {
            self.compare(size.len())?;
        }
        Ok(opened)
    }

    /// Locks the file, because a second writer would break the chain. Returns an error if another process holds the
    /// lock. Succeeds on file systems without locks.
    fn lock(&mut self, file: &File) -> io::Result<()> {
        if try_lock(file) {
            return Ok(());
        }
        self.locked = Some(file.try_clone()?);
        Err(io::Error::other("another process writes to this file"))
    }

    /// Called for a log without any line. Returns the state that an earlier process left in the renamed predecessor
    /// of the log, or `state` if there is none.
    fn recover_predecessor(
        &mut self,
        path: &Path,
        state: RecoveredState,
    ) -> io::Result<RecoveredState> {
        let Some(predecessor) = predecessor(path) else {
            return Ok(state);
        };
        // A predecessor that cannot be opened for writing is not continued; a new chain begins.
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

    /// Compares the size of the file with the expected one, and removes the remains of a failed write. Changes by
    /// other programs cannot be repaired: they are counted and logged, and the chain continues from the last record
    /// that this process wrote, so that `verify` finds the place.
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
            self.external_changes += 1;
            tracing::error!(
                file = self.target.to_string(),
                size,
                expected,
                "audit log changed by another process"
            );
        }
        Ok(())
    }

    /// Appends all lines or none: after a failure, the incomplete bytes are truncated or, if that is not possible,
    /// ended by a newline before the next line. `sync` has an effect only if the configuration enables syncs.
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
                // If truncating fails, the next call of `compare` tries again.
                self.excess = open.file.set_len(len).is_err();
                // The file stays open after most errors, because its lock excludes other processes. A stale handle of
                // a network file system cannot be used any more.
                if error.kind() == ErrorKind::StaleNetworkFileHandle {
                    self.open = None;
                }
            }
        }
        synced
    }

    /// Syncs earlier writes if the configuration enables syncs.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        match &mut self.open {
            Some(open) if self.sync => open.sync(),
            _ => Ok(()),
        }
    }

    /// Returns the time since the first write that is not synced, or zero if there is no such write.
    pub(super) fn unsynced(&self) -> Duration {
        let open = self.open.as_ref().filter(|open| self.sync && open.regular);
        let since = open.and_then(|open| open.unsynced_since);
        since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Removes the remains of a failed write from a file that was renamed, and syncs it, before a new file continues
    /// its chain. If that fails, `verify` finds the place.
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

    /// Returns an error if the disk is full or the file has reached the size limit of the process. Writes nothing.
    pub(super) fn check_space(&self) -> io::Result<()> {
        self.open.as_ref().map_or(Ok(()), OpenFile::check_space)
    }

    /// Checks after a failure whether the file accepts writes. Appends [`PROBE`] NUL bytes to a regular file and
    /// truncates them again; if the process dies in between, [`recover`] removes them. Other files receive a newline,
    /// which ends a line that may be unfinished.
    pub(super) fn probe(&mut self) -> io::Result<()> {
        // Programs that read the file would see the probe, so it is not written if the check already fails.
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
