//! Files that change while the server runs: certificates, the configuration, secrets. What is there is read
//! when it has changed and has not changed again since the last check; what cannot be used is reported, and the last
//! good content stays in use.

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
    config::{self, Config, files},
    file_fingerprint::FileFingerprint,
    metrics::{Content, Metrics},
    service::Shared,
};

/// Files are checked at this often.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// Reads the files, and tells which ones to check at from now on, if that are others.
type Read = Box<dyn FnMut() -> Result<Option<Vec<PathBuf>>, String> + Send>;

/// Files that are applied up together.
pub struct WatchedFiles {
    what: &'static str,
    files: Vec<WatchedFile>,
    read: Read,
    /// What was wrong with them.
    fault: Option<String>,
    metrics: Content,
}

/// One file, ...
struct WatchedFile {
    path: PathBuf,
    /// ... as it was when it was read last, ...
    applied: FileFingerprint,
    /// ... and at the last check.
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

    fn has_changed(&self) -> bool {
        self.last_seen != self.applied
    }
}

impl WatchedFiles {
    fn new(
        what: &'static str,
        files: Vec<WatchedFile>,
        read: Read,
        metrics: &Arc<Metrics>,
    ) -> Self {
        let mut metrics = metrics.reloads.content(what);
        metrics.confirmed();
        Self {
            what,
            files,
            read,
            fault: None,
            metrics,
        }
    }

    /// Looks at the files, and takes them up if they have changed and settled.
    fn check(&mut self) {
        let mut settled = true;
        for file in &mut self.files {
            let now = FileFingerprint::of(&file.path);
            settled &= now == file.last_seen;
            file.last_seen = now;
        }
        let changed = self.changed();
        // A file that is bad because of another one, such as a certificate without its key, is tried again.
        if !settled || (changed.is_empty() && self.fault.is_none()) {
            return;
        }
        for file in &mut self.files {
            file.applied.clone_from(&file.last_seen);
        }
        match (self.read)() {
            Ok(files) => self.apply(files, &changed),
            Err(fault) => self.fail(fault, &changed),
        }
    }

    /// The names of the files that have changed.
    fn changed(&self) -> String {
        let changed = self.files.iter().filter(|file| file.has_changed());
        let names: Vec<_> = changed
            .map(|file| file.path.display().to_string())
            .collect();
        names.join(", ")
    }

    fn apply(&mut self, files: Option<Vec<PathBuf>>, changed: &str) {
        if let Some(files) = files {
            self.set_files(files);
        }
        self.fault = None;
        self.metrics.reloaded();
        tracing::info!(what = self.what, file = changed, "changed files are in use");
    }

    /// One that is new here may have changed since it was read: it is read once more.
    fn set_files(&mut self, files: Vec<PathBuf>) {
        let known = |path: &PathBuf| self.files.iter().find(|file| file.path == *path);
        let files = files.into_iter().map(|path| {
            let applied =
                known(&path).map_or_else(FileFingerprint::default, |file| file.applied.clone());
            WatchedFile::new(path, applied)
        });
        self.files = files.collect();
    }

    fn fail(&mut self, fault: String, changed: &str) {
        if changed.is_empty() && self.fault.as_ref() == Some(&fault) {
            return;
        }
        self.metrics.failed();
        tracing::error!(
            what = self.what,
            file = changed,
            fault,
            "changed files cannot be used; the last good ones stay in use"
        );
        self.fault = Some(fault);
    }
}

/// What is read again in a server with this configuration.
pub fn watched(config: &Config, shared: &Arc<Shared>, tls: Option<&Arc<Tls>>) -> Vec<WatchedFiles> {
    let mut watched = Vec::new();
    let mut watch = |what, files: Vec<PathBuf>, read: Read| {
        let stamp = |path: &PathBuf| {
            let known = config.stamps.get(path).cloned();
            known.unwrap_or_else(|| FileFingerprint::of(path))
        };
        let files = files.into_iter().map(|path| {
            let stamp = stamp(&path);
            WatchedFile::new(path, stamp)
        });
        watched.push(WatchedFiles::new(
            what,
            files.collect(),
            read,
            &shared.metrics,
        ));
    };
    if let Some(tls) = tls {
        let (files, tls) = (tls.files().paths(), Arc::clone(tls));
        watch("tls", files, Box::new(move || tls.reload().map(|()| None)));
    }
    if let Some(file) = config.file.clone() {
        let (shared, mut restart_keys) = (Arc::clone(shared), RestartKeys::new(config));
        let read = Box::new(move || configuration(&file, &shared, &mut restart_keys).map(Some));
        watch("configuration", config.files(), read);
    }
    for secret in config.secrets() {
        let Some(file) = secret.path().map(Path::to_owned) else {
            continue;
        };
        let read = move || secret.check().map_err(|error| error.to_string());
        watch(
            "secret",
            vec![file],
            Box::new(move || read().map(|()| None)),
        );
    }
    for file in config.token_files() {
        let files = vec![file.clone()];
        let read = move || files::read_secret(&file).map_err(|error| error.to_string());
        watch("secret", files, Box::new(move || read().map(|_| None)));
    }
    watched
}

/// What a changed configuration says that takes effect at a restart.
struct RestartKeys {
    running: Table,
    reported: Vec<String>,
}

impl RestartKeys {
    fn new(config: &Config) -> Self {
        Self {
            running: config.fixed.clone(),
            reported: Vec::new(),
        }
    }

    /// Tells what differs from what runs, if that is news.
    fn report(&mut self, config: &Config, metrics: &Metrics) {
        let keys = config::differences(&self.running, &config.fixed);
        metrics.reloads.restart_needed(!keys.is_empty());
        if keys == self.reported {
            return;
        }
        if keys.is_empty() {
            tracing::info!("no restart is needed any more");
        } else {
            let keys = keys.join(", ");
            tracing::warn!(keys, "a restart is needed for these keys");
        }
        self.reported = keys;
    }
}

/// Takes up what a changed configuration says of callers, issuers, protected users and authorities, and tells what
/// has to wait for a restart.
fn configuration(
    file: &Path,
    shared: &Shared,
    restart_keys: &mut RestartKeys,
) -> Result<Vec<PathBuf>, String> {
    let config = config::load_again(file).map_err(|faults| faults.brief())?;
    config.log_warnings();
    shared.apply_config(&config)?;
    restart_keys.report(&config, &shared.metrics);
    Ok(config.files())
}

/// Looks at the files for as long as the server runs.
pub async fn watch(mut watched: Vec<WatchedFiles>, metrics: Arc<Metrics>) {
    let mut checks = interval(CHECK_INTERVAL);
    checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        checks.tick().await;
        let checked = spawn_blocking(move || {
            for files in &mut watched {
                // A content that breaks its reader must not keep the others from being read.
                if catch_unwind(AssertUnwindSafe(|| files.check())).is_err() {
                    files.fail("reading it failed".to_owned(), &files.changed());
                }
            }
            watched
        });
        match checked.await {
            Ok(back) => watched = back,
            Err(error) => {
                tracing::error!(%error, "changed files are not noticed any more");
                return;
            }
        }
        metrics.reloads.looked();
    }
}
