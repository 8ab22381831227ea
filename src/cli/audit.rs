//! The commands of the audit log, and `audit verify`, which checks files for changes.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, Subcommand};

use super::{
    exit::{escape_control, fail, print_error},
    help,
    reconcile::{self, Reconcile},
};
use crate::audit::{Finding, Head, Summary, VerifyOptions, verify};

/// Maximum number of faults that are printed. A single fault at the beginning of a file can cause thousands.
const MAX_FAULTS: u64 = 100;
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
    let mut faults = 0;
    let verified = verify(&options, |finding| {
        faults += u64::from(!finding.note);
        if finding.note || faults <= MAX_FAULTS {
            print_error(&line(&finding));
        }
    });
    if faults > MAX_FAULTS {
        print_error(&format!("and {} more", faults - MAX_FAULTS));
    }
    match verified {
        Err(unreadable) => {
            let text = format!("{}: {}", display_path(unreadable.file), unreadable.error);
            fail(&text, UNREADABLE)
        }
        Ok(_) if faults > 0 => ExitCode::from(FAULTY),
        Ok(summary) => {
            // A closed standard output is ignored, because the exit code is the result.
            let _ = writeln!(std::io::stdout(), "{}", totals(&options.files, &summary));
            ExitCode::SUCCESS
        }
    }
}

fn line(finding: &Finding<'_>) -> String {
    let note = if finding.note { "note: " } else { "" };
    let (file, line) = (display_path(finding.file), finding.line);
    format!("{file}:{line}: {note}{}", finding.text)
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

fn display_path(file: &Path) -> String {
    escape_control(&file.display().to_string())
}
