//! The server beside its peers, in one run: throughput, latency, CPU and memory of each, and what they are to each other.
//! docs/performance.md has the method and the figures.
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
mod table;
mod upstream;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::{Parser, Subcommand};
use mimalloc::MiMalloc;

use self::rig::Rig;

// As in the server, so that the baselines differ from it only in what they do.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    what: Option<What>,
    /// Measurements of each kind; the median counts.
    #[arg(long, default_value_t = 5, global = true)]
    rounds: usize,
    /// How long a measurement takes, in milliseconds.
    #[arg(long, default_value_t = 1500, global = true)]
    millis: u64,
    /// The server; by default the one of this build. Given again, others are measured beside it.
    #[arg(long, global = true)]
    server: Vec<PathBuf>,
    /// Envoy; by default `envoy` of the PATH. Without it the baselines alone are measured beside the server.
    #[arg(long, global = true, default_value = "envoy")]
    envoy: PathBuf,
    /// What `cargo bench` adds.
    #[arg(long, hide = true, global = true)]
    bench: bool,
}

#[derive(Clone, Copy, Subcommand)]
enum What {
    /// The server, the baselines and Envoy, at 1 and at 64 calls in flight (the default).
    Peers,
    /// Calls to an HMC beside calls to an Azure Batch account.
    Hmc,
    /// The synced audit log beside what the disk can do.
    Disk,
    /// 1 to 1,024 calls in flight, 1 to 10,000 connections, 1 to 200 HMCs.
    Growth,
    /// Instructions of one call, counted by valgrind; ends with 1 if the server's differ from those written down.
    Instructions,
    /// Runs a baseline; this is how the program starts them.
    #[command(hide = true)]
    Baseline(baseline::Arguments),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let measure: fn(&Rig) -> bool = match arguments.what.unwrap_or(What::Peers) {
        What::Peers => peers::compare,
        What::Hmc => peers::hmc,
        What::Disk => disk::run,
        What::Growth => growth::run,
        What::Instructions => instructions::run,
        What::Baseline(arguments) => {
            baseline::run(arguments);
            return ExitCode::SUCCESS;
        }
    };
    let mut servers = arguments.server;
    if servers.is_empty() {
        servers.push(env!("CARGO_BIN_EXE_useradmin").into());
    }
    let time = Duration::from_millis(arguments.millis);
    let rig = Rig::new(arguments.rounds, time, servers, arguments.envoy);
    println!("{}", process::machine());
    if measure(&rig) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
