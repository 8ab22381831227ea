//! `audit reconcile`: reads the users of deletions whose outcome is unknown, and records whether they exist.

use std::{io, path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use clap::Args;
use futures_util::StreamExt as _;
use tokio::{select, time::timeout};

use super::exit::{BAD_CONFIGURATION, column, escape_control, fail, print, print_error};
use crate::{
    audit::{self, Audit, Case, CaseList, Log},
    config::{self, Config},
    error::Failure,
    metrics::Metrics,
    postgres::Database,
    service::open_database,
    service::reconcile::{CheckedCase, UserState, reconcile, scope},
    signals, telemetry,
    upstream::registry::Targets,
};

/// Maximum number of deletions of each kind. More can be reconciled by running the command again.
const MAX_CASES: usize = 10_000;
/// Time limit for closing the sessions on the targets, and for writing the rest of the records.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// What settles the outcome of a deletion whose user cannot be read.
const HOW_TO_SETTLE: &str = "repeat the deletion with allow_missing: DELETED and ALREADY_ABSENT both mean that the user no longer exists";

#[derive(Args)]
pub struct Reconcile {
    /// The configuration file of the server. It names the audit log and the HMCs.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Print the findings, and write nothing to the audit log. A server may be running.
    #[arg(long)]
    dry_run: bool,
}

/// A message for standard error, and the exit code.
type Error = (String, u8);

pub async fn run(arguments: Reconcile) -> ExitCode {
    let ignored = signals::ignore_unused();
    let config = match config::check_file(&arguments.config) {
        Ok(config) => config,
        Err(errors) => return fail(&errors.to_string(), BAD_CONFIGURATION),
    };
    let _log = match telemetry::start(None) {
        Ok(log) => log,
        Err(error) => return fail(&format!("cannot start a thread: {error}"), 1),
    };
    if let Err(error) = ignored {
        tracing::warn!(%error, "signal handlers not installed");
    }
    match reconcile_log(&config, arguments.dry_run).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err((text, code)) => fail(&text, code),
    }
}

/// Reconciles the audit log of a configuration, and prints the findings. Returns whether all outcomes are known now.
async fn reconcile_log(config: &Config, dry_run: bool) -> Result<bool, Error> {
    let metrics = Arc::<Metrics>::default();
    let database = open_database(config, &metrics).await;
    let database = database.map_err(|error| (error, BAD_CONFIGURATION))?;
    let Some(log) = Log::new(&config.audit, database.as_ref()) else {
        let text = "`file` in [audit] is not a file, so there are no records to read";
        return Err((text.to_owned(), BAD_CONFIGURATION));
    };
    let name = escape_control(&log.to_string());
    // Servers and this command can write to a database at the same time.
    let in_use = match &log {
        Log::File(file) => audit::is_in_use(file).map_err(|error| not_readable(&name, &error))?,
        Log::Database(_) => false,
    };
    if in_use && !dry_run {
        let text = format!(
            "{name}: a server writes to this file; use --dry-run, or stop the server (it reconciles when it starts)"
        );
        return Err((text, 1));
    }
    let targets = Targets::new(config, &metrics, database.as_ref());
    let targets = targets.map_err(|error| (error, BAD_CONFIGURATION))?;
    // Stops at the first signal, so that the chain is complete and no session stays open.
    let (stop, _) = signals::stop().map_err(|error| (error.to_string(), 1))?;
    let mut stop = Box::pin(stop);
    let prepare = async {
        let audit = if dry_run {
            None
        } else {
            Some(open(config, database.as_ref(), &name, &metrics).await?)
        };
        // While a server writes to the log, open intents are calls in progress.
        let with_open_intents = dry_run && !in_use && database.is_none();
        let cases = audit::unsettled(&log, scope(with_open_intents, MAX_CASES)).await;
        let cases = cases.map_err(|error| not_readable(&name, &error))?;
        Ok::<_, Error>((audit, cases))
    };
    let (audit, cases) = select! {
        () = &mut stop => return Err((format!("{name}: interrupted, no user was read"), 1)),
        prepared = prepare => prepared?,
    };
    let mut report = Report::default();
    let calls = cases.readable.newest.len();
    let checked = reconcile(&targets, audit.as_ref(), cases.readable.newest);
    let mut checked = checked.take_until(stop);
    while let Some(next) = checked.next().await {
        report.add(&next);
    }
    drop(checked);
    report.older = cases.readable.older;
    report.interrupted = calls - report.count() - report.left;
    report.list(&cases.not_readable);
    // A session that is not closed in time expires on the upstream.
    let _closed = timeout(CLOSE_TIMEOUT, targets.close()).await;
    if let Some(audit) = audit {
        let _unwritten = timeout(CLOSE_TIMEOUT, audit.flush()).await;
        report.unwritten = audit.pending();
    }
    print(&report.summary(&name, dry_run));
    Ok(report.is_settled())
}

