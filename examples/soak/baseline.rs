//! Latency of the machine during a scenario: the load shares the machine with the server, and perhaps with other
//! processes.

use std::{
    fs::File,
    io::Write as _,
    path::Path,
    time::{Duration, Instant},
};

use tokio::{
    task::{JoinHandle, spawn_blocking},
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use crate::figures::Times;

const PAUSE: Duration = Duration::from_millis(5);

/// A measurement of sleep delays and disk syncs, which runs until it is cancelled.
pub struct Baseline {
    sleeps: JoinHandle<Times>,
    syncs: JoinHandle<Times>,
}

impl Baseline {
    /// Starts the measurement, with a file in the folder of the audit log.
    pub fn start(folder: &Path, stop: &CancellationToken) -> Self {
        let file = File::create(folder.join("baseline")).unwrap();
        Self {
            sleeps: tokio::spawn(sleeps(stop.clone())),
            syncs: tokio::spawn(syncs(file, stop.clone())),
        }
    }

    /// Prints the measured times, to compare the times of calls with. Returns the longest time of a sync.
    pub async fn print(self) -> Duration {
        let (sleeps, syncs) = (self.sleeps.await.unwrap(), self.syncs.await.unwrap());
        let (late, sync) = (sleeps.percentile(99), syncs.percentile(99));
        println!(
            "the machine meanwhile: the load's own sleeps ended {late:.1?} late (p99; p50 {:.1?}), to sync 1 KiB took \
             {sync:.1?} (p99; p50 {:.1?}, longest {:.1?})",
            sleeps.median(),
            syncs.median(),
            syncs.max()
        );
        syncs.max()
    }
}

async fn sleeps(stop: CancellationToken) -> Times {
    let mut late = Vec::new();
    while !stop.is_cancelled() {
        let started = Instant::now();
        sleep(PAUSE).await;
        late.push(started.elapsed().saturating_sub(PAUSE));
    }
    late.into_iter().collect()
}

async fn syncs(mut file: File, stop: CancellationToken) -> Times {
    let mut times = Vec::new();
    while !stop.is_cancelled() {
        sleep(20 * PAUSE).await;
        let (back, elapsed) = spawn_blocking(move || {
            let started = Instant::now();
            file.write_all(&[b'x'; 1024]).unwrap();
            file.sync_data().unwrap();
            (file, started.elapsed())
        })
        .await
        .unwrap();
        file = back;
        times.push(elapsed);
    }
    times.into_iter().collect()
}
