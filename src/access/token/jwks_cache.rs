//! Caches the keys of one issuer. One task reads the keys for all calls that wait for them. While reads fail, the
//! keys that were read last stay in use.

use std::{path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::BoxFuture;
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

/// Interval between checks of a file.
const FILE_INTERVAL: Duration = Duration::from_secs(1);
/// Interval between requests to a URL.
const URL_INTERVAL: Duration = Duration::from_mins(5);
/// Delay after the first failed read. The delay doubles with each further failure.
const MIN_RETRY_DELAY: Duration = Duration::from_secs(1);
const MAX_RETRY_DELAY: Duration = Duration::from_secs(30);
/// Minimum interval between reads for unknown keys, so that callers that invent key IDs cannot flood the issuer.
const MIN_REFRESH_INTERVAL: Duration = Duration::from_secs(1);
/// Maximum age of keys from a URL. Older keys are no longer used.
const MAX_AGE: Duration = Duration::from_hours(24);

/// A function that reads a key set from a URL.
pub type Fetch = Arc<dyn Fn() -> BoxFuture<'static, Result<Bytes, String>> + Send + Sync>;

/// Where the keys are read from.
pub enum KeySource {
    /// A file, which is read when it changes.
    File(PathBuf),
    /// A URL, which is read at intervals.
    Url(Fetch),
}

/// The keys, and how often they have been read.
#[derive(Clone, Default)]
struct CachedKeys {
    /// Number of reads that have started.
    started: u64,
    /// Number of the last read that has completed.
    completed: u64,
    keys: Option<Arc<KeySet>>,
    expires_at: Option<Instant>,
}

impl CachedKeys {
    /// Returns the keys for a new cache of the same issuer, which expire after at most [`MAX_AGE`].
    fn for_new_cache(&self) -> Self {
        let end = Instant::now() + MAX_AGE;
        Self {
            started: 0,
            completed: 0,
            keys: self.keys.clone(),
            expires_at: Some(self.expires_at.map_or(end, |at| at.min(end))),
        }
    }
}

pub struct JwksCache {
    cached: watch::Receiver<CachedKeys>,
    refresh_requested: Arc<Notify>,
    task: AbortHandle,
}

impl Drop for JwksCache {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl JwksCache {
    /// Starts the task that reads the keys. Until it has succeeded, the keys of the issuer's previous cache are used.
    pub fn start(
        issuer: &str,
        source: KeySource,
        before: Option<&Self>,
        metrics: &Arc<Metrics>,
    ) -> Self {
        let cached = before.map(|before| before.cached.borrow().for_new_cache());
        let (sender, cached) = watch::channel(cached.unwrap_or_default());
        let refresh_requested = Arc::new(Notify::new());
        let refresher = Refresher {
            issuer: issuer.to_owned(),
            source,
            fingerprint: None,
            last: Bytes::new(),
            fault: None,
            cached: sender,
            metrics: metrics.reloads.content("jwks"),
        };
        let task = tokio::spawn(refresher.run(Arc::clone(&refresh_requested)));
        Self {
            cached,
            refresh_requested,
            task: task.abort_handle(),
        }
    }

    pub fn keys(&self) -> Result<Arc<KeySet>, AuthenticationError> {
        let cached = self.cached.borrow();
        let expired = cached.expires_at.is_some_and(|at| Instant::now() >= at);
        let keys = cached.keys.clone().filter(|_| !expired);
        keys.ok_or(AuthenticationError::TokenKeysUnavailable)
    }

    /// Requests a read, and waits until a read that starts now or later has completed, but at most `limit`. If the
    /// first read, which starts with the cache, has not completed, waits for that one instead.
    pub async fn refresh(&self, limit: Duration) {
        let mut cached = self.cached.clone();
        let read = {
            let now = cached.borrow_and_update();
            if now.completed == 0 {
                1
            } else {
                now.started + 1
            }
        };
        if read > 1 {
            self.refresh_requested.notify_one();
        }
        // After a timeout, the call continues with the keys that are cached.
        let _timed_out = timeout(limit, cached.wait_for(|now| now.completed >= read)).await;
    }
}

struct Refresher {
    issuer: String,
    source: KeySource,
    /// Fingerprint of the file that was read last; `None` if it could not be read.
    fingerprint: Option<FileFingerprint>,
    /// The valid content that was read last.
    last: Bytes,
    fault: Option<String>,
    cached: watch::Sender<CachedKeys>,
    metrics: Content,
}

impl Refresher {
    async fn run(mut self, refresh_requested: Arc<Notify>) {
        let mut retry_delay = MIN_RETRY_DELAY;
        loop {
            self.cached.send_modify(|cached| cached.started += 1);
            let started = Instant::now();
            let delay = match self.read().await {
                Ok(read) => {
                    if let Some((keys, bytes)) = read {
                        self.store(keys, bytes);
                    }
                    retry_delay = MIN_RETRY_DELAY;
                    self.interval()
                }
                Err(error) => {
                    self.fail(error);
                    let delay = retry_delay;
                    retry_delay = (delay * 2).min(MAX_RETRY_DELAY);
                    delay
                }
            };
            self.cached
                .send_modify(|cached| cached.completed = cached.started);
            let requested = async {
                refresh_requested.notified().await;
                sleep_until(started + MIN_REFRESH_INTERVAL).await;
            };
            tokio::select! {
                () = sleep_until(started + delay) => {}
                () = requested => {}
            }
        }
    }

    const fn interval(&self) -> Duration {
        match self.source {
            KeySource::File(_) => FILE_INTERVAL,
            KeySource::Url(_) => URL_INTERVAL,
        }
    }

    /// Reads the keys. Returns `None` if the file has not changed.
    async fn read(&mut self) -> Result<Option<(KeySet, Bytes)>, String> {
        // A set without usable keys is accepted from a URL, because the issuer has then withdrawn its keys. It is
        // refused from a file, because files are edited by hand, and not always in one step.
        let (bytes, parse): (_, fn(&[u8]) -> _) = match &self.source {
            KeySource::Url(fetch) => (fetch().await?, KeySet::parse),
            KeySource::File(path) => {
                let (path, before) = (path.clone(), self.fingerprint.take());
                let read = move || {
                    let now = FileFingerprint::of(&path);
                    if before.as_ref() == Some(&now) {
                        return Ok((now, None));
                    }
                    let bytes = files::read(&path);
                    let bytes = bytes.map_err(|error| format!("cannot be read: {error}"))?;
                    Ok((now, Some(Bytes::copy_from_slice(&bytes))))
                };
                let (now, bytes) = blocking(read).await?;
                self.fingerprint = Some(now);
                let Some(bytes) = bytes else {
                    return Ok(None);
                };
                (bytes, KeySet::parse_usable)
            }
        };
        // A large set takes too long to parse on the thread of the runtime.
        blocking(move || Ok(Some((parse(&bytes)?, bytes)))).await
    }

    fn fail(&mut self, error: String) {
        self.metrics.failed();
        if self.fault.as_ref() != Some(&error) {
            tracing::warn!(
                issuer = self.issuer,
                error,
                "issuer keys not read; previous keys stay in use"
            );
            self.fault = Some(error);
        }
    }

    fn store(&mut self, keys: KeySet, bytes: Bytes) {
        let repaired = self.fault.take().is_some();
        if repaired || bytes != self.last {
            if bytes != self.last && !self.last.is_empty() {
                self.metrics.reloaded();
            }
            let issuer = &self.issuer;
            tracing::info!(issuer, "issuer keys loaded");
            if let Some(keys) = keys.describe_unusable_keys() {
                tracing::warn!(issuer, keys, "issuer keys skipped");
            }
            if keys.is_empty() {
                tracing::warn!(issuer, "issuer has no usable key; its tokens are refused");
            }
            self.last = bytes;
        }
        self.metrics.confirmed();
        let expires = matches!(self.source, KeySource::Url(_));
        self.cached.send_modify(|cached| {
            cached.keys = Some(Arc::new(keys));
            cached.expires_at = expires.then(|| Instant::now() + MAX_AGE);
        });
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    let result = spawn_blocking(work).await;
    result.map_err(|error| error.to_string())?
}
