//! `audit report`: prints the calls of an audit log that match filters.

use std::{
    io::{self, ErrorKind, Write},
    process::ExitCode,
};

use clap::Args;
use time::{Duration, OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    exit::{column, fail, print_error},
    faults::{Faults, unreadable},
    source::{OpenSource, Source},
};
use crate::audit::{Call, Filter, ReportError, ReportTotals, report, report_database};

/// Exit code for lines that are not records, and for a failed output.
const INCOMPLETE: u8 = 1;
/// Exit code for an invalid argument or configuration, and for a log that cannot be read.
const INVALID: u8 = 2;
const TIME_FORMATS: &str = "want a time stamp such as 2026-11-30T12:00:00Z, a date such as 2026-11-30 (midnight UTC), \
     or a duration back from now such as 30m, 24h or 7d";
const SECONDS: [(char, i64); 4] = [('s', 1), ('m', 60), ('h', 60 * 60), ('d', 24 * 60 * 60)];

#[derive(Args)]
pub struct Report {
    #[command(flatten)]
    source: Source,
    /// Only calls for the user with this name or ID.
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Only calls of this caller. An empty ID selects calls without a verified caller.
    #[arg(long, value_name = "ID")]
    caller: Option<String>,
    /// Only calls at this time or later: 2026-11-30T12:00:00Z, 2026-11-30 (UTC), or 24h (before now).
    #[arg(long, value_name = "TIME", value_parser = time)]
    since: Option<OffsetDateTime>,
    /// Only calls before this time.
    #[arg(long, value_name = "TIME", value_parser = time)]
    until: Option<OffsetDateTime>,
    /// Print the records of the calls, exactly as they are in the log.
    #[arg(long)]
    json: bool,
}

/// Parses a time stamp, a date, or a duration back from now.
fn time(text: &str) -> Result<OffsetDateTime, String> {
    let date = || OffsetDateTime::parse(&format!("{text}T00:00:00Z"), &Rfc3339);
    let time = OffsetDateTime::parse(text, &Rfc3339).or_else(|_| date());
    let time = time.ok().or_else(|| before_now(text));
    time.ok_or_else(|| TIME_FORMATS.to_owned())
}

fn before_now(text: &str) -> Option<OffsetDateTime> {
    let (unit, seconds) = SECONDS.iter().find(|(unit, _)| text.ends_with(*unit))?;
    let number = text.strip_suffix(*unit)?;
    // `parse` would accept a sign.
    let number = number
        .bytes()
        .all(|byte| byte.is_ascii_digit())
        .then_some(number)?;
    let seconds = number.parse::<i64>().ok()?.checked_mul(*seconds)?;
    OffsetDateTime::now_utc().checked_sub(Duration::seconds(seconds))
}

pub async fn run(arguments: Report) -> ExitCode {
    let Report {
        source,
        user,
        caller,
        since,
        until,
        json,
    } = arguments;
    if since
        .zip(until)
        .is_some_and(|(since, until)| since >= until)
    {
        return fail("`--since` is not before `--until`", INVALID);
    }
    let filter = Filter {
        user,
        caller,
        since,
        until,
    };
    let source = match source.open() {
        Ok(source) => source,
        Err(error) => return fail(&error, INVALID),
    };
    let mut out = io::stdout().lock();
    let mut faults = Faults::default();
    let print = |call: &Call| write_call(&mut out, call, json);
    let fault = |finding| faults.add(&finding);
    let result = match &source {
        OpenSource::Files(files) => report(files, &filter, print, fault),
        OpenSource::Database(database) => report_database(database, &filter, print, fault).await,
    };
    let result = result.and_then(|totals| {
        out.flush().map_err(ReportError::Output)?;
        Ok(totals)
    });
    let faults = faults.finish();
    match result {
        // The reader, such as `head`, has closed the pipe early.
        Err(ReportError::Output(error)) if error.kind() == ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(ReportError::Output(error)) => fail(&format!("standard output: {error}"), INCOMPLETE),
        Err(ReportError::Unreadable(log)) => fail(&unreadable(&log), INVALID),
        Ok(totals) => {
            print_error(&summary(&totals, faults));
            if faults > 0 {
                ExitCode::from(INCOMPLETE)
            } else {
                ExitCode::SUCCESS
            }
        }
    }
}

/// Writes one line for a call or a finding, or the lines of its records.
fn write_call(out: &mut impl Write, call: &Call, json: bool) -> io::Result<()> {
    if json {
        return call.lines().try_for_each(|line| {
            out.write_all(line)?;
            out.write_all(b"\n")
        });
    }
    let [id, caller, rpc, target, user, reason] =
        ["request_id", "caller", "rpc", "target", "user", "reason"].map(|key| call.text(key));
    let (outcome, finding) = (call.outcome(), call.finding());
    let columns = [
        call.time(),
        id,
        caller,
        rpc,
        target,
        user,
        outcome,
        reason,
        finding,
    ];
    write!(out, "{}", columns.map(column).join(" "))?;
    if call.count() > 1 {
        write!(out, " count={}", call.count())?;
    }
    writeln!(out)
}

/// Returns the last line on standard error, so that standard output has only calls.
fn summary(totals: &ReportTotals, faults: u64) -> String {
    let ReportTotals {
        records,
        calls,
        open,
        findings,
    } = totals;
    let text =
        format!("{records} records: {calls} calls match, {open} of them open, {findings} findings");
    if faults == 0 {
        return text;
    }
    format!("{text}; {faults} lines are not records, and their calls may be missing")
}
