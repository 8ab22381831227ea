//! The commands of the audit log, and `audit verify`, which checks files for changes.

use std::{io::Write as _, path::PathBuf, process::ExitCode};

use clap::{Args, Subcommand};

use super::{
    exit::{display_path, fail},
    faults::{Faults, unreadable},
    help,
    reconcile::{self, Reconcile},
    report::{self, Report},
};
use crate::audit::{Head, Summary, VerifyOptions, verify};

/// Exit code for a faulty log.
const FAULTY: u8 = 1;
/// Exit code for a file that cannot be read.
const UNREADABLE: u8 = 2;
const HASH_DIGITS: usize = 64;

#[derive(Subcommand)]
pub enum Audit {
    /// Check whether files of the audit log are complete and unchanged. Several files form one chain.
    #[command(after_long_help = help::AUDIT_VERIFY.text())]
    Verify(Verify),
    /// Read the HMC users of deletions whose outcome is unknown, and record whether they exist.
    ///
    /// A server does the same when it starts. Stop the server first, or use --dry-run.
    ///
    /// Azure Batch has no way to read a user, so its deletions are only listed.
    #[command(after_long_help = help::AUDIT_RECONCILE.text())]
    Reconcile(Reconcile),
    /// Print the calls in files of the audit log, such as the deletions of a user.
    ///
    /// Prints one line for each call, and one for each finding about the user of an unknown outcome.
    ///
    /// Columns: time, request ID, caller, rpc, target, user, outcome, reason, finding. An empty one is a hyphen.
    #[command(after_long_help = help::AUDIT_REPORT.text())]
    Report(Report),
}

#[derive(Args)]
pub struct Verify {
    /// The files, oldest first.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The chain may begin anywhere, because older files are missing.
    #[arg(long)]
    partial: bool,
    /// A record that must be present, as in the field `head` of the server's log. May be repeated.
    #[arg(long, value_name = "SEQ:HASH", value_parser = head)]
    contains: Vec<Head>,
}

fn head(text: &str) -> Result<Head, String> {
    let parts = text.split_once(':');
    let found = parts.and_then(|(seq, hash)| {
        let fits = hash.len() == HASH_DIGITS && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
        let seq = seq.parse().ok().filter(|seq| *seq > 0)?;
        fits.then(|| Head {
            seq,
            hash: hash.to_ascii_lowercase(),
        })
    });
    // Accepts `0:`, the head of an empty log, which every log contains.
    let found = found.or_else(|| (text == "0:").then(Head::default));
    found.ok_or_else(|| "want SEQ:HASH, a number and 64 hexadecimal digits".to_owned())
}

pub async fn run(command: Audit) -> ExitCode {
    match command {
        Audit::Verify(arguments) => verify_files(arguments),
        Audit::Reconcile(arguments) => reconcile::run(arguments).await,
        Audit::Report(arguments) => report::run(arguments),
    }
}

fn verify_files(arguments: Verify) -> ExitCode {
    let Verify {
        files,
        partial,
        contains,
    } = arguments;
    let options = VerifyOptions {
        files,
        partial,
        contains,
    };
    let mut faults = Faults::default();
    let verified = verify(&options, |finding| faults.add(&finding));
    let faults = faults.finish();
    match verified {
        Err(file) => fail(&unreadable(&file), UNREADABLE),
        Ok(_) if faults > 0 => ExitCode::from(FAULTY),
        Ok(summary) => {
            // A closed standard output is ignored, because the exit code is the result.
            let _ = writeln!(std::io::stdout(), "{}", totals(&options.files, &summary));
            ExitCode::SUCCESS
        }
    }
}

/// Returns the line that is printed for files without faults.
fn totals(files: &[PathBuf], summary: &Summary) -> String {
    let names: Vec<_> = files.iter().map(|file| display_path(file)).collect();
    let text = format!("{}: {} records", names.join(" "), summary.records);
    if summary.records == 0 {
        return text;
    }
    let Summary {
        first, head, open, ..
    } = summary;
    let last = head.seq;
    format!("{text}, seq {first} to {last}, {open} open intents, head {head}")
}
