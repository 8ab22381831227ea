//! Load on the server, upstreams that inject faults, and afterwards a comparison of all records: what callers received,
//! what the audit log contains, what the upstreams did. Exits with 1 if a single call is lost or reported wrongly, or a
//! goal is missed.
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

use self::scenarios::{Amount, Scenario};

#[derive(Parser)]
struct Arguments {
    #[arg(value_enum, default_value_t = Scenario::Faults)]
    scenario: Scenario,
    #[command(flatten)]
    amount: Amount,
}

fn main() -> ExitCode {
    // The server is this program again, so that it has a memory of its own, and the product's own command line.
    if std::env::args().nth(1).as_deref() == Some("serve") {
        return useradmin::cli::main();
    }
    let Arguments { scenario, amount } = Arguments::parse();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    if runtime.block_on(scenarios::run(scenario, &amount)) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
