//! The command line: parses the arguments and runs a command.

mod audit;
mod exit;
mod health;
mod run;
#[cfg(feature = "sandbox")]
mod sandbox;

use std::{
    io::{ErrorKind, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Args, Parser, Subcommand};
use tokio::runtime::Builder;

#[cfg(feature = "sandbox")]
pub use self::sandbox::sandbox_config;
use self::{
    exit::{fail, print_error},
    run::run,
};
use crate::{config, proto, signals, telemetry};

/// Exit code of `serve` and `check-config` for an invalid configuration.
const BAD_CONFIGURATION: u8 = 2;

/// Deletes users of Azure Batch compute nodes and of IBM Z HMCs, behind one gRPC service.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve gRPC.
    Serve(Serve),
    /// Check a configuration file: exit 0, or 2 with every error on standard error.
    CheckConfig {
        /// The file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Check the health of a server: exit 0 if it serves, 1 otherwise.
    Health(health::Health),
    /// Work with the audit log.
    #[command(subcommand)]
    Audit(audit::Audit),
    /// Write the API to standard output as a `FileDescriptorSet`, with health and all details of errors: for `grpcurl
    /// -protoset`, and for generators of clients.
    Protoset,
}

#[derive(Args)]
#[cfg_attr(
    feature = "sandbox",
    command(group(clap::ArgGroup::new("source").required(true).args(["config", "sandbox"])))
)]
struct Serve {
    /// The configuration file.
    #[arg(long, value_name = "FILE")]
    #[cfg_attr(feature = "sandbox", arg(conflicts_with = "listen"))]
    config: Option<PathBuf>,
    #[cfg(feature = "sandbox")]
    #[command(flatten)]
    sandbox: sandbox::Arguments,
}

/// Runs the program.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("cannot start: {error}"), 1),
    };
    let code = runtime.block_on(async {
        match arguments.command {
            Command::CheckConfig { config } => match config::check_file(&config) {
                Ok(config) => {
                    for warning in &config.source.warnings {
                        print_error(warning);
                    }
                    ExitCode::SUCCESS
                }
                Err(errors) => fail(&errors.to_string(), BAD_CONFIGURATION),
            },
            Command::Health(health) => health::run(health).await,
            Command::Serve(serve) => self::serve(serve).await,
            Command::Audit(command) => audit::run(command),
            Command::Protoset => protoset(),
        }
    });
    // The time limits of all remaining tasks have expired.
    runtime.shutdown_background();
    code
}

async fn serve(arguments: Serve) -> ExitCode {
    let ignored = signals::ignore_unused();
    let config = match arguments.config.as_deref().map(config::load).transpose() {
        Ok(config) => config,
        Err(errors) => return fail(&errors.to_string(), BAD_CONFIGURATION),
    };
    let _log = match telemetry::start() {
        Ok(log) => log,
        Err(error) => return fail(&format!("cannot start a thread: {error}"), 1),
    };
    if let Err(error) = ignored {
        tracing::warn!(%error, "signal handlers not installed");
    }
    let served = match config {
        Some(config) => {
            config.source.log_warnings();
            run(config, |_, _| {}).await
        }
        #[cfg(feature = "sandbox")]
        None => sandbox::run(arguments.sandbox).await,
        #[cfg(not(feature = "sandbox"))]
        None => return fail("`--config FILE` is required", BAD_CONFIGURATION),
    };
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            telemetry::fatal(&error);
            ExitCode::FAILURE
        }
    }
}

fn protoset() -> ExitCode {
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(&proto::descriptor_set());
    match written.and_then(|()| stdout.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        // The reader has closed the pipe early, such as `head`.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => fail(&format!("standard output: {error}"), 1),
    }
}
