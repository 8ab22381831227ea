//! The commands of the audit log, and `audit verify`, which checks a log for changes.

use std::{io::Write as _, process::ExitCode};

use clap::{Args, Subcommand};

use super::{
    exit::fail,
    faults::{Faults, unreadable},
    help,
    reconcile::{self, Reconcile},
    report::{self, Report},
    source::{OpenSource, Source},
};
use crate::audit::{Head, Summary, VerifyOptions, verify, verify_database};

/// Exit code for a faulty log.
const FAULTY: u8 = 1;
/// Exit code for a log that cannot be read, and for an invalid configuration.
const UNREADABLE: u8 = 2;
const HASH_DIGITS: usize = 64;

#[derive(Subcommand)]
pub enum Audit {
    /// Check whether the audit log is complete and unchanged. Several files form one chain.
    #[command(after_long_help = help::AUDIT_VERIFY.text())]
    Verify(Verify),
    /// Read the HMC users of deletions whose outcome is unknown, and record whether they exist.
    ///
    /// A server does the same when it starts. If the log is a file, stop the server first, or use --dry-run.
    ///
    /// Azure Batch has no way to read a user, so its deletions are only listed.
    #[command(after_long_help = help::AUDIT_RECONCILE.text())]
    Reconcile(Reconcile),
    /// Print the calls in the audit log, such as the deletions of a user.
    ///
    /// Prints one line for each call, and one for each finding about the user of an unknown outcome.
    ///
    /// Columns: time, request ID, caller, rpc, target, user, outcome, reason, finding. An empty one is a hyphen.
    #[command(after_long_help = help::AUDIT_REPORT.text())]
    Report(Report),
}

#[derive(Args)]
pub struct Verify {
    #[command(flatten)]
    source: Source,
    /// The chain may begin anywhere, because older files or records are missing.
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
        Audit::Verify(arguments) => verify_log(arguments).await,
        Audit::Reconcile(arguments) => reconcile::run(arguments).await,
        Audit::Report(arguments) => report::run(arguments).await,
    }
}

async fn verify_log(arguments: Verify) -> ExitCode {
    let Verify {
        source,
        partial,
        contains,
    } = arguments;
    let source = match source.open() {
        Ok(source) => source,
        Err(error) => return fail(&error, UNREADABLE),
    };
    let mut options = VerifyOptions { partial, contains };
    // Every log contains the head of an empty log.
    options.contains.retain(|head| head.seq > 0);
    let mut faults = Faults::default();
    let report = |finding| faults.add(&finding);
    let verified = match &source {
        OpenSource::Files(files) => verify(files, &options, report),
        OpenSource::Database(database) => verify_database(database, &options, report).await,
    };
    let faults = faults.finish();
    match verified {
        Err(log) => fail(&unreadable(&log), UNREADABLE),
        Ok(_) if faults > 0 => ExitCode::from(FAULTY),
        Ok(summary) => {
            // A closed standard output is ignored, because the exit code is the result.
            let _ = writeln!(std::io::stdout(), "{}", totals(&source, &summary));
            ExitCode::SUCCESS
        }
    }
}

/// Returns the line that is printed for a log without faults.
fn totals(source: &OpenSource, summary: &Summary) -> String {
    let text = format!("{source}: {} records", summary.records);
    if summary.records == 0 {
        return text;
    }
    let Summary {
        first, head, open, ..
    } = summary;
    let last = head.seq;
    format!("{text}, seq {first} to {last}, {open} open intents, head {head}")
}
