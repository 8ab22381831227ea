//! The origin of a configuration: its file, the files that it names, and the keys whose changes take effect only at a
//! restart.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use toml::{Table, Value};

use super::secret::SecretSource;
use crate::file_fingerprint::FileFingerprint;

/// Origin of a configuration. The readers of keys add every file that they read.
#[derive(Clone, Default)]
pub struct Source {
    /// Path of the configuration file; `None` if the configuration was created in this process.
    pub path: Option<PathBuf>,
    /// Fingerprint of each file, taken before the file was read.
    pub fingerprints: BTreeMap<PathBuf, FileFingerprint>,
    /// Files of certificate authorities. Their content is part of the configuration.
    pub ca_files: Vec<PathBuf>,
    pub secrets: Vec<SecretSource>,
    /// The keys of the file whose changes take effect only at a restart, with their values.
    pub restart_keys: Table,
    /// Warnings, each with its position, line and caret.
    pub warnings: Vec<String>,
}

impl Source {
    /// Returns the files whose change requires the configuration to be read again.
    pub fn files(&self) -> Vec<PathBuf> {
        self.path.iter().chain(&self.ca_files).cloned().collect()
    }

    /// Logs the first line of each warning, which does not quote the file.
    pub fn log_warnings(&self) {
        for warning in self.warnings.iter().filter_map(|text| text.lines().next()) {
            tracing::warn!(warning, "configuration warning");
        }
    }
}

/// Returns the content of a valid file without the keys that need no restart. `targets` are tables of targets.
pub(super) fn restart_keys(text: &str, targets: &[&str]) -> Table {
    let mut file: Table = text.parse().unwrap_or_default();
    for key in ["callers", "jwt_issuers"] {
        file.remove(key);
    }
    for table in targets {
        let targets = file.get_mut(*table).and_then(Value::as_table_mut);
        for (_, target) in targets.into_iter().flatten() {
            if let Some(target) = target.as_table_mut() {
                target.remove("protected_users");
            }
        }
    }
    file
}

/// Returns the names of the keys whose values differ, such as `table.key`.
pub fn differences(before: &Table, after: &Table) -> Vec<String> {
    let keys: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let mut names = Vec::new();
    for key in keys {
        match (before.get(key), after.get(key)) {
            (Some(before), Some(after)) if before == after => {}
            (Some(Value::Table(before)), Some(Value::Table(after))) => {
                let inner = differences(before, after).into_iter();
                names.extend(inner.map(|name| format!("{key}.{name}")));
            }
            _ => names.push(key.clone()),
        }
    }
    names
}
