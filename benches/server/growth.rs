//! Measurements with increasing numbers of concurrent calls, HMCs and connections.

use rustix::process::{Resource, getrlimit};

use crate::{
    cpus::BOTH_CPUS,
    load::{self, Load},
    peer::ServerSettings,
    process,
    requests::{batch, hmc},
    rig::Rig,
    table::print,
};

const IN_FLIGHT: [usize; 11] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024];
const HMCS: [usize; 5] = [1, 10, 50, 100, 200];
const CONNECTIONS: [usize; 6] = [1, 10, 100, 1_000, 4_000, 10_000];
/// Open files that the server reserves for upstream requests and other purposes, as an upper bound.
const RESERVED_FILES: u64 = 3_000;
/// Maximum number of streams per connection (`max_concurrent_streams`).
const STREAMS: usize = 64;

/// Measures the server with one and with two CPUs. With two, the server shares them with the load generator and the upstream, so only its
/// CPU time for each call is comparable. The capacity of two CPUs is twice that of one, divided by the ratio of these
/// times.
pub fn cpus(rig: &Rig) -> bool {
    let one = rig.first(&ServerSettings::default());
    let two = rig.first(&ServerSettings {
        cpus: BOTH_CPUS,
        ..ServerSettings::default()
    });
    let loads = [64, 256].map(|in_flight| Load {
        in_flight,
        connections: 16,
        ..batch(false)
    });
    let rounds = rig.in_sequence(&[one, two], &loads);
    let rows = loads.iter().enumerate().map(|(at, load)| {
        let [one, two] = [0, 1].map(|server: usize| rounds[server][at].median(|of| of.cpu));
        vec![
            load.in_flight.to_string(),
            format!("{one:.1}"),
            format!("{two:.1}"),
            format!("{:.2}", 2.0 * one / two),
        ]
    });
    let heading = [
        "in flight",
        "CPU us/call with 1 CPU",
        "with 2 CPUs",
        "capacity of 2 CPUs, 1 CPU = 1",
    ];
    print(&heading, &rows.collect::<Vec<_>>());
    true
}

/// Runs all three measurements.
pub fn run(rig: &Rig) -> bool {
    calls(rig);
    hmcs(rig);
    connections(rig);
    true
}

/// Measures increasing numbers of calls in flight.
fn calls(rig: &Rig) {
    let mut rows = Vec::new();
    for in_flight in IN_FLIGHT {
        // Each row needs a new server because memory that was used once is not returned to the system.
        let peer = &rig.first(&ServerSettings::default());
        let load = Load {
            in_flight,
            connections: in_flight.div_ceil(STREAMS).max(in_flight.min(4)),
            ..batch(false)
        };
        let measurement = rig.measure(peer, &load);
        rows.push(vec![
            in_flight.to_string(),
            format!("{:.0}", measurement.sample.rate),
            format!("{:.1}", measurement.cpu),
            format!("{:.0}", measurement.sample.p50),
            format!("{:.0}", measurement.sample.p99),
            format!("{:.1}", process::memory(peer.pid(), "VmHWM")),
        ]);
    }
    print(
        &[
            "calls in flight",
            "calls/s",
            "CPU us/call",
            "p50 us",
            "p99 us",
            "MiB at most",
        ],
        &rows,
    );
}

/// Measures increasing numbers of configured HMCs, each with an open session.
fn hmcs(rig: &Rig) {
    let mut rows = Vec::new();
    for hmcs in HMCS {
        let setting = ServerSettings {
            hmcs,
            ..ServerSettings::default()
        };
        let peer = &rig.first(&setting);
        let memory_idle = process::memory(peer.pid(), "VmRSS");
        for index in 0..hmcs {
            hmc(&format!("hmc{index}"), false).calls(&rig.runtime, &peer.endpoint, 1);
        }
        let memory_used = process::memory(peer.pid(), "VmRSS");
        let measurement = rig.measure(peer, &hmc(&format!("hmc{}", hmcs - 1), false));
        rows.push(vec![
            hmcs.to_string(),
            format!("{:.0}", measurement.sample.rate),
            format!("{:.1}", measurement.cpu),
            format!("{:.0}", peer.ready.as_secs_f64() * 1e3),
            format!("{memory_idle:.1}"),
            format!("{memory_used:.1}"),
        ]);
    }
    print(
        &[
            "HMCs",
            "calls/s at 64",
            "CPU us/call",
            "ms to the first response",
            "MiB idle",
            "MiB with a session each",
        ],
        &rows,
    );
}

/// Measures increasing numbers of connections, nearly all of them idle.
fn connections(rig: &Rig) {
    let max = u32::try_from(CONNECTIONS[CONNECTIONS.len() - 1] + 100).unwrap();
    let max_files = getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
    let mut rows = Vec::new();
    for connections in CONNECTIONS {
        // The server accepts fewer connections if the limit of open files is lower.
        let needed_files = 2 * connections as u64 + RESERVED_FILES;
        if needed_files > max_files {
            println!(
                "Not measured: {connections} connections, which need {needed_files} open files"
            );
            continue;
        }
        let setting = ServerSettings {
            max_connections: max,
            ..ServerSettings::default()
        };
        let peer = &rig.first(&setting);
        let memory_before = process::memory(peer.pid(), "VmRSS");
        let open_connections: Vec<_> = rig.runtime.block_on(async {
            let mut open_connections = Vec::new();
            for _ in 0..connections {
                open_connections.push(load::connect(&peer.endpoint).await.unwrap());
            }
            open_connections
        });
        let memory_after = process::memory(peer.pid(), "VmRSS");
        let measurement = rig.measure(peer, &batch(false));
        drop(open_connections);
        rows.push(vec![
            connections.to_string(),
            format!("{:.0}", measurement.sample.rate),
            format!("{:.1}", measurement.cpu),
            format!("{:.0}", measurement.sample.p99),
            format!("{memory_after:.1}"),
            format!(
                "{:.1}",
                (memory_after - memory_before) * 1024.0 / connections as f64
            ),
        ]);
    }
    print(
        &[
            "connections",
            "calls/s at 64",
            "CPU us/call",
            "p99 us",
            "MiB",
            "KiB each",
        ],
        &rows,
    );
}
