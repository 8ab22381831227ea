//! The command line: parses the arguments and runs a command.

mod audit;
mod check_config;
mod exit;
mod faults;
mod generate;
mod health;
mod help;
mod reconcile;
mod report;
mod run;
#[cfg(feature = "sandbox")]
mod sandbox;
mod source;
mod store;

use std::{mem, path::PathBuf, process::ExitCode};

use clap::{Args, CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;
use tokio::runtime::Builder;

#[cfg(feature = "sandbox")]
pub use self::sandbox::sandbox_config;
use self::{
    exit::{BAD_CONFIGURATION, fail},
    run::run,
};
use crate::{config, signals, telemetry};

/// Delete users of Azure Batch compute nodes and of IBM Z HMCs through one gRPC API.
#[derive(Parser)]
#[command(version, after_long_help = help::PROGRAM.text())]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve the gRPC API until SIGTERM or SIGINT.
    #[command(after_long_help = help::SERVE.text())]
    Serve(Serve),
    /// Check a configuration file and the files that it names.
    #[command(after_long_help = help::CHECK_CONFIG.text())]
    CheckConfig(check_config::CheckConfig),
    /// Check whether a server is serving.
    #[command(after_long_help = help::HEALTH.text())]
    Health(health::Health),
    /// Work with the audit log.
    #[command(subcommand, after_long_help = help::AUDIT.text())]
    Audit(audit::Audit),
    /// Work with the database that replicas share.
    #[command(subcommand, after_long_help = help::STORE.text())]
    Store(store::Store),
    /// Write the API, with health and error details, as a `FileDescriptorSet` to standard output.
    #[command(after_long_help = help::PROTOSET.text())]
    Protoset,
    /// Write a completion script for a shell to standard output.
    #[command(after_long_help = help::COMPLETIONS.text())]
    Completions {
        /// Shell to generate the script for.
        shell: Shell,
    },
    /// Write the man pages: useradmin.1, and one for each command.
    #[command(after_long_help = help::MAN.text())]
    Man {
        /// The folder, which must exist.
        #[arg(value_name = "FOLDER")]
        folder: PathBuf,
    },
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
    /// The format of the log on standard error [default: text in a terminal, otherwise json].
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<telemetry::LogFormat>,
    #[cfg(feature = "sandbox")]
    #[command(flatten)]
    sandbox: sandbox::Arguments,
}

/// Parses the arguments, runs the subcommand, and returns the exit code.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("cannot start: {error}"), 1),
    };
    let code = runtime.block_on(async {
        match arguments.command {
            Command::CheckConfig(arguments) => check_config::run(arguments).await,
            Command::Health(health) => health::run(health).await,
            Command::Serve(serve) => self::serve(serve).await,
            Command::Audit(command) => audit::run(command).await,
            Command::Store(command) => store::run(command).await,
            Command::Protoset => generate::protoset(),
            Command::Completions { shell } => generate::completions(shell, Arguments::command()),
            Command::Man { folder } => generate::man(&folder, Arguments::command()),
        }
    });
    // Tasks that still run have exceeded their time limits, so the process does not wait for them. The runtime is not
    // shut down, because the writer of the audit log may still wait for it.
    mem::forget(runtime);
    code
}

async fn serve(arguments: Serve) -> ExitCode {
    let ignored = signals::ignore_unused();
    let config = match arguments.config.as_deref().map(config::load).transpose() {
        Ok(config) => config,
        Err(errors) => return fail(&errors.to_string(), BAD_CONFIGURATION),
    };
    let _log = match telemetry::start(arguments.log_format) {
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
