//! Compares the three books.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::Path,
    time::Duration,
};

use serde_json::Value;
use tonic::{Response, Status};
use tonic_types::StatusExt as _;
use useradmin::proto::{DeleteBatchNodeUserResponse, DeleteOutcome};

use crate::upstream::{Done, Upstream};

/// What a caller was told.
#[derive(Clone)]
pub struct Told {
    user: String,
    time: Duration,
    /// `deleted`, ..., or the `outcome` of an error.
    outcome: String,
    /// The reason of an error, or nothing.
    reason: String,
}

impl Told {
    /// From an answer.
    pub fn new(
        user: String,
        time: Duration,
        answer: Result<Response<DeleteBatchNodeUserResponse>, Status>,
    ) -> Self {
        let (outcome, reason) = match answer {
            Ok(answer) => match answer.get_ref().outcome() {
                DeleteOutcome::Deleted => ("deleted".to_owned(), String::new()),
                DeleteOutcome::AbsentAfterRetry => ("absent_after_retry".to_owned(), String::new()),
                other => (format!("{other:?}"), String::new()),
            },
            Err(status) => {
                // An answer that this service did not make has no details, and agrees with nothing.
                let info = status.get_details_error_info();
                let outcome = info.as_ref().and_then(|info| info.metadata.get("outcome"));
                (
                    outcome.cloned().unwrap_or_default(),
                    info.map_or_else(|| status.to_string(), |info| info.reason.clone()),
                )
            }
        };
        Self {
            user,
            time,
            outcome,
            reason,
        }
    }

    /// Does it agree with what the upstream did?
    fn is_true(&self, done: Done) -> bool {
        match self.outcome.as_str() {
            "deleted" | "absent_after_retry" => done.deleted,
            "not_deleted" => !done.deleted,
            "not_sent" => done.asked == 0,
            "unknown" => true,
            _ => false,
        }
    }
}

/// The audit log by user: intents, and the outcomes.
type Records = HashMap<String, (u32, Vec<String>)>;

fn records(file: &Path) -> Records {
    let mut records = Records::new();
    for line in fs::read_to_string(file).unwrap().lines() {
        let record: Value = serde_json::from_str(line).unwrap();
        let of_user = records
            .entry(record["user"].as_str().unwrap().to_owned())
            .or_default();
        if record["event"] == "intent" {
            of_user.0 += 1;
        } else {
            of_user
                .1
                .push(record["outcome"].as_str().unwrap().to_owned());
        }
    }
    records
}

/// Tells what was reached, and how many calls are lost or told wrongly.
pub fn compare(told: &[Told], audit: &Path, upstream: &Upstream, deadline: Duration) -> usize {
    let records = records(audit);
    let mut kinds: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    let mut wrong = 0;
    for told in told {
        *kinds.entry((&told.outcome, &told.reason)).or_default() += 1;
        let done = upstream.done(&told.user);
        let on_record = records.get(&told.user).is_some_and(|(intents, outcomes)| {
            *intents == 1 && *outcomes == [told.outcome.clone()]
        });
        let in_time = told.time < deadline + Duration::from_secs(1);
        if !(told.is_true(done) && on_record && in_time) {
            wrong += 1;
            println!(
                "{}: told {} {} after {:?}; the upstream {done:?}; on record {:?}",
                told.user,
                told.outcome,
                told.reason,
                told.time,
                records.get(&told.user)
            );
        }
    }
    for ((outcome, reason), count) in kinds {
        println!("{count:>9}  {outcome} {reason}");
    }
    let requests = f64::from(upstream.asked());
    println!(
        "{:>9}  calls, {requests} DELETEs: {:.3} a call",
        told.len(),
        requests / f64::from(u32::try_from(told.len()).unwrap())
    );
    wrong
}
