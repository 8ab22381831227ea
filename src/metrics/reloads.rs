//! Metrics of files that are reloaded when they change.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::{counter::Counter, family::Family, gauge::Gauge};

use super::registry::{Labels, metrics};
use crate::unix_time;

const OK: &str = "ok";
const FAILED: &str = "failed";

/// Seconds since 1970.
type Time = Gauge<u64, AtomicU64>;

metrics! {
    #[derive(Clone)]
    pub struct Reloads {
        read: Family<Labels<2>, Counter> = "reloads",
            "Reloads of changed files, by kind of content and by result (ok, failed)";
        stale: Family<Labels<1>, Gauge> = "reload_stale",
            "Invalid files whose last valid content stays in use";
        reloaded_at: Family<Labels<1>, Time> = "reload_last_success_timestamp" in Seconds,
            "Time at which the content in use was read, in seconds since 1970";
        checked_at: Time = "reload_last_look_timestamp" in Seconds,
            "Time of the last check for changed files, in seconds since 1970";
        restart_needed: Gauge = "restart_needed",
            "1 while the configuration file has a change that takes effect at a restart";
    }
}

impl Reloads {
    /// Creates the metrics of a content, that is, of one or more files that are reloaded together, such as `tls`.
    pub fn content(&self, what: &'static str) -> Content {
        // The counters exist from the start, so that the first change shows as an increase.
        drop(self.stale.get_or_create(&[("what", what)]));
        for result in [OK, FAILED] {
            let labels = [("what", what), ("result", result)];
            drop(self.read.get_or_create(&labels));
        }
        Content {
            what,
            stale: false,
            reloads: self.clone(),
        }
    }

    fn count(&self, what: &'static str, result: &'static str) {
        let labels = [("what", what), ("result", result)];
        self.read.get_or_create(&labels).inc();
    }

    /// Records the current time as that of the last check for changed files.
    pub(crate) fn checked(&self) {
        self.checked_at.set(unix_time());
    }

    /// Sets whether the configuration file contains changes that need a restart.
    pub(crate) fn restart_needed(&self, needed: bool) {
        self.restart_needed.set(needed.into());
    }
}

/// Metrics of files that are reloaded together. When dropped, their content no longer counts as stale.
pub struct Content {
    what: &'static str,
    stale: bool,
    reloads: Reloads,
}

impl Content {
    pub fn reloaded(&mut self) {
        self.reloads.count(self.what, OK);
        self.confirmed();
    }

    /// Records that the content in use is current, without counting a reload.
    pub(crate) fn confirmed(&mut self) {
        let gauge = &self.reloads.reloaded_at;
        gauge.get_or_create(&[("what", self.what)]).set(unix_time());
        self.set_stale(false);
    }

    /// Records a failed reload. The content in use is stale until the next success.
    pub fn failed(&mut self) {
        self.reloads.count(self.what, FAILED);
        self.set_stale(true);
    }

    fn set_stale(&mut self, stale: bool) {
        let gauge = self.reloads.stale.get_or_create(&[("what", self.what)]);
        gauge.inc_by(i64::from(stale) - i64::from(self.stale));
        self.stale = stale;
    }
}

impl Drop for Content {
    fn drop(&mut self) {
        self.set_stale(false);
    }
}
