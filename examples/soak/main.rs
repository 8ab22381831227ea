//! Runs load on a server whose upstreams inject faults, then compares all records: the responses to callers, the audit
//! log, and the requests that the upstreams carried out. Exits with 1 if a single call is lost or reported incorrectly,
//! or if a goal is not met.
//!
//! `cargo run --release --example soak -- faults --seconds 1200`

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a program for developers"
)]

mod baseline;
mod environment;
mod figures;
mod health;
mod load;
mod log;
mod reconcile;
mod scenarios;
mod upstream;

use std::process::ExitCode;

use clap::Parser;

use self::scenarios::{LoadOptions, Scenario};

#[derive(Parser)]
struct Arguments {
    #[arg(value_enum, default_value_t = Scenario::Faults)]
    scenario: Scenario,
    #[command(flatten)]
    options: LoadOptions,
}

fn main() -> ExitCode {
    // The server is a separate process of this program, so that its memory can be measured. It uses the product's
    // command line.
    if std::env::args().nth(1).as_deref() == Some("serve") {
        return useradmin::cli::main();
    }
    let Arguments { scenario, options } = Arguments::parse();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    if runtime.block_on(scenarios::run(scenario, &options)) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
