//! Reads the lines of several files one after the other, and keeps the position for messages.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    slice,
};

use super::reader::{Line, LineReader};

/// A fault of a log, or a note that is not a fault.
#[derive(Debug)]
pub struct Finding<'a> {
    /// Path of the file, as in the arguments, or name of the database.
    pub log: &'a Path,
    /// Number of the line, from 1, or column `seq` of the record in the database.
    pub line: u64,
    /// Whether this is a note, not a fault.
    pub note: bool,
    /// Description, which does not quote the line.
    pub text: String,
}

/// A file or database that cannot be read.
#[derive(Debug)]
pub struct UnreadableLog<'a> {
    /// Path of the file, as in the arguments, or name of the database.
    pub log: &'a Path,
    /// Cause.
    pub error: io::Error,
}

/// The lines of all files, in the order of the files. Callers stop at the first error.
pub(super) struct FileLines<'a> {
    following: slice::Iter<'a, PathBuf>,
    lines: Option<LineReader<File>>,
    file: &'a Path,
    line: u64,
}

impl<'a> FileLines<'a> {
    pub(super) fn new(files: &'a [PathBuf]) -> Self {
        Self {
            following: files.iter(),
            lines: None,
            file: Path::new(""),
            line: 0,
        }
    }

    /// Returns whether no file follows the current one.
    pub(super) fn is_last_file(&self) -> bool {
        self.following.as_slice().is_empty()
    }

    /// Creates a finding about the line that was returned last.
    pub(super) fn finding(&self, note: bool, text: String) -> Finding<'a> {
        Finding {
            log: self.file,
            line: self.line,
            note,
            text,
        }
    }

    fn read(&mut self) -> io::Result<Option<Line>> {
        loop {
            if let Some(lines) = &mut self.lines
                && let Some(line) = lines.next()?
            {
                self.line += 1;
                return Ok(Some(line));
            }
            let Some(file) = self.following.next() else {
                return Ok(None);
            };
            (self.file, self.line) = (file, 0);
            self.lines = Some(LineReader::new(File::open(file)?));
        }
    }
}

impl<'a> Iterator for FileLines<'a> {
    type Item = Result<Line, UnreadableLog<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        let read = self.read().transpose()?;
        let log = self.file;
        Some(read.map_err(|error| UnreadableLog { log, error }))
    }
}
