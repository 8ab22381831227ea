//! Instructions of one call in the server process, a measure that is independent of other load on the machine. Valgrind
//! counts a run with few calls and a run with many; the difference excludes start and stop. The baselines and Envoy are
//! counted for comparison. Only the figures of the server with one call in flight are enforced.

use std::{env, process::Command};

use crate::{
    load::Load,
    requests::{batch, hmc},
    rig::{Program, Rig},
    table::print,
};

const VALGRIND: [&str; 3] = [
    "valgrind",
    "--tool=callgrind",
    "--callgrind-out-file=/dev/null",
];
/// Numbers of calls in the two runs.
const FEW_CALLS: usize = 100;
const MANY_CALLS: usize = 600;
/// Tolerated relative difference. If a figure is lower by more, the recorded figure must be updated.
const TOLERANCE: f64 = 0.05;

/// Thousands of instructions per call of the server with one call in flight, compiled with [`COMPILER`].
const BATCH: f64 = 217.3;
const HMC: f64 = 238.7;
/// Version of the compiler for which the figures are valid. Other compilers generate different code.
const COMPILER: &str = "rustc 1.95.0";

/// Counts the instructions and compares those of the server with the recorded figures.
pub fn run(rig: &Rig) -> bool {
    let mut table = Table {
        rows: Vec::new(),
        good: true,
    };
    let batch = batch(false);
    let one = batch.clone().one_at_a_time();
    for (at, program) in rig.programs().iter().enumerate() {
        let this = at == 0;
        table.add(rig, program, &one, this.then_some(BATCH));
        table.add(rig, program, &batch, None);
        if this {
            let hmc = hmc("hmc0", false).one_at_a_time();
            table.add(rig, program, &hmc, Some(HMC));
        }
    }
    let heading = [
        "server",
        "call",
        "in flight",
        "thousand instructions",
        "expected",
        "ratio",
    ];
    print(&heading, &table.rows);
    let compiler = compiler();
    if !compiler.starts_with(COMPILER) {
        println!("No verdict: the figures are those of {COMPILER}, and this is {compiler}");
        return true;
    }
    if !table.good {
        println!(
            "MISS: more than {TOLERANCE} from the figures in {}",
            file!()
        );
    }
    table.good
}

struct Table {
    rows: Vec<Vec<String>>,
    /// Whether all figures are within the tolerance.
    good: bool,
}

impl Table {
    fn add(&mut self, rig: &Rig, program: &Program, load: &Load, expected: Option<f64>) {
        let [(_, few), (name, many)] =
            [FEW_CALLS, MANY_CALLS].map(|calls| count(rig, program, load, calls));
        let each = (many - few) as f64 / (MANY_CALLS - FEW_CALLS) as f64 / 1e3;
        let ratio = expected.map(|expected| each / expected);
        self.good &= ratio.is_none_or(|ratio| (ratio - 1.0).abs() <= TOLERANCE);
        let optional = |figure: Option<f64>, digits| {
            figure.map_or_else(String::new, |figure| format!("{figure:.digits$}"))
        };
        self.rows.push(vec![
            name,
            load.rpc.rsplit('/').next().unwrap().to_owned(),
            load.in_flight.to_string(),
            format!("{each:.1}"),
            optional(expected, 1),
            optional(ratio, 3),
        ]);
    }
}

fn compiler() -> String {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let log = Command::new(rustc).arg("--version").output();
    log.map_or_else(
        |_| "no rustc".to_owned(),
        |log| String::from_utf8_lossy(&log.stdout).trim().to_owned(),
    )
}

/// Returns the name of a server and the number of instructions of a whole run with this number of calls.
fn count(rig: &Rig, program: &Program, load: &Load, calls: usize) -> (String, u64) {
    let mut peer = rig.start(program, &VALGRIND);
    load.calls(&rig.runtime, peer.address, calls);
    peer.stop();
    let log = peer.log();
    let collected = log
        .lines()
        .find_map(|line| line.split("Collected : ").nth(1));
    let collected = collected
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or_else(|| panic!("{log}"));
    (peer.name.clone(), collected)
}
