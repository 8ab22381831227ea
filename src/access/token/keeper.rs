//! Keeps the keys of one issuer fresh. One task reads them, so that they are read once for all who wait; what was
//! read last stays in use while it cannot be read again.

use std::{
    fs,
    future::Future,
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    sync::{Notify, watch},
    task::{AbortHandle, spawn_blocking},
    time::{Instant, sleep_until, timeout},
};

use super::super::unidentified::Unidentified;
use crate::{
    jwks::KeySet,
    metrics::{Content, Metrics},
    stamp::Stamp,
};

/// A file is looked at this often, ...
const LOOK: Duration = Duration::from_secs(1);
/// ... and a URL is read this often.
const FETCH: Duration = Duration::from_mins(5);
/// After a failure the pause grows from this ...
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// ... to this.
const LAST_PAUSE: Duration = Duration::from_secs(30);
/// Unknown keys make the keys be read again at most so often at once, ...
const MOST_WANTED: u32 = 5;
/// ... and once more after this time: whoever invents key IDs must not send us to the issuer for each.
const WANTED_AGAIN: Duration = Duration::from_secs(30);
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

/// One reading of the keys.
#[derive(Clone, Default)]
struct Round {
    number: u64,
    keys: Option<Arc<KeySet>>,
    lapses_at: Option<Instant>,
}

/// The keys of one issuer.
pub struct Keeper {
    rounds: watch::Receiver<Round>,
    wanted: Arc<Notify>,
    task: AbortHandle,
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Keeper {
    /// Begins to read.
    pub fn start(issuer: String, source: KeySource, metrics: &Arc<Metrics>) -> Self {
        let (sender, rounds) = watch::channel(Round::default());
        let wanted = Arc::new(Notify::new());
        let reader = Reader {
            issuer,
            source,
            stamp: None,
            last: Bytes::new(),
            rounds: sender,
            numbers: metrics.content(WHAT),
        };
        let task = tokio::spawn(reader.run(Arc::clone(&wanted)));
        Self {
            rounds,
            wanted,
            task: task.abort_handle(),
        }
    }

    /// The keys that were read last; before the first reading, none.
    pub fn keys(&self) -> Result<Arc<KeySet>, Unidentified> {
        let round = self.rounds.borrow();
        if round.number == 0 {
            return Ok(Arc::default());
        }
        let lapsed = round.lapses_at.is_some_and(|at| Instant::now() >= at);
        let keys = round.keys.clone().filter(|_| !lapsed);
        keys.ok_or(Unidentified::TokenKeysUnavailable)
    }

    /// Waits for the next reading, which is now unless there were too many.
    pub async fn refresh(&self, patience: Duration) {
        let mut rounds = self.rounds.clone();
        let seen = rounds.borrow_and_update().number;
        self.wanted.notify_one();
        // Who waits in vain goes on with the keys that there are.
        let _late = timeout(patience, rounds.wait_for(|round| round.number > seen)).await;
    }
}

/// The task's own.
struct Reader {
    issuer: String,
    source: KeySource,
    stamp: Option<Stamp>,
    /// The good bytes that were read last.
    last: Bytes,
    rounds: watch::Sender<Round>,
    numbers: Content,
}

impl Reader {
    async fn run(mut self, wanted: Arc<Notify>) {
        let mut budget = Budget::new();
        let mut pause = FIRST_PAUSE;
        loop {
            let well = self.read().await;
            self.rounds.send_modify(|round| round.number += 1);
            let next = Instant::now() + if well { self.period() } else { pause };
            pause = if well {
                FIRST_PAUSE
            } else {
                (pause * 2).min(LAST_PAUSE)
            };
            loop {
                tokio::select! {
                    () = sleep_until(next) => break,
                    () = wanted.notified() => {}
                }
                if budget.take() {
                    break;
                }
                // Nobody waits for a reading that does not take place.
                self.rounds.send_modify(|round| round.number += 1);
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
                let stamp = Stamp::of(path);
                if self.stamp.as_ref() == Some(&stamp) {
                    return true;
                }
                self.stamp = Some(stamp);
                (read_file(path.clone()).await, None)
            }
        };
        let read = result.and_then(|bytes| Ok((KeySet::parse(&bytes)?, bytes)));
        match read {
            Ok((keys, bytes)) => {
                self.take(keys, bytes, life);
                true
            }
            Err(error) => {
                self.numbers.failed();
                tracing::warn!(
                    issuer = self.issuer,
                    error,
                    "the issuer's keys cannot be read; the last good ones stay in use"
                );
                false
            }
        }
    }

    fn take(&mut self, keys: KeySet, bytes: Bytes, life: Option<Duration>) {
        if bytes != self.last {
            if !self.last.is_empty() {
                self.numbers.reloaded();
            }
            tracing::info!(issuer = self.issuer, "the issuer's keys are in use");
            self.last = bytes;
        }
        self.numbers.confirmed();
        self.rounds.send_modify(|round| {
            round.keys = Some(Arc::new(keys));
            round.lapses_at = life.map(|life| Instant::now() + life);
        });
    }
}

async fn read_file(path: PathBuf) -> Result<Bytes, String> {
    let read = |path: &Path| fs::read(path).map_err(|error| format!("cannot be read: {error}"));
    let bytes = spawn_blocking(move || read(&path)).await;
    bytes.map_err(|error| error.to_string())?.map(Bytes::from)
}

/// How often unknown keys may have the keys read again.
struct Budget {
    left: u32,
    filled_at: Instant,
}

impl Budget {
    fn new() -> Self {
        Self {
            left: MOST_WANTED,
            filled_at: Instant::now(),
        }
    }

    fn take(&mut self) -> bool {
        let gained = self.filled_at.elapsed().as_secs() / WANTED_AGAIN.as_secs();
        if gained > 0 {
            let gained = u32::try_from(gained).unwrap_or(MOST_WANTED);
            self.left = self.left.saturating_add(gained).min(MOST_WANTED);
            self.filled_at = Instant::now();
        }
        let taken = self.left > 0;
        self.left = self.left.saturating_sub(1);
        taken
    }
}
