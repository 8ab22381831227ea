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
    upstream::{Traits, UserRequests},
};

/// Maximum number of differences that are printed.
const MAX_PRINTED: usize = 20;

#[derive(Deserialize)]
struct AuditLine {
    event: String,
    target: String,
    user: String,
    outcome: String,
    #[serde(default)]
    carried: bool,
}

/// Records of the audit log for one user.
#[derive(Clone, Debug, Default)]
struct AuditRecords {
    intents: u32,
    outcomes: Vec<String>,
    target: String,
}

type RecordsByUser = HashMap<u32, AuditRecords>;

fn read_records(files: &[PathBuf]) -> RecordsByUser {
    let mut records = RecordsByUser::new();
    for file in files {
        for line in BufReader::new(File::open(file).unwrap()).lines() {
            let line: AuditLine = serde_json::from_str(&line.unwrap()).unwrap();
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
fn agrees(outcome: &str, user: u32, requests: UserRequests) -> bool {
    let Traits {
        exists,
        allow_missing,
        ..
    } = Traits::of(user);
    match outcome {
        "deleted" => requests.deleted,
        "absent_after_retry" => requests.deletes_received > 0 && (requests.deleted || !exists),
        "already_absent" => allow_missing && !exists,
        "not_deleted" => !requests.deleted,
        "not_sent" => requests.deletes_received == 0,
        "unknown" => true,
        _ => false,
    }
}

/// Returns the first difference between the records of a call, if there is one.
fn difference(
    result: &CallResult,
    recorded: &AuditRecords,
    requests: UserRequests,
    deadline: Duration,
) -> Option<&'static str> {
    let AuditRecords {
        intents, outcomes, ..
    } = recorded;
    let recorded_outcome = match outcomes.as_slice() {
        [outcome] if *intents == 1 => Some(outcome.as_str()),
        _ => None,
    };
    let is_unrecorded = *intents == 0 && outcomes.is_empty();
    if result.elapsed >= deadline + Duration::from_secs(1) {
        return Some("late response");
    }
    if requests.deletes_received > 0 && *intents == 0 {
        return Some("a DELETE without an intent");
    }
    if !(is_unrecorded || recorded_outcome.is_some()) {
        return Some("not exactly one intent and one outcome");
    }
    if let Some(outcome) = recorded_outcome
        && !agrees(outcome, result.user, requests)
    {
        return Some("the record and the upstream do not agree");
    }
    if !is_unrecorded && recorded.target != TARGETS[result.target] {
        return Some("recorded with another target");
    }
    // docs/audit.md: calls are not recorded if the audit log is unavailable or the server is overloaded.
    let may_be_unrecorded = [ErrorReason::AuditUnavailable, ErrorReason::Overloaded];
    let may_be_unrecorded = may_be_unrecorded.map(|reason| reason.as_str_name());
    match result.outcome {
        // The caller received no response, so only the audit log is checked.
        CANCELLED | LATE => None,
        _ if !agrees(result.outcome, result.user, requests) => {
            Some("reported outcome does not match the upstream")
        }
        "not_sent" if is_unrecorded && may_be_unrecorded.contains(&result.reason) => None,
        outcome if recorded_outcome == Some(outcome) => None,
        _ => Some("reported and recorded outcomes differ"),
    }
}

/// Result of the comparison.
pub struct Comparison {
    /// Number of differences.
    pub differences: usize,
    /// Number of records in the audit log.
    pub records: u64,
}

/// Compares the records and prints the differences.
pub fn compare(
    environment: &Environment,
    results: &[CallResult],
    files: &[PathBuf],
    deadline: Duration,
) -> Comparison {
    let mut records = read_records(files);
    let mut differences = Vec::new();
    for result in results {
        let recorded = records.remove(&result.user).unwrap_or_default();
        let requests = environment.users(result.target).requests_for(result.user);
        if let Some(difference) = difference(result, &recorded, requests, deadline) {
            let CallResult {
                user,
                target,
                elapsed,
                outcome,
                reason,
                ..
            } = result;
            differences.push(format!(
                "user {user} of target {target}: {difference}: reported {outcome} {reason} after {elapsed:?}, {requests:?}, {recorded:?}"
            ));
        }
    }
    let unmatched = records.iter();
    differences
        .extend(unmatched.map(|(user, found)| format!("user {user}: no call was made: {found:?}")));
    let summary = verify(files, &VerifyOptions::default(), |finding| {
        let (file, line, text) = (finding.log.display(), finding.line, &finding.text);
        differences.push(format!("{file}:{line}: {text}"));
    });
    let summary = summary.unwrap();
    if summary.open > 0 {
        differences.push(format!("{} intents without an outcome", summary.open));
    }
    for difference in differences.iter().take(MAX_PRINTED) {
        println!("  DIFFERENCE {difference}");
    }
    Comparison {
        differences: differences.len(),
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
