//! Comparison of three records: the responses to callers, the audit log, and the requests received by the upstreams.

use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    io::{BufRead as _, BufReader},
    path::PathBuf,
    time::Duration,
};

use serde::Deserialize;
use useradmin::{
    audit::{VerifyOptions, verify},
    proto::ErrorReason,
};

use crate::{
    environment::{Environment, TARGETS},
    load::{CANCELLED, CallResult, LATE},
    upstream::{Done, Traits},
};

/// Maximum number of differences that are printed.
const MAX_PRINTED: usize = 20;

#[derive(Deserialize)]
struct Line {
    event: String,
    target: String,
    user: String,
    outcome: String,
    #[serde(default)]
    carried: bool,
}

/// Records of the audit log for one user.
#[derive(Clone, Debug, Default)]
struct Recorded {
    intents: u32,
    outcomes: Vec<String>,
    target: String,
}

type Records = HashMap<u32, Recorded>;

fn records(files: &[PathBuf]) -> Records {
    let mut records = Records::new();
    for file in files {
        for line in BufReader::new(File::open(file).unwrap()).lines() {
            let line: Line = serde_json::from_str(&line.unwrap()).unwrap();
            // `u7` or `id-7`
            let digits = line.user.trim_start_matches(|c: char| !c.is_ascii_digit());
            let recorded = records.entry(digits.parse().unwrap()).or_default();
            match line.event.as_str() {
                // A carried intent is a copy of an intent that was already counted.
                "intent" if line.carried => {}
                "intent" => recorded.intents += 1,
                _ => recorded.outcomes.push(line.outcome),
            }
            recorded.target = line.target;
        }
    }
    records
}

/// Returns whether the outcome agrees with the record of the upstream.
fn agrees(outcome: &str, user: u32, done: Done) -> bool {
    let Traits {
        exists,
        allow_missing,
        ..
    } = Traits::of(user);
    match outcome {
        "deleted" => done.deleted,
        "absent_after_retry" => done.asked > 0 && (done.deleted || !exists),
        "already_absent" => allow_missing && !exists,
        "not_deleted" => !done.deleted,
        "not_sent" => done.asked == 0,
        "unknown" => true,
        _ => false,
    }
}

/// Returns the first difference between the records of a call, if there is one.
fn fault(
    result: &CallResult,
    recorded: &Recorded,
    done: Done,
    deadline: Duration,
) -> Option<&'static str> {
    let Recorded {
        intents, outcomes, ..
    } = recorded;
    let on_record = match outcomes.as_slice() {
        [outcome] if *intents == 1 => Some(outcome.as_str()),
        _ => None,
    };
    let nothing = *intents == 0 && outcomes.is_empty();
    if result.elapsed >= deadline + Duration::from_secs(1) {
        return Some("answered too late");
    }
    if done.asked > 0 && *intents == 0 {
        return Some("a DELETE without an intent");
    }
    if !(nothing || on_record.is_some()) {
        return Some("not exactly one intent and one outcome");
    }
    if let Some(outcome) = on_record
        && !agrees(outcome, result.user, done)
    {
        return Some("the record and the upstream do not agree");
    }
    if !nothing && recorded.target != TARGETS[result.target] {
        return Some("recorded with another target");
    }
    // docs/audit.md: calls are not recorded if the audit log is unavailable or the server is overloaded.
    let unrecorded = [ErrorReason::AuditUnavailable, ErrorReason::Overloaded];
    let unrecorded = unrecorded.map(|reason| reason.as_str_name());
    match result.outcome {
        // The caller received no response, so only the audit log is checked.
        CANCELLED | LATE => None,
        _ if !agrees(result.outcome, result.user, done) => Some("reported wrongly"),
        "not_sent" if nothing && unrecorded.contains(&result.reason) => None,
        outcome if on_record == Some(outcome) => None,
        _ => Some("reported differently than recorded"),
    }
}

/// Result of the comparison.
pub struct Comparison {
    /// Number of differences.
    pub set_clock: usize,
    /// Number of records in the audit log.
    pub records: u64,
}

/// Compares the records and prints the differences.
pub fn compare(
    environment: &Environment,
    results: &[CallResult],
    files: Vec<PathBuf>,
    deadline: Duration,
) -> Comparison {
    let mut records = records(&files);
    let mut errors = Vec::new();
    for result in results {
        let recorded = records.remove(&result.user).unwrap_or_default();
        let done = environment.users(result.target).done(result.user);
        if let Some(fault) = fault(result, &recorded, done, deadline) {
            let CallResult {
                user,
                target,
                elapsed,
                outcome,
                reason,
                ..
            } = result;
            errors.push(format!(
                "user {user} of target {target}: {fault}: reported {outcome} {reason} after {elapsed:?}, {done:?}, {recorded:?}"
            ));
        }
    }
    let strangers = records.iter();
    errors
        .extend(strangers.map(|(user, found)| format!("user {user}: no call was made: {found:?}")));
    let question = VerifyOptions {
        files,
        ..VerifyOptions::default()
    };
    let summary = verify(&question, |finding| {
        let (file, line, text) = (finding.file.display(), finding.line, &finding.text);
        errors.push(format!("{file}:{line}: {text}"));
    });
    let summary = summary.unwrap();
    if summary.open > 0 {
        errors.push(format!("{} intents without an outcome", summary.open));
    }
    for fault in errors.iter().take(MAX_PRINTED) {
        println!("  WRONG {fault}");
    }
    Comparison {
        set_clock: errors.len(),
        records: summary.records,
    }
}

/// Prints the number of calls with each outcome and reason.
pub fn print_outcomes(results: &[CallResult]) {
    let mut kinds: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for result in results {
        *kinds.entry((result.outcome, result.reason)).or_default() += 1;
    }
    for ((outcome, reason), count) in kinds {
        let reason = reason.trim_start_matches("ERROR_REASON_");
        println!("{count:>10}  {outcome} {reason}");
    }
}
