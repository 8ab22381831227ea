//! Files that change while the server runs: certificates, the configuration, secrets. What is there is read
//! when it has changed and has not changed again since the last look; what cannot be used is told, and the last
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

/// Files are looked at this often.
const LOOK: Duration = Duration::from_millis(500);

/// Reads the files, and tells which ones to look at from now on, if that are others.
type Read = Box<dyn FnMut() -> Result<Option<Vec<PathBuf>>, String> + Send>;

/// Files that are taken up together.
pub struct Watched {
    what: &'static str,
    files: Vec<Looked>,
    read: Read,
    /// What was wrong with them.
    fault: Option<String>,
    numbers: Content,
}

/// One file, ...
struct Looked {
    path: PathBuf,
    /// ... as it was when it was read last, ...
    taken: FileFingerprint,
    /// ... and at the last look.
    seen: FileFingerprint,
}

impl Looked {
    fn new(path: PathBuf, taken: FileFingerprint) -> Self {
        let seen = taken.clone();
        Self { path, taken, seen }
    }

    fn has_changed(&self) -> bool {
        self.seen != self.taken
    }
}

impl Watched {
    fn new(what: &'static str, files: Vec<Looked>, read: Read, metrics: &Arc<Metrics>) -> Self {
        let mut numbers = metrics.reloads.content(what);
        numbers.confirmed();
        Self {
            what,
            files,
            read,
            fault: None,
            numbers,
        }
    }

    /// Looks at the files, and takes them up if they have changed and rest.
    fn look(&mut self) {
        let mut rest = true;
        for file in &mut self.files {
            let now = FileFingerprint::of(&file.path);
            rest &= now == file.seen;
            file.seen = now;
        }
        let changed = self.changed();
        // A file that is bad because of another one, such as a certificate without its key, is tried again.
        if !rest || (changed.is_empty() && self.fault.is_none()) {
            return;
        }
        for file in &mut self.files {
            file.taken.clone_from(&file.seen);
        }
        match (self.read)() {
            Ok(files) => self.take_up(files, &changed),
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

    fn take_up(&mut self, files: Option<Vec<PathBuf>>, changed: &str) {
        if let Some(files) = files {
            self.look_at(files);
        }
        self.fault = None;
        self.numbers.reloaded();
        tracing::info!(what = self.what, file = changed, "changed files are in use");
    }

    /// One that is new here may have changed since it was read: it is read once more.
    fn look_at(&mut self, files: Vec<PathBuf>) {
        let known = |path: &PathBuf| self.files.iter().find(|file| file.path == *path);
        let files = files.into_iter().map(|path| {
            let taken =
                known(&path).map_or_else(FileFingerprint::default, |file| file.taken.clone());
            Looked::new(path, taken)
        });
        self.files = files.collect();
    }

    fn fail(&mut self, fault: String, changed: &str) {
        if changed.is_empty() && self.fault.as_ref() == Some(&fault) {
            return;
        }
        self.numbers.failed();
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
pub fn watched(config: &Config, shared: &Arc<Shared>, tls: Option<&Arc<Tls>>) -> Vec<Watched> {
    let mut watched = Vec::new();
    let mut watch = |what, files: Vec<PathBuf>, read: Read| {
        let stamp = |path: &PathBuf| {
            let known = config.stamps.get(path).cloned();
            known.unwrap_or_else(|| FileFingerprint::of(path))
        };
        let files = files.into_iter().map(|path| {
            let stamp = stamp(&path);
            Looked::new(path, stamp)
        });
        watched.push(Watched::new(what, files.collect(), read, &shared.metrics));
    };
    if let Some(tls) = tls {
        let (files, tls) = (tls.files().paths(), Arc::clone(tls));
        watch("tls", files, Box::new(move || tls.reload().map(|()| None)));
    }
    if let Some(file) = config.file.clone() {
        let (shared, mut waiting) = (Arc::clone(shared), Waiting::new(config));
        let read = Box::new(move || configuration(&file, &shared, &mut waiting).map(Some));
        watch("configuration", config.files(), read);
    }
    for secret in config.secrets() {
        let Some(file) = secret.path().map(Path::to_owned) else {
            continue;
        };
        let check = move || secret.check().map_err(|error| error.to_string());
        watch(
            "secret",
            vec![file],
            Box::new(move || check().map(|()| None)),
        );
    }
    for file in config.token_files() {
        let files = vec![file.clone()];
        let check = move || files::read_secret(&file).map_err(|error| error.to_string());
        watch("secret", files, Box::new(move || check().map(|_| None)));
    }
    watched
}

/// What a changed configuration says that takes effect at a restart.
struct Waiting {
    running: Table,
    told: Vec<String>,
}

impl Waiting {
    fn new(config: &Config) -> Self {
        Self {
            running: config.fixed.clone(),
            told: Vec::new(),
        }
    }

    /// Tells what differs from what runs, if that is news.
    fn tell(&mut self, config: &Config, metrics: &Metrics) {
        let keys = config::differences(&self.running, &config.fixed);
        metrics.reloads.restart_needed(!keys.is_empty());
        if keys == self.told {
            return;
        }
        if keys.is_empty() {
            tracing::info!("no restart is needed any more");
        } else {
            let keys = keys.join(", ");
            tracing::warn!(keys, "a restart is needed for these keys");
        }
        self.told = keys;
    }
}

/// Takes up what a changed configuration says of callers, issuers, protected users and authorities, and tells what
/// has to wait for a restart.
fn configuration(
    file: &Path,
    shared: &Shared,
    waiting: &mut Waiting,
) -> Result<Vec<PathBuf>, String> {
    let config = config::load_again(file).map_err(|faults| faults.brief())?;
    config.log_warnings();
    shared.take_up(&config)?;
    waiting.tell(&config, &shared.metrics);
    Ok(config.files())
}

/// Looks at the files for as long as the server runs.
pub async fn watch(mut watched: Vec<Watched>, metrics: Arc<Metrics>) {
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let looked = spawn_blocking(move || {
            for files in &mut watched {
                // A content that breaks its reader must not keep the others from being read.
                if catch_unwind(AssertUnwindSafe(|| files.look())).is_err() {
                    files.fail("reading it failed".to_owned(), &files.changed());
                }
            }
            watched
        });
        match looked.await {
            Ok(back) => watched = back,
            Err(error) => {
                tracing::error!(%error, "changed files are not noticed any more");
                return;
            }
        }
        metrics.reloads.looked();
    }
}
