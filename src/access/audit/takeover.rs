//! What an earlier process has left in the file: where its chain ends, which intents it did not close, and a last
//! line that it could not finish.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read as _, Seek as _, Write as _},
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use serde_json::{Map, Value};

use super::{
    lines::{Line, Lines},
    record::{self, BEGINNING, Kind},
};

/// What was found.
#[derive(Default)]
pub struct Legacy {
    /// The last record's, or 0.
    pub seq: u64,
    /// Hash of the last line, whatever it is; `None` in an empty file.
    pub prev: Option<String>,
    /// Intents without an outcome.
    pub open: BTreeMap<String, Map<String, Value>>,
    /// Bytes of the file, after an unfinished line was dealt with.
    pub len: u64,
    /// Bytes of an unfinished record that were cut off.
    pub cut: u64,
    /// Lines that are no records.
    pub strange: u64,
    /// The file that it goes on from, if the log itself is new.
    pub before: Option<PathBuf>,
}

impl Legacy {
    fn note(&mut self, line: &Line) {
        match line.whole().map(record::read) {
            Some(Ok(found)) => {
                self.seq = found.seq;
                let id = found.request_id().to_owned();
                match found.kind {
                    Kind::Intent { .. } => {
                        self.open.insert(id, found.into_entry());
                    }
                    Kind::Outcome { .. } => {
                        self.open.remove(&id);
                    }
                }
            }
            _ => self.strange += 1,
        }
    }
}

/// The log that was renamed last, when a server finds none: the newest file whose name begins like the log's. It is the
/// one that goes on in a new file.
pub fn predecessor(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.as_bytes();
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let files = fs::read_dir(folder.unwrap_or(Path::new("."))).ok()?;
    let renamed = files.filter_map(|file| {
        let file = file.ok()?.path();
        let other = file.file_name()?.as_bytes();
        let found = fs::metadata(&file).ok()?;
        let fits = found.is_file() && is_renamed(other.strip_prefix(name)?);
        (fits && begins_as_a_log(&file)).then(|| Some((found.modified().ok()?, file)))?
    });
    renamed.max().map(|(_, file)| file)
}

/// As a rotation does it: `.1`, `-20261125`. Another log may have a longer name, too.
fn is_renamed(end: &[u8]) -> bool {
    matches!(end, [b'.' | b'-', digit, ..] if digit.is_ascii_digit())
}

/// A compressed one does not.
fn begins_as_a_log(path: &Path) -> bool {
    let mut begin = [0; BEGINNING.len()];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut begin));
    read.is_ok() && begin == *BEGINNING
}

/// Reads the whole file, however long it is, and leaves it with its last line ended. What was begun as a record was
/// never acknowledged, so nobody misses it, and space that was never written is no text; both are cut off. What
/// somebody else wrote is kept.
pub fn take_over(file: &mut File) -> io::Result<Legacy> {
    file.rewind()?;
    let mut legacy = Legacy::default();
    let mut lines = Lines::new(&*file);
    let mut unfinished = None;
    while let Some(line) = lines.next()? {
        if line.ended {
            legacy.len += line.len + 1;
            legacy.note(&line);
            legacy.prev = Some(line.hash);
        } else {
            unfinished = Some(line);
        }
    }
    if let Some(line) = unfinished {
        if is_ours(&line) {
            file.set_len(legacy.len)?;
            legacy.cut = line.len;
        } else {
            file.write_all(b"\n")?;
            legacy.len += line.len + 1;
            legacy.note(&line);
            legacy.prev = Some(line.hash);
        }
    }
    Ok(legacy)
}

/// The beginning of a record, or nothing; but a record that lacks only its newline is kept.
fn is_ours(line: &Line) -> bool {
    let common = line.text.len().min(BEGINNING.len());
    let begun = line.text[..common] == BEGINNING[..common];
    line.blank || begun && line.whole().is_none_or(|text| record::read(text).is_err())
}
