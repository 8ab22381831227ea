//! `[audit]`.

use std::{fmt, path::PathBuf};

use super::{
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
        sink: AuditSink = text().format("path, or `stdout`").default("audit.jsonl".to_owned()).then(|reader, _, text| {
            Some(match text.as_str() {
                "stdout" => AuditSink::Stdout,
                path => AuditSink::File(reader.folder().join(path)),
            })
        });
        /// Writes the intent to disk before the upstream request is sent. Records that wait at the same time share
        /// one sync.
        sync: bool = flag().default(true);
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
            Self::Discard => f.write_str("nowhere"),
        }
    }
}
