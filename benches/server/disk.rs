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
const SLOWER: [u64; 3] = [0, 5, 20];

/// Measures calls/s with and without syncs, and compares them with the sync latency of the disk.
pub fn run(rig: &Rig) -> bool {
    let mut good = true;
    let there = Command::new("strace").arg("--version").output().is_ok();
    for slower in SLOWER.into_iter().filter(|slower| *slower == 0 || there) {
        println!("Each sync takes {slower} ms longer than on this disk");
        good &= measure_with_delay(rig, slower);
    }
    good
}

fn measure_with_delay(rig: &Rig, slower: u64) -> bool {
    let file = |sync| ServerSettings {
        audit: "audit.jsonl",
        sync,
        ..ServerSettings::default()
    };
    let program = &rig.servers[0];
    let command = with_slow_sync(program, slower);
    let synced = Peer::server(&rig.runtime, command, rig.upstream, &file(true));
    let unsynced = rig.server(program, &file(false));
    let mut good = true;
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
                let sample = load.run(&rig.runtime, peer.address, rig.time, || {});
                peer.discard_output();
                rates.push(sample.rate);
            }
        }
        let sync = median(syncs) + slower as f64 / 1e3;
        let [rate, without] = rates.map(median);
        let disk = in_flight as f64 / sync;
        // A call takes one sync plus the CPU time of a call without sync.
        let both = in_flight as f64 / (sync + in_flight as f64 / without);
        good &= rate >= 0.75 * both;
        vec![
            in_flight.to_string(),
            format!("{:.0}", sync * 1e6),
            format!("{rate:.0}"),
            format!("{disk:.0} ({:.2})", rate / disk),
            format!("{without:.0}"),
            format!("{both:.0} ({:.2})", rate / both),
        ]
    });
    let heading = [
        "in flight",
        "us a sync",
        "calls/s",
        "in flight / sync",
        "calls/s, sync = false",
        "in flight / (sync + in flight / calls/s without)",
    ];
    print(&heading, &rows);
    good
}

/// Returns the command that starts the server with this delay added to each sync, in milliseconds.
fn with_slow_sync(program: &Path, slower: u64) -> Command {
    if slower == 0 {
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
    strace.args(["-e", &format!("inject=fdatasync:delay_exit={slower}ms")]);
    strace.arg(program);
    strace
}

/// Returns the median time of syncing 1 KiB appended to a file in this folder, in seconds.
fn sync_latency(folder: &Path, time: Duration) -> f64 {
    let mut file = File::create(folder.join("yardstick")).unwrap();
    let (until, mut took) = (Instant::now() + time, Vec::new());
    while Instant::now() < until {
        let started = Instant::now();
        let written = file
            .write_all(&[b'x'; 1024])
            .and_then(|()| file.sync_data());
        written.unwrap();
        took.push(started.elapsed().as_secs_f64());
    }
    median(took)
}