fn not_readable(name: &str, error: &io::Error) -> Error {
    (format!("{name}: {error}"), BAD_CONFIGURATION)
}

/// Opens the audit log, and records interrupted calls as unknown, as a server does when it starts.
async fn open(
    config: &Config,
    database: Option<&Arc<Database>>,
    name: &str,
    metrics: &Arc<Metrics>,
) -> Result<Audit, Error> {
    let audit = Audit::open(&config.audit, database, metrics).await;
    let audit = audit.map_err(|error| (format!("cannot start a thread: {error}"), 1))?;
    let _unwritten = timeout(CLOSE_TIMEOUT, audit.flush()).await;
    if audit.is_healthy() && audit.pending() == 0 {
        Ok(audit)
    } else {
        Err((format!("{name}: the audit log cannot be written"), 1))
    }
}

/// Numbers of the calls that were printed or left out.
#[derive(Default)]
struct Report {
    absent: usize,
    present: usize,
    unreadable: usize,
    /// Calls of platforms whose users cannot be read.
    not_readable: usize,
    /// Calls beyond [`MAX_CASES`].
    older: usize,
    /// Calls that were not read because their target failed.
    left: usize,
    /// Calls that were not read because of a signal.
    interrupted: usize,
    /// Findings that are not written yet.
    unwritten: usize,
}

impl Report {
    /// Prints the finding about a call, and counts it.
    fn add(&mut self, checked: &CheckedCase) {
        let CheckedCase {
            case,
            state,
            recorded,
            left,
        } = checked;
        let (counter, cause) = match state {
            UserState::Absent => (&mut self.absent, String::new()),
            UserState::Present => (&mut self.present, String::new()),
            UserState::Unreadable(failure) => (&mut self.unreadable, cause(failure)),
        };
        *counter += 1;
        self.left += left;
        print(&format!("{} {}{cause}", call(case), state.as_str()));
        if let Err(failure) = recorded {
            print_error(&format!(
                "{}: not recorded: {}",
                call(case),
                failure.context
            ));
        }
    }

    /// Prints the calls whose users cannot be read, and counts them.
    fn list(&mut self, cases: &CaseList) {
        for case in &cases.newest {
            let [pool, node] =
                ["pool_id", "node_id"].map(|key| column(case.identifier(key).unwrap_or_default()));
            print(&format!(
                "{} not_readable pool_id={pool} node_id={node}",
                call(case)
            ));
        }
        self.not_readable = cases.newest.len();
        self.older += cases.older;
        if self.not_readable > 0 {
            print(&format!("not_readable: {HOW_TO_SETTLE}"));
        }
    }

    const fn count(&self) -> usize {
        self.absent + self.present + self.unreadable
    }

    const fn is_settled(&self) -> bool {
        let remaining = self.unreadable + self.not_readable + self.older + self.left;
        remaining + self.interrupted + self.unwritten == 0
    }

    fn summary(&self, name: &str, dry_run: bool) -> String {
        let all = self.count() + self.not_readable;
        let mut text = format!(
            "{name}: {all} unknown outcomes: {} absent, {} present, {} unreadable, {} not_readable",
            self.absent, self.present, self.unreadable, self.not_readable
        );
        for (number, what) in [
            (self.older, "older ones left"),
            (self.left, "not read because their target failed"),
            (self.interrupted, "not read because of a signal"),
            (self.unwritten, "findings not written"),
        ] {
            if number > 0 {
                text = format!("{text}; {number} {what}");
            }
        }
        if dry_run {
            text.push_str("; nothing was written");
        }
        text
    }
}

/// Returns the columns that identify a call.
fn call(case: &Case) -> String {
    let columns = [case.request_id(), case.target(), case.user()];
    columns.map(column).join(" ")
}

fn cause(failure: &Failure) -> String {
    format!(" {}: {}", failure.reason.as_str_name(), failure.context)
}
