//! Compares the server with other servers in one run: throughput, latency, CPU time and memory, absolute and relative.
//! docs/performance.md describes the method and the results.
//!
//! `cargo bench --bench server -- --help`

#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::disallowed_methods,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a program for developers, whose figures have few digits"
)]

mod baseline;
mod cpus;
mod direct;
mod disk;
mod envoy;
mod growth;
mod instructions;
mod load;
mod peer;
mod peers;
mod process;
mod requests;
mod rig;
mod store;
mod table;
mod tls;
mod upstream;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::{Parser, Subcommand};
use mimalloc::MiMalloc;

use self::{rig::Rig, tls::Tls};

// The allocator of the server, so that the baselines do not differ in this respect.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    benchmark: Option<Benchmark>,
    /// Number of measurements of each kind; the median is reported.
    #[arg(long, default_value_t = 5, global = true)]
    rounds: usize,
    /// Duration of a measurement, in milliseconds.
    #[arg(long, default_value_t = 1500, global = true)]
    millis: u64,
    /// Path of the server, by default the one of this build. Can be repeated to compare several builds.
    #[arg(long, global = true)]
    server: Vec<PathBuf>,
    /// Path of Envoy. If it is not installed, the server is compared with the baselines only.
    #[arg(long, global = true, default_value = "envoy")]
    envoy: PathBuf,
    /// Use TLS 1.3 with client certificates towards the callers, and TLS towards the upstreams, with HTTP/2 for Azure
    /// Batch. The baselines are left out.
    #[arg(long, global = true)]
    tls: bool,
    /// Added by `cargo bench`; ignored.
    #[arg(long, hide = true, global = true)]
    bench: bool,
}

#[derive(Clone, Copy, Subcommand)]
enum Benchmark {
    /// Compare the server, the baselines and Envoy with 1 and with 64 calls in flight (the default).
    Peers,
    /// Compare calls to an HMC with calls to an Azure Batch account.
    Hmc,
    /// Compare the throughput with a synced audit log to the sync latency of the disk.
    Disk,
    /// Compare a synced audit log in a file with one in PostgreSQL, if USERADMIN_POSTGRES_BIN names its programs.
    Store,
    /// Measure 1 to 1,024 calls in flight, 1 to 10,000 connections and 1 to 200 HMCs.
    Growth,
    /// Compare the CPU time of a call on one and on two CPUs.
    Cpus,
    /// Count the instructions of one call with valgrind. Exits with 1 if they differ from the recorded numbers.
    Instructions,
    /// Run a baseline. The program starts itself with this command.
    #[command(hide = true)]
    Baseline(baseline::Arguments),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let measure: fn(&Rig) -> bool = match arguments.benchmark.unwrap_or(Benchmark::Peers) {
        Benchmark::Peers => peers::compare,
        Benchmark::Hmc => peers::hmc,
        Benchmark::Disk => disk::run,
        Benchmark::Store => store::run,
        Benchmark::Growth => growth::run,
        Benchmark::Cpus => growth::cpus,
        Benchmark::Instructions => instructions::run,
        Benchmark::Baseline(arguments) => {
            baseline::run(arguments);
            return ExitCode::SUCCESS;
        }
    };
    let mut servers = arguments.server;
    if servers.is_empty() {
        servers.push(env!("CARGO_BIN_EXE_useradmin").into());
    }
    let time = Duration::from_millis(arguments.millis);
    let rig = Rig::new(
        arguments.rounds,
        time,
        servers,
        arguments.envoy,
        arguments.tls.then(Tls::new),
    );
    println!("{}", process::machine());
    if measure(&rig) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
