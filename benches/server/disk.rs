//! Throughput with a synced audit log, which the disk limits. Concurrent calls share a sync.

use std::{
    fs::File,
    io::Write as _,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use crate::{
    load::Load,
    peer::{Peer, ServerSettings},
    requests::batch,
    rig::Rig,
    table::{median, print},
};

const IN_FLIGHT: [usize; 5] = [1, 4, 16, 64, 256];
/// Delays that strace adds to each sync, in milliseconds. They simulate slower disks; without strace, only the first
/// is measured.
const SYNC_DELAYS_MS: [u64; 3] = [0, 5, 20];

/// Measures calls/s with and without syncs, and compares them with the sync latency of the disk.
pub fn run(rig: &Rig) -> bool {
    let mut passed = true;
    let has_strace = Command::new("strace").arg("--version").output().is_ok();
    for delay_ms in SYNC_DELAYS_MS
        .into_iter()
        .filter(|delay_ms| *delay_ms == 0 || has_strace)
    {
        println!("Each sync takes {delay_ms} ms longer than on this disk");
        passed &= measure_with_delay(rig, delay_ms);
    }
    passed
}

fn measure_with_delay(rig: &Rig, delay_ms: u64) -> bool {
    let settings = |sync| ServerSettings {
        audit: "audit.jsonl",
        sync,
        ..ServerSettings::default()
    };
    let program = &rig.servers[0];
    let command = with_slow_sync(program, delay_ms);
    let synced = Peer::server(
        &rig.runtime,
        command,
        rig.upstream,
        &settings(true),
        rig.tls.as_ref(),
    );
    let unsynced = rig.server(program, &settings(false));
    let mut passed = true;
    let rows = IN_FLIGHT.map(|in_flight| {
        let load = Load {
            in_flight,
            connections: in_flight.min(4),
            ..batch(false)
        };
        let (mut syncs, mut rates) = (Vec::new(), [Vec::new(), Vec::new()]);
        for _ in 0..rig.rounds {
            syncs.push(sync_latency(synced.folder(), rig.time / 5));
            for (peer, rates) in [&synced, &unsynced].into_iter().zip(&mut rates) {
                let sample = load.run(&rig.runtime, &peer.endpoint, rig.time, || {});
                peer.discard_output();
                rates.push(sample.rate);
            }
        }
        let sync = median(syncs) + delay_ms as f64 / 1e3;
        let [rate, rate_without_sync] = rates.map(median);
        let disk_limit = in_flight as f64 / sync;
        // A call takes one sync plus the CPU time of a call without sync.
        let limit = in_flight as f64 / (sync + in_flight as f64 / rate_without_sync);
        passed &= rate >= 0.75 * limit;
        vec![
            in_flight.to_string(),
            format!("{:.0}", sync * 1e6),
            format!("{rate:.0}"),
            format!("{disk_limit:.0} ({:.2})", rate / disk_limit),
            format!("{rate_without_sync:.0}"),
            format!("{limit:.0} ({:.2})", rate / limit),
        ]
    });
    let heading = [
        "in flight",
        "us per sync",
        "calls/s",
        "in flight / sync",
        "calls/s, sync = false",
        "in flight / (sync + in flight / calls/s without)",
    ];
    print(&heading, &rows);
    passed
}

/// Returns the command that starts the server with this delay added to each sync, in milliseconds.
fn with_slow_sync(program: &Path, delay_ms: u64) -> Command {
    if delay_ms == 0 {
        return Command::new(program);
    }
    let mut strace = Command::new("strace");
    strace.args([
        "-f",
        "--seccomp-bpf",
        "-qq",
        "-o",
        "/dev/null",
        "-e",
        "trace=fdatasync",
    ]);
    strace.args(["-e", &format!("inject=fdatasync:delay_exit={delay_ms}ms")]);
    strace.arg(program);
    strace
}

/// Returns the median time of syncing 1 KiB appended to a file in this folder, in seconds.
fn sync_latency(folder: &Path, time: Duration) -> f64 {
    let mut file = File::create(folder.join("sync-latency")).unwrap();
    let (deadline, mut durations) = (Instant::now() + time, Vec::new());
    while Instant::now() < deadline {
        let started = Instant::now();
        let result = file
            .write_all(&[b'x'; 1024])
            .and_then(|()| file.sync_data());
        result.unwrap();
        durations.push(started.elapsed().as_secs_f64());
    }
    median(durations)
}
