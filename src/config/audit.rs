//! `[audit]`.

use std::{
    fmt,
    ops::Range,
    path::{Path, PathBuf},
};

use rustix::fs::{Access, access};

use super::{
    reader::Reader,
    table::table,
    values::{flag, text},
};

table! {
    /// `[audit]`
    #[table("audit")]
    pub struct Audit {
        /// The audit log, one JSON object per line. With `stdout` the records follow the line `listening on`, and
        /// refused HMC logons are counted in memory only: each restart permits two more. With a file, `.NAME.logons`
        /// in the same folder, which must be writable, keeps the count across restarts.
        #[key("file")]
        sink: AuditSink = text().format("path, or `stdout`").default("audit.jsonl".to_owned()).then(|reader, key, text| {
            Some(match text.as_str() {
                "stdout" => AuditSink::Stdout,
                path => {
                    let path = reader.folder().join(path);
                    check_folder(reader, reader.value_span(key), &path);
                    AuditSink::File(path)
                }
            })
        });
        /// Writes the intent to disk before the upstream request is sent. Records that wait at the same time share
        /// one sync.
        sync: bool = flag().default(true);
    }
}

/// Reports a warning if the audit log cannot be created in its folder. It is no error, because the server starts
/// without the audit log, and refuses deletions until it can be written.
fn check_folder(reader: &Reader<'_>, span: Range<usize>, file: &Path) {
    // Devices and pipes are not created.
    if file.exists() && !file.is_file() {
        return;
    }
    let folder = file.parent().filter(|folder| *folder != Path::new(""));
    let folder = folder.unwrap_or(Path::new("."));
    if !folder.is_dir() {
        reader.warn_at(span, "the folder of the audit log does not exist");
    } else if access(folder, Access::WRITE_OK | Access::EXEC_OK).is_err() {
        reader.warn_at(span, "the folder of the audit log cannot be written");
    }
}

/// Destination of the audit records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuditSink {
    /// A file, to which records are appended.
    File(PathBuf),
    /// Standard output.
    Stdout,
    /// No destination, for the sandbox, which deletes no real users.
    Discard,
}

impl fmt::Display for AuditSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Stdout => f.write_str("stdout"),
            Self::Discard => f.write_str("discard"),
        }
    }
}
