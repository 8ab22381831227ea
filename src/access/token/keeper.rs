//! Keeps the keys of one issuer fresh. One task reads them, so that they are read once for all who wait; what was
//! read last stays in use while it cannot be read again.

use std::{future::Future, path::PathBuf, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{
    sync::{Notify, watch},
    task::{AbortHandle, spawn_blocking},
    time::{Instant, sleep_until, timeout},
};

use super::super::authentication_error::AuthenticationError;
use crate::{
    config::files,
    file_fingerprint::FileFingerprint,
    jwks::KeySet,
    metrics::{Content, Metrics},
};

/// A file is looked at this often, ...
const LOOK: Duration = Duration::from_secs(1);
/// ... and a URL is read this often.
const FETCH: Duration = Duration::from_mins(5);
/// After a failure the pause grows from this ...
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// ... to this.
const LAST_PAUSE: Duration = Duration::from_secs(30);
/// Tokens with unknown keys have the keys read no more often than this: whoever invents key IDs must not send us to the
/// issuer for each. Whoever waits for keys waits for a reading that begins after this pause.
const WANTED_AGAIN: Duration = Duration::from_secs(1);
/// Keys of a URL that could not be read for so long are not believed any more.
const LIFE: Duration = Duration::from_hours(24);
const WHAT: &str = "jwks";

/// Reads the key set of a URL.
pub type Fetch =
    Arc<dyn Fn() -> Pin<Box<dyn Future<Output = Result<Bytes, String>> + Send>> + Send + Sync>;

/// Where the keys are.
pub enum KeySource {
    /// In a file.
    File(PathBuf),
    /// On a server.
    Url(Fetch),
}

/// What is known after so many readings.
#[derive(Clone, Default)]
struct Known {
    /// Readings that have begun, ...
    begun: u64,
    /// ... and the last one that has ended.
    ended: u64,
    keys: Option<Arc<KeySet>>,
    lapses_at: Option<Instant>,
}

impl Known {
    /// What a keeper begins with that has read nothing by itself. Keys that nobody reads any more do not last for ever.
    fn handed_over(&self) -> Self {
        let end = Instant::now() + LIFE;
        Self {
            begun: 0,
            ended: 0,
            keys: self.keys.clone(),
            lapses_at: Some(self.lapses_at.map_or(end, |at| at.min(end))),
        }
    }
}

/// The keys of one issuer.
pub struct Keeper {
    known: watch::Receiver<Known>,
    wanted: Arc<Notify>,
    task: AbortHandle,
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Keeper {
    /// Begins to read. Until that has succeeded once, the keys of the issuer's keeper before are good.
    pub fn start(
        issuer: &str,
        source: KeySource,
        before: Option<&Self>,
        metrics: &Arc<Metrics>,
    ) -> Self {
        let known = before.map(|before| before.known.borrow().handed_over());
        let (sender, known) = watch::channel(known.unwrap_or_default());
        let wanted = Arc::new(Notify::new());
        let reader = Reader {
            issuer: issuer.to_owned(),
            source,
            stamp: None,
            last: Bytes::new(),
            fault: None,
            known: sender,
            numbers: metrics.reloads.content(WHAT),
        };
        let task = tokio::spawn(reader.run(Arc::clone(&wanted)));
        Self {
            known,
            wanted,
            task: task.abort_handle(),
        }
    }

    /// The keys that were read last.
    pub fn keys(&self) -> Result<Arc<KeySet>, AuthenticationError> {
        let known = self.known.borrow();
        let lapsed = known.lapses_at.is_some_and(|at| Instant::now() >= at);
        let keys = known.keys.clone().filter(|_| !lapsed);
        keys.ok_or(AuthenticationError::TokenKeysUnavailable)
    }

    /// Waits for a reading that begins now or later; the first one of all has been on its way from the start.
    pub async fn refresh(&self, patience: Duration) {
        let mut known = self.known.clone();
        let wanted = {
            let now = known.borrow_and_update();
            if now.ended == 0 { 1 } else { now.begun + 1 }
        };
        if wanted > 1 {
            self.wanted.notify_one();
        }
        // Who waits in vain goes on with the keys that there are.
        let _late = timeout(patience, known.wait_for(|now| now.ended >= wanted)).await;
    }
}

/// The task's own.
struct Reader {
    issuer: String,
    source: KeySource,
    stamp: Option<FileFingerprint>,
    /// The good bytes that were read last.
    last: Bytes,
    /// What was wrong at the last reading.
    fault: Option<String>,
    known: watch::Sender<Known>,
    numbers: Content,
}

impl Reader {
    async fn run(mut self, wanted: Arc<Notify>) {
        let mut pause = FIRST_PAUSE;
        loop {
            self.known.send_modify(|known| known.begun += 1);
            let begun = Instant::now();
            let well = self.read().await;
            self.known.send_modify(|known| known.ended = known.begun);
            let next = begun + if well { self.period() } else { pause };
            pause = if well {
                FIRST_PAUSE
            } else {
                (pause * 2).min(LAST_PAUSE)
            };
            let wanted = async {
                wanted.notified().await;
                sleep_until(begun + WANTED_AGAIN).await;
            };
            tokio::select! {
                () = sleep_until(next) => {}
                () = wanted => {}
            }
        }
    }

    const fn period(&self) -> Duration {
        match self.source {
            KeySource::File(_) => LOOK,
            KeySource::Url(_) => FETCH,
        }
    }

    /// Reads once. Tells whether there was anything wrong.
    async fn read(&mut self) -> bool {
        let (result, life) = match &self.source {
            KeySource::Url(fetch) => (fetch().await, Some(LIFE)),
            KeySource::File(path) => {
                let at = path.clone();
                let stamp = spawn_blocking(move || FileFingerprint::of(&at)).await;
                let stamp = stamp.unwrap_or_default();
                if self.stamp.as_ref() == Some(&stamp) {
                    return true;
                }
                self.stamp = Some(stamp);
                (read_file(path.clone()).await, None)
            }
        };
        // A file that could not be opened may have been there all the time.
        if result.is_err() {
            self.stamp = None;
        }
        let parse = match self.source {
            // An issuer that serves a set without usable keys has withdrawn them. A file is changed by hand, and not
            // always in one step.
            KeySource::Url(_) => KeySet::parse,
            KeySource::File(_) => KeySet::parse_usable,
        };
        let read = match result {
            Ok(bytes) => parsed(bytes, parse).await,
            Err(error) => Err(error),
        };
        match read {
            Ok((keys, bytes)) => {
                self.take(keys, bytes, life);
                true
            }
            Err(error) => {
                self.fail(error);
                false
            }
        }
    }

    fn fail(&mut self, error: String) {
        self.numbers.failed();
        if self.fault.as_ref() != Some(&error) {
            tracing::warn!(
                issuer = self.issuer,
                error,
                "the issuer's keys cannot be read; the last good ones, if there are any, stay in use"
            );
            self.fault = Some(error);
        }
    }

    fn take(&mut self, keys: KeySet, bytes: Bytes, life: Option<Duration>) {
        let repaired = self.fault.take().is_some();
        if repaired || bytes != self.last {
            if bytes != self.last && !self.last.is_empty() {
                self.numbers.reloaded();
            }
            tracing::info!(issuer = self.issuer, "the issuer's keys are in use");
            if let Some(keys) = keys.left_out() {
                let issuer = &self.issuer;
                tracing::warn!(issuer, keys, "keys of the issuer are left out");
            }
            if keys.is_empty() {
                let issuer = &self.issuer;
                tracing::warn!(
                    issuer,
                    "the issuer has no usable key; its tokens are refused"
                );
            }
            self.last = bytes;
        }
        self.numbers.confirmed();
        self.known.send_modify(|known| {
            known.keys = Some(Arc::new(keys));
            known.lapses_at = life.map(|life| Instant::now() + life);
        });
    }
}

/// Reads a key set on a thread that may block, since a large one takes a while to check.
async fn parsed(
    bytes: Bytes,
    parse: fn(&[u8]) -> Result<KeySet, String>,
) -> Result<(KeySet, Bytes), String> {
    let parsed = spawn_blocking(move || Ok((parse(&bytes)?, bytes))).await;
    parsed.map_err(|error| error.to_string())?
}

async fn read_file(path: PathBuf) -> Result<Bytes, String> {
    let read = move || files::read(&path, files::MAX_BYTES);
    let bytes = spawn_blocking(read).await;
    let bytes = bytes.map_err(|error| error.to_string())?;
    let bytes = bytes.map_err(|error| format!("cannot be read: {error}"))?;
    Ok(Bytes::copy_from_slice(&bytes))
}
