//! Recovers the state that an earlier process left in its file: the end of the chain, the open intents, and an
//! unfinished last line.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read as _, Seek as _, Write as _},
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use serde_json::{Map, Value};

use super::{
    chain::Head,
    file::folder,
    reader::{Kind, Line, LineReader},
    record::PREFIX,
};

#[derive(Default)]
pub(super) struct RecoveredState {
    /// Sequence number of the last record, and hash of the last line, even if that line is not a record; `None` if
    /// the file is empty.
    pub(super) head: Option<Head>,
    /// Intents without an outcome, by request ID.
    pub(super) open: BTreeMap<String, Map<String, Value>>,
    /// Length of the file in bytes after an unfinished record was removed.
    pub(super) len: u64,
    /// Length of the unfinished record that was removed, in bytes, or 0.
    pub(super) cut: u64,
    /// Number of lines that are not records.
    pub(super) foreign_lines: u64,
    /// The renamed file whose chain this log continues, if the log itself is new.
    pub(super) predecessor: Option<PathBuf>,
}

impl RecoveredState {
    pub(super) fn log(&self, file: &str) {
        if self.cut > 0 {
            let bytes = self.cut;
            tracing::warn!(file, bytes, "unfinished audit record removed");
        }
        if self.foreign_lines > 0 {
            let lines = self.foreign_lines;
            tracing::warn!(file, lines, "foreign lines found in audit log");
        }
        if let Some(predecessor) = &self.predecessor {
            let predecessor = predecessor.display();
            tracing::info!(file, %predecessor, "audit log continued from renamed file");
        }
        if !self.open.is_empty() {
            let open = self.open.len();
            tracing::warn!(file, open, "interrupted calls recorded as unknown");
        }
    }

    fn add(&mut self, line: Line) {
        let mut head = self.head.take().unwrap_or_default();
        match line.record() {
            Ok(record) => {
                head.seq = record.seq;
                let id = record.request_id().to_owned();
                match record.kind {
                    Kind::Intent { .. } => {
                        self.open.insert(id, record.into_entry());
                    }
                    Kind::Outcome { .. } => {
                        self.open.remove(&id);
                    }
                    Kind::Reconciled { .. } => {}
                }
            }
            Err(_) => self.foreign_lines += 1,
        }
        self.len += line.len + 1;
        head.hash = line.hash;
        self.head = Some(head);
    }
}

/// Reads the whole file and returns its state. An unfinished record at the end is removed, because it was never
/// acknowledged, and so is allocated space that was never written. An unfinished line of another program is kept and
/// gets a newline.
pub(super) fn recover(file: &mut File) -> io::Result<RecoveredState> {
    file.rewind()?;
    let mut state = RecoveredState::default();
    let mut lines = LineReader::new(&*file);
    while let Some(line) = lines.next()? {
        if line.ended {
            state.add(line);
        } else if is_unfinished_record(&line) {
            file.set_len(state.len)?;
            state.cut = line.len;
            break;
        } else {
            (&*file).write_all(b"\n")?;
            state.add(line);
            break;
        }
    }
    Ok(state)
}

/// Returns whether a last line without a newline must be removed: it has only NUL bytes, or is the beginning of a
/// record. A record that lacks only its newline is complete.
pub(super) fn is_unfinished_record(line: &Line) -> bool {
    line.blank || line.starts_as_record() && line.record().is_err()
}

/// Returns the newest renamed file of this log, or `None` if there is none. A new log continues the chain of that
/// file.
pub(super) fn predecessor(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.as_bytes();
    let files = fs::read_dir(folder(path)).ok()?;
    let renamed = files.filter_map(|file| {
        let file = file.ok()?.path();
        let suffix = file.file_name()?.as_bytes().strip_prefix(name)?;
        let metadata = fs::metadata(&file).ok()?;
        let fits = metadata.is_file() && is_rotation_suffix(suffix) && starts_as_log(&file);
        fits.then(|| Some((metadata.modified().ok()?, file)))?
    });
    renamed.max().map(|(_, file)| file)
}

/// Returns whether the end of a file name marks a rotated file, such as `.1` or `-20261125`.
fn is_rotation_suffix(suffix: &[u8]) -> bool {
    matches!(suffix, [b'.' | b'-', digit, ..] if digit.is_ascii_digit())
}

/// Returns whether the file starts with a record. Compressed files do not.
fn starts_as_log(path: &Path) -> bool {
    let mut start = [0; PREFIX.len()];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut start));
    read.is_ok() && start == *PREFIX
}
