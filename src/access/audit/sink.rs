//! Where the lines go: whole lines or none, as far as the sink allows it.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use crate::config::AuditSink;

/// The sink.
pub struct Sink {
    target: AuditSink,
    open: Option<Open>,
    /// A failed write may have left a part of a line that cannot be cut off.
    broken: bool,
}

struct Open {
    file: File,
    /// Neither a pipe nor a device: it can be cut, locked and synced.
    regular: bool,
}

impl Sink {
    /// Not yet opened.
    pub const fn new(target: AuditSink) -> Self {
        Self {
            target,
            open: None,
            broken: false,
        }
    }

    /// Its name, for the log.
    pub fn name(&self) -> String {
        self.target.to_string()
    }

    /// Opens it, unless it is open.
    pub fn open(&mut self) -> io::Result<()> {
        if let (AuditSink::File(path), None) = (&self.target, &self.open) {
            let opened = open(path)?;
            // `open` has ended a broken line of a regular file.
            self.broken &= !opened.regular;
            self.open = Some(opened);
        }
        Ok(())
    }

    /// All of it, or nothing: what a full disk leaves of a line is cut off again, or ended before the next one.
    pub fn write(&mut self, lines: &str, sync: bool) -> io::Result<()> {
        self.open()?;
        let ended = if self.broken { "\n" } else { "" };
        let bytes = format!("{ended}{lines}");
        let Some(open) = &mut self.open else {
            let written = write_stdout(bytes.as_bytes());
            self.broken = written.is_err();
            return written;
        };
        let before = open.file.metadata()?.len();
        let written = append(open, bytes.as_bytes(), sync);
        self.broken = written.is_err() && !open.regular;
        if written.is_err() {
            if open.regular {
                // If even this fails, `open` ends the line.
                let _ = open.file.set_len(before);
            }
            self.open = None;
        }
        written
    }
}

fn write_stdout(bytes: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes)?;
    stdout.flush()
}

fn append(open: &mut Open, bytes: &[u8], sync: bool) -> io::Result<()> {
    open.file.write_all(bytes)?;
    if sync && open.regular {
        open.file.sync_data()?;
    }
    Ok(())
}

/// Opens for appending, and ends a line that somebody left unfinished.
fn open(path: &Path) -> io::Result<Open> {
    let regular = fs::metadata(path).map_or(true, |found| found.is_file());
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .read(regular)
        .mode(0o640)
        .open(path)?;
    // Two writers would tear the chain. Where a file system has no locks, nobody can tell.
    if regular && matches!(file.try_lock(), Err(TryLockError::WouldBlock)) {
        return Err(io::Error::other("another process writes to this file"));
    }
    if regular && file.metadata()?.len() > 0 {
        let mut last = [0];
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
        if last != *b"\n" {
            file.write_all(b"\n")?;
        }
    }
    Ok(Open { file, regular })
}
