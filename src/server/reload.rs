//! Reloads files that change while the server runs: certificates, the configuration, secrets. A changed file is read
//! once two consecutive checks find the same version. If its content is invalid, the last valid content stays in use.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{
    task::spawn_blocking,
    time::{MissedTickBehavior, interval},
};
use toml::Table;

use super::tls::Tls;
use crate::{
    config::{self, Config},
    file_fingerprint::FileFingerprint,
    metrics::{Content, Metrics},
    service::Shared,
};

const CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// A function that reads and applies the files. Returns the files to check from then on, or an error.
type Read = Box<dyn FnMut() -> Result<Vec<PathBuf>, String> + Send>;

/// Files that are read together.
pub struct WatchedFiles {
    what: &'static str,
    files: Vec<WatchedFile>,
    read: Read,
    /// The error of the last read, or `None` if it succeeded.
    error: Option<String>,
    metrics: Content,
}

struct WatchedFile {
    path: PathBuf,
    /// Fingerprint of the content that was read last.
    applied: FileFingerprint,
    last_seen: FileFingerprint,
}

impl WatchedFile {
    fn new(path: PathBuf, applied: FileFingerprint) -> Self {
        let last_seen = applied.clone();
        Self {
            path,
            applied,
            last_seen,
        }
    }
}

impl WatchedFiles {
    /// Checks the files. Reads them if they have changed since the last read but not since the last check.
    fn check(&mut self) {
        let mut settled = true;
        for file in &mut self.files {
            let now = FileFingerprint::of(&file.path);
            settled &= now == file.last_seen;
            file.last_seen = now;
        }
        let changed = self.changed();
        // After an error, the files are read again even without a change: a file may be invalid because of another
        // one, such as a certificate whose key does not exist yet.
        if !settled || (changed.is_empty() && self.error.is_none()) {
            return;
        }
        for file in &mut self.files {
            file.applied.clone_from(&file.last_seen);
        }
        match (self.read)() {
            Ok(files) => {
                self.set_files(files);
                self.error = None;
                self.metrics.reloaded();
                tracing::info!(what = self.what, file = changed, "files reloaded");
            }
            Err(error) => self.fail(error, &changed),
        }
    }

    /// Returns the names of the files that have changed.
    fn changed(&self) -> String {
        let files = self.files.iter();
        let changed = files.filter(|file| file.last_seen != file.applied);
        let names = changed.map(|file| file.path.display().to_string());
        names.collect::<Vec<_>>().join(", ")
    }

    /// Replaces the list of files. A new one counts as changed, because it may have changed since it was read.
    fn set_files(&mut self, files: Vec<PathBuf>) {
        let known = |path: &PathBuf| self.files.iter().find(|file| file.path == *path);
        let files = files.into_iter().map(|path| {
            let applied = known(&path).map(|file| file.applied.clone());
            WatchedFile::new(path, applied.unwrap_or_default())
        });
        self.files = files.collect();
    }

    fn fail(&mut self, error: String, changed: &str) {
        if changed.is_empty() && self.error.as_ref() == Some(&error) {
            return;
        }
        self.metrics.failed();
        tracing::error!(
            what = self.what,
            file = changed,
            error,
            "file reload failed; previous content stays in use"
        );
        self.error = Some(error);
    }
}

/// Returns the files that a server with this configuration reloads.
pub fn watched(config: &Config, shared: &Arc<Shared>, tls: Option<&Arc<Tls>>) -> Vec<WatchedFiles> {
    let mut watched = Vec::new();
    let mut watch = |what, files: Vec<PathBuf>, read: Read| {
        let files = files.into_iter().map(|path| {
            let applied = config.source.fingerprints.get(&path).cloned();
            let applied = applied.unwrap_or_else(|| FileFingerprint::of(&path));
            WatchedFile::new(path, applied)
        });
        let mut metrics = shared.metrics.reloads.content(what);
        metrics.confirmed();
        watched.push(WatchedFiles {
            what,
            files: files.collect(),
            read,
            error: None,
            metrics,
        });
    };
    if let Some(tls) = tls.map(Arc::clone) {
        let files = tls.files.paths();
        let read = move || tls.reload().map(|()| tls.files.paths());
        watch("tls", files, Box::new(read));
    }
    if let Some(file) = config.source.path.clone() {
        let shared = Arc::clone(shared);
        let mut restart_keys = RestartKeys {
            running: config.source.restart_keys.clone(),
            reported: Vec::new(),
        };
        let read = move || reload_configuration(&file, &shared, &mut restart_keys);
        watch("configuration", config.source.files(), Box::new(read));
    }
    for secret in config.source.secrets.clone() {
        let files: Vec<_> = secret.path().into_iter().map(Path::to_owned).collect();
        let same = files.clone();
        let read = move || match secret.check() {
            Ok(()) => Ok(same.clone()),
            Err(error) => Err(error.to_string()),
        };
        watch("secret", files, Box::new(read));
    }
    watched
}

/// Tracks the keys of a changed configuration that take effect only at a restart.
struct RestartKeys {
    running: Table,
    reported: Vec<String>,
}

impl RestartKeys {
    /// Logs the keys that differ from the running configuration, if they are not those of the last report.
    fn report(&mut self, config: &Config, metrics: &Metrics) {
        let keys = config::differences(&self.running, &config.source.restart_keys);
        metrics.reloads.restart_needed(!keys.is_empty());
        if keys == self.reported {
            return;
        }
        if keys.is_empty() {
            tracing::info!("restart no longer needed");
        } else {
            let keys = keys.join(", ");
            tracing::warn!(keys, "restart needed for changed keys");
        }
        self.reported = keys;
    }
}

/// Reads a changed configuration and applies its callers, issuers, protected users and authorities. Other changes are
/// reported as keys that need a restart. Returns the files to check from then on. If the configuration is invalid,
/// returns an error and applies nothing.
fn reload_configuration(
    file: &Path,
    shared: &Shared,
    restart_keys: &mut RestartKeys,
) -> Result<Vec<PathBuf>, String> {
    let config = config::load_again(file).map_err(|errors| errors.brief())?;
    config.source.log_warnings();
    shared.apply_config(&config)?;
    restart_keys.report(&config, &shared.metrics);
    Ok(config.source.files())
}

/// Checks the files at intervals, until the future is dropped.
pub async fn watch(mut watched: Vec<WatchedFiles>, metrics: Arc<Metrics>) {
    let mut checks = interval(CHECK_INTERVAL);
    checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        checks.tick().await;
        let checked = spawn_blocking(move || {
            for files in &mut watched {
                // A panic in one read must not stop the others.
                if catch_unwind(AssertUnwindSafe(|| files.check())).is_err() {
                    files.fail("reading it failed".to_owned(), &files.changed());
                }
            }
            watched
        });
        match checked.await {
            Ok(checked) => watched = checked,
            Err(error) => {
                tracing::error!(%error, "file watcher stopped");
                return;
            }
        }
        metrics.reloads.checked();
    }
}
