//! Instructions of one call in the server process, a measure that is independent of other load on the machine.
//! Valgrind counts a run with few calls and a run with many; the difference excludes start and stop. SHA-256 is shown
//! separately, because Valgrind's processor has no instructions for it, so it weighs far more than on real processors.
//! The baselines and Envoy are counted for comparison. Only the figures of the server are enforced.

use std::{collections::HashSet, env, fs, path::Path, process::Command};

use crate::{
    load::Load,
    requests::{batch, hmc},
    rig::{Program, Rig},
    table::print,
};

/// Numbers of calls in the two runs.
const FEW_CALLS: usize = 100;
const MANY_CALLS: usize = 600;
/// Tolerated relative difference. If a figure is lower by more, the recorded figure must be updated.
const TOLERANCE: f64 = 0.05;

/// Thousands of instructions per call of the server with 1 and with 64 calls in flight, compiled with [`COMPILER`].
const BATCH: [f64; 2] = [127.5, 115.0];
const HMC: f64 = 152.0;
/// Version of the compiler for which the figures are valid. Other compilers generate different code.
const COMPILER: &str = "rustc 1.95.0";
/// Part of the names of the functions that compute SHA-256.
const SHA256: &str = "sha256_block";

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
        table.add(rig, program, &one, this.then_some(BATCH[0]));
        table.add(rig, program, &batch, this.then_some(BATCH[1]));
        if this {
            let hmc = hmc("hmc0", false).one_at_a_time();
            table.add(rig, program, &hmc, Some(HMC));
        }
    }
    let heading = [
        "server",
        "call",
        "in flight",
        "thousand instructions without SHA-256",
        "of SHA-256",
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
        let each =
            |few: u64, many: u64| (many - few) as f64 / (MANY_CALLS - FEW_CALLS) as f64 / 1e3;
        let sha256 = each(few.sha256, many.sha256);
        let each = each(few.total, many.total) - sha256;
        assert!(
            expected.is_none() || sha256 > 0.0,
            "the profile has no function {SHA256}: is the program stripped?"
        );
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
            format!("{sha256:.1}"),
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

/// Numbers of instructions of a run.
struct Instructions {
    total: u64,
    sha256: u64,
}

/// Returns the name of a server and the instructions of a whole run with this number of calls.
fn count(rig: &Rig, program: &Program, load: &Load, calls: usize) -> (String, Instructions) {
    let file = env::temp_dir().join(format!("useradmin-bench-{}", uuid::Uuid::new_v4()));
    let option = format!("--callgrind-out-file={}", file.display());
    let mut peer = rig.start(program, &["valgrind", "--tool=callgrind", &option]);
    load.calls(&rig.runtime, &peer.endpoint, calls);
    peer.stop();
    let instructions = read(&file).unwrap_or_else(|| panic!("{}", peer.log()));
    fs::remove_file(file).unwrap();
    (peer.name.clone(), instructions)
}

/// Reads a profile (Valgrind manual, "Callgrind Format Specification"). Returns `None` if it has no total.
fn read(file: &Path) -> Option<Instructions> {
    let text = fs::read_to_string(file).ok()?;
    // A name is defined once, as `(ID) NAME`, and is referred to as `(ID)` from then on.
    let id = |line: &str| Some(line.split_once('=')?.1.split_once(')')?.0.to_owned());
    let names = text
        .lines()
        .filter(|line| line.starts_with("fn=") || line.starts_with("cfn="));
    let sha256_ids: HashSet<_> = names
        .filter(|name| name.contains(SHA256))
        .filter_map(id)
        .collect();
    let (mut is_sha256, mut is_of_callee, mut sha256) = (false, false, 0);
    for line in text.lines() {
        if line.starts_with("fn=") {
            is_sha256 = id(line).is_some_and(|id| sha256_ids.contains(&id));
        } else if line.starts_with("calls=") {
            is_of_callee = true;
        } else if line.starts_with(|first: char| first.is_ascii_digit() || "+-*".contains(first)) {
            // A line number and a cost. The cost after `calls=` is that of the called function.
            let cost: Option<u64> = line.split(' ').nth(1).and_then(|cost| cost.parse().ok());
            if is_sha256 && !is_of_callee {
                sha256 += cost.unwrap_or(0);
            }
            is_of_callee = false;
        }
    }
    let total = text.lines().find_map(|line| line.strip_prefix("totals: "));
    Some(Instructions {
        total: total?.trim().parse().ok()?,
        sha256,
    })
}
