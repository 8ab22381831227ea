//! The instructions of one call, from the first byte in to the last byte out: a measure that no other work on the machine
//! disturbs. Valgrind counts; what start and stop take is subtracted, by counting a run with few calls and one with many.

use std::{
    env,
    path::Path,
    process::{Command, Stdio},
};

use crate::{
    load::Load,
    peer::{Peer, Setting},
    requests::{batch, hmc},
    rig::Rig,
    table::print,
};

const FEW: usize = 100;
const MANY: usize = 600;
/// More than this is worse, and less is a reason to write down the new figure.
const TOLERANCE: f64 = 0.05;

/// What a call takes with the compiler of [`COMPILER`], in thousands.
const EXPECTED: [(&str, f64); 2] = [("DeleteBatchNodeUser", 272.3), ("DeleteHmcUser", 284.4)];
/// Another one makes other code.
const COMPILER: &str = "rustc 1.95.0";

/// Counts, and compares.
pub fn run(rig: &Rig) -> bool {
    let program = &rig.servers[0];
    let mut good = true;
    let rows = EXPECTED.map(|(rpc, expected)| {
        let load = match rpc {
            "DeleteBatchNodeUser" => batch(false),
            _ => hmc("hmc0", false),
        };
        let [few, many] = [FEW, MANY].map(|calls| count(rig, program, &load, calls));
        let each = (many - few) as f64 / (MANY - FEW) as f64 / 1e3;
        let ratio = each / expected;
        good &= (1.0 - TOLERANCE..=1.0 + TOLERANCE).contains(&ratio);
        vec![
            rpc.to_owned(),
            format!("{each:.1}"),
            format!("{expected:.1}"),
            format!("{ratio:.3}"),
        ]
    });
    print(
        &["call", "thousand instructions", "expected", "ratio"],
        &rows,
    );
    let compiler = compiler();
    if !compiler.starts_with(COMPILER) {
        println!("No verdict: the figures are those of {COMPILER}, and this is {compiler}");
        return true;
    }
    if !good {
        println!(
            "MISS: more than {TOLERANCE} from the figures in {}",
            file!()
        );
    }
    good
}

fn compiler() -> String {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let told = Command::new(rustc).arg("--version").output();
    told.map_or_else(
        |_| "no rustc".to_owned(),
        |told| String::from_utf8_lossy(&told.stdout).trim().to_owned(),
    )
}

/// Of a whole run with so many calls, one after the other.
fn count(rig: &Rig, program: &Path, load: &Load, calls: usize) -> u64 {
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]);
    valgrind.arg(program).stdin(Stdio::null());
    let mut peer = Peer::server(&rig.runtime, valgrind, rig.upstream, &Setting::default());
    load.calls(&rig.runtime, peer.address, calls);
    peer.stop();
    let told = peer.told();
    let collected = told
        .lines()
        .find_map(|line| line.split("Collected : ").nth(1));
    collected
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or_else(|| panic!("{told}"))
}
