//! Files that change while the server runs: certificates, the configuration, secrets. What is there is read
//! when it has changed and has not changed again since the last look; what cannot be used is told, and the last
//! good content stays in use.

use std::{
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
    metrics::{Content, Metrics},
    service::Shared,
    stamp::Stamp,
};

/// Files are looked at this often.
const LOOK: Duration = Duration::from_millis(500);

type Stamps = Vec<Stamp>;
/// Reads the files, and tells which ones to look at from now on.
type Read = Box<dyn FnMut() -> Result<Vec<PathBuf>, String> + Send>;

/// Files that are taken up together.
pub struct Watched {
    what: &'static str,
    files: Vec<PathBuf>,
    read: Read,
    /// The files as they were read last, ...
    taken: Stamps,
    /// ... and at the last look.
    seen: Stamps,
    /// What was wrong with them.
    fault: Option<String>,
    numbers: Content,
}

impl Watched {
    fn new(what: &'static str, files: Vec<PathBuf>, read: Read, metrics: &Arc<Metrics>) -> Self {
        let stamps = stamps(&files);
        let mut numbers = metrics.content(what);
        numbers.confirmed();
        Self {
            what,
            files,
            read,
            taken: stamps.clone(),
            seen: stamps,
            fault: None,
            numbers,
        }
    }

    /// The one that an operator knows them by.
    fn first(&self) -> std::path::Display<'_> {
        self.files
            .first()
            .map_or(Path::new(""), PathBuf::as_path)
            .display()
    }

    /// Looks at the files, and takes them up if they have changed.
    fn look(&mut self) {
        let now = stamps(&self.files);
        let rests = now == self.seen;
        self.seen = now;
        // A file that is bad because of another one, such as a certificate without its key, is tried again.
        let wanted = self.seen != self.taken || self.fault.is_some();
        if !(rests && wanted) {
            return;
        }
        let changed = self.seen != self.taken;
        self.taken.clone_from(&self.seen);
        match (self.read)() {
            Ok(files) => {
                if files != self.files {
                    self.seen = stamps(&files);
                    self.taken.clone_from(&self.seen);
                    self.files = files;
                }
                self.fault = None;
                self.numbers.reloaded();
                let (what, file) = (self.what, self.first());
                tracing::info!(what, %file, "changed files are in use");
            }
            Err(fault) if changed || self.fault.as_ref() != Some(&fault) => {
                self.numbers.failed();
                let (what, file) = (self.what, self.first());
                tracing::error!(
                    what,
                    %file,
                    fault,
                    "changed files cannot be used; the last good ones stay in use"
                );
                self.fault = Some(fault);
            }
            Err(_) => {}
        }
    }
}

fn stamps(files: &[PathBuf]) -> Stamps {
    files.iter().map(|file| Stamp::of(file)).collect()
}

/// What is read again in a server with this configuration.
pub fn watched(config: &Config, shared: &Arc<Shared>, tls: Option<&Arc<Tls>>) -> Vec<Watched> {
    let mut watched = Vec::new();
    let mut watch = |what, files, read: Read| {
        watched.push(Watched::new(what, files, read, &shared.metrics));
    };
    if let Some(tls) = tls {
        let (files, tls) = (tls.files().paths(), Arc::clone(tls));
        let same = files.clone();
        let read = Box::new(move || tls.reload().map(|()| same.clone()));
        watch("tls", files, read);
    }
    if let Some(file) = config.file.clone() {
        let (shared, mut told) = (Arc::clone(shared), config.fixed.clone());
        let read = Box::new(move || configuration(&file, &shared, &mut told));
        watch("configuration", config.files(), read);
    }
    for secret in config.secrets() {
        let Some(file) = secret.path().map(Path::to_owned) else {
            continue;
        };
        let files = vec![file];
        let same = files.clone();
        let read = Box::new(move || match secret.check() {
            Ok(()) => Ok(same.clone()),
            Err(error) => Err(error.to_string()),
        });
        watch("secret", files, read);
    }
    watched
}

/// Takes up what a changed configuration says of callers, issuers, protected users and authorities, and tells what
/// has to wait for a restart.
fn configuration(file: &Path, shared: &Shared, told: &mut Table) -> Result<Vec<PathBuf>, String> {
    let config = config::load_again(file).map_err(|faults| faults.brief())?;
    shared.take_up(&config)?;
    if config.fixed != *told {
        tracing::warn!(
            "the changed configuration file differs in more than callers, issuers, protected users and authorities; \
             the rest takes effect at a restart"
        );
        told.clone_from(&config.fixed);
    }
    Ok(config.files())
}

/// Looks at the files for as long as the server runs.
pub async fn watch(mut watched: Vec<Watched>) {
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let looked = spawn_blocking(move || {
            for files in &mut watched {
                files.look();
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
    }
}
