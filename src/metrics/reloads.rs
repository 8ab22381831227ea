//! Metrics of files that are reloaded when they change.

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::SystemTime,
};

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};

use super::labels::Labels;

const OK: &str = "ok";
const FAILED: &str = "failed";

/// Seconds since 1970 do not fit a gauge of 32 bits, and whole ones are enough.
type Seconds = Gauge<u64, AtomicU64>;

/// Metrics of all contents.
#[derive(Default)]
pub struct Reloads {
    read: Family<Labels<2>, Counter>,
    stale: Family<Labels<1>, Gauge>,
    reloaded_at: Family<Labels<1>, Seconds>,
    looked_at: Seconds,
    restart_needed: Gauge,
}

impl Reloads {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "reloads",
            "Changed files that were read again, by what they hold and by result (ok, failed)",
            self.read.clone(),
        );
        registry.register(
            "reload_stale",
            "How many contents are in use although the present ones are bad",
            self.stale.clone(),
        );
        registry.register_with_unit(
            "reload_last_success_timestamp",
            "When the content in use was read, in seconds since 1970",
            Unit::Seconds,
            self.reloaded_at.clone(),
        );
        registry.register_with_unit(
            "reload_last_look_timestamp",
            "When files were last looked at, in seconds since 1970",
            Unit::Seconds,
            self.looked_at.clone(),
        );
        registry.register(
            "restart_needed",
            "1 while the configuration file says something that takes effect at a restart",
            self.restart_needed.clone(),
        );
    }

    /// Creates the metrics of a content, such as `tls`.
    #[must_use]
    pub fn content(self: &Arc<Self>, what: &'static str) -> Content {
        // The counters exist from the start, so that the first change shows as an increase.
        drop(self.stale.get_or_create(&[("what", what)]));
        for result in [OK, FAILED] {
            drop(
                self.read
                    .get_or_create(&[("what", what), ("result", result)]),
            );
        }
        Content {
            what,
            stale: false,
            reloads: Arc::clone(self),
        }
    }

    fn count(&self, what: &'static str, result: &'static str) {
        let labels = [("what", what), ("result", result)];
        self.read.get_or_create(&labels).inc();
    }

    /// Records that the files have been checked.
    pub fn looked(&self) {
        self.looked_at.set(now());
    }

    /// Sets whether the configuration file contains changes that need a restart.
    pub fn restart_needed(&self, needed: bool) {
        self.restart_needed.set(needed.into());
    }
}

/// Metrics of one content that is reloaded when it changes.
pub struct Content {
    what: &'static str,
    stale: bool,
    reloads: Arc<Reloads>,
}

impl Content {
    /// Records a reload that succeeded.
    pub fn reloaded(&mut self) {
        self.reloads.count(self.what, OK);
        self.confirmed();
    }

    /// Records that the content in use is the current one.
    pub fn confirmed(&mut self) {
        let gauge = &self.reloads.reloaded_at;
        gauge.get_or_create(&[("what", self.what)]).set(now());
        self.set_stale(false);
    }

    /// Records a reload that failed.
    pub fn failed(&mut self) {
        self.reloads.count(self.what, FAILED);
        self.set_stale(true);
    }

    fn set_stale(&mut self, stale: bool) {
        let gauge = self.reloads.stale.get_or_create(&[("what", self.what)]);
        match (self.stale, stale) {
            (false, true) => gauge.inc(),
            (true, false) => gauge.dec(),
            _ => 0,
        };
        self.stale = stale;
    }
}

impl Drop for Content {
    fn drop(&mut self) {
        self.set_stale(false);
    }
}

/// Seconds since 1970.
fn now() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.unwrap_or_default().as_secs()
}
