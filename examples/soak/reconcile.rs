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
    load::{LATE, LEFT, Told},
    upstream::{Done, Traits},
};

/// Maximum number of differences that are printed.
const MOST_TOLD: usize = 20;

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
fn is_true(outcome: &str, user: u32, done: Done) -> bool {
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
fn fault(told: &Told, recorded: &Recorded, done: Done, deadline: Duration) -> Option<&'static str> {
    let Recorded {
        intents, outcomes, ..
    } = recorded;
    let on_record = match outcomes.as_slice() {
        [outcome] if *intents == 1 => Some(outcome.as_str()),
        _ => None,
    };
    let nothing = *intents == 0 && outcomes.is_empty();
    if told.took >= deadline + Duration::from_secs(1) {
        return Some("answered too late");
    }
    if done.asked > 0 && *intents == 0 {
        return Some("a DELETE without an intent");
    }
    if !(nothing || on_record.is_some()) {
        return Some("not exactly one intent and one outcome");
    }
    if let Some(outcome) = on_record
        && !is_true(outcome, told.user, done)
    {
        return Some("the record and the upstream do not agree");
    }
    if !nothing && recorded.target != TARGETS[told.target] {
        return Some("recorded with another target");
    }
    // docs/audit.md: calls are not recorded if the audit log is unavailable or the server is overloaded.
    let unrecorded = [ErrorReason::AuditUnavailable, ErrorReason::Overloaded];
    let unrecorded = unrecorded.map(|reason| reason.as_str_name());
    match told.outcome {
        // The caller received no response, so only the audit log is checked.
        LEFT | LATE => None,
        _ if !is_true(told.outcome, told.user, done) => Some("told wrongly"),
        "not_sent" if nothing && unrecorded.contains(&told.reason) => None,
        outcome if on_record == Some(outcome) => None,
        _ => Some("told otherwise than recorded"),
    }
}

/// Result of the comparison.
pub struct Verdict {
    /// Number of differences.
    pub wrong: usize,
    /// Number of records in the audit log.
    pub records: u64,
}

/// Compares the records and prints the differences.
pub fn compare(
    environment: &Environment,
    told: &[Told],
    files: Vec<PathBuf>,
    deadline: Duration,
) -> Verdict {
    let mut records = records(&files);
    let mut faults = Vec::new();
    for told in told {
        let recorded = records.remove(&told.user).unwrap_or_default();
        let done = environment.users(told.target).done(told.user);
        if let Some(fault) = fault(told, &recorded, done, deadline) {
            let Told {
                user,
                target,
                took,
                outcome,
                reason,
                ..
            } = told;
            faults.push(format!(
                "user {user} of target {target}: {fault}: told {outcome} {reason} after {took:?}, {done:?}, {recorded:?}"
            ));
        }
    }
    let strangers = records.iter();
    faults.extend(strangers.map(|(user, found)| format!("user {user}: nobody called: {found:?}")));
    let question = VerifyOptions {
        files,
        ..VerifyOptions::default()
    };
    let summary = verify(&question, |finding| {
        let (file, line, text) = (finding.file.display(), finding.line, &finding.text);
        faults.push(format!("{file}:{line}: {text}"));
    });
    let summary = summary.unwrap();
    if summary.open > 0 {
        faults.push(format!("{} intents without an outcome", summary.open));
    }
    for fault in faults.iter().take(MOST_TOLD) {
        println!("  WRONG {fault}");
    }
    Verdict {
        wrong: faults.len(),
        records: summary.records,
    }
}

/// Prints the number of calls with each outcome and reason.
pub fn tell_kinds(told: &[Told]) {
    let mut kinds: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for told in told {
        *kinds.entry((told.outcome, told.reason)).or_default() += 1;
    }
    for ((outcome, reason), count) in kinds {
        let reason = reason.trim_start_matches("ERROR_REASON_");
        println!("{count:>10}  {outcome} {reason}");
    }
}
