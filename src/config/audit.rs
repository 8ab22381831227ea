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
        /// The audit log, one JSON object a line. With `stdout` the records follow the line `listening on`, and refused HMC
        /// logons are counted in memory only: each restart permits two more. Beside a file, in a folder that is writable,
        /// `.NAME.logons` keeps them over a restart.
        #[key("file")]
        sink: AuditSink = text().format("path, or `stdout`").default("audit.jsonl".to_owned()).then(|reader, _, text| {
            Some(match text.as_str() {
                "stdout" => AuditSink::Stdout,
                path => AuditSink::File(reader.folder().join(path)),
            })
        });
        /// The intent is on the disk before anything is sent. Records that wait at the same time share one sync.
        sync: bool = flag().default(true);
    }
}

/// Where audit records go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuditSink {
    /// A file that is only ever appended to.
    File(PathBuf),
    /// Standard output.
    Stdout,
    /// Nowhere: the sandbox deletes nothing real. No configuration file leads here.
    Nowhere,
}

impl fmt::Display for AuditSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Stdout => f.write_str("stdout"),
            Self::Nowhere => f.write_str("nowhere"),
        }
    }
}
