//! Comparison of the outcome that a caller received with the one in the audit log.

use useradmin::proto::{
    DeleteBatchNodeUserResponse, DeleteHmcUserResponse, DeleteOutcome as Outcome,
};

use crate::{App, Failed};

/// The outcome of a call, as received by the caller or as recorded in the audit log.
#[derive(Debug, PartialEq, Eq)]
pub struct Reported {
    outcome: String,
    reason: String,
    attempts: u64,
}

impl Reported {
    fn success(outcome: Outcome, attempts: u32) -> Self {
        // The terms of docs/audit.md.
        let outcome = match outcome {
            Outcome::Deleted => "deleted",
            Outcome::AlreadyAbsent => "already_absent",
            Outcome::AbsentAfterRetry => "absent_after_retry",
            Outcome::Validated => "validated",
            Outcome::Unspecified => panic!("no outcome"),
        };
        Self {
            outcome: outcome.to_owned(),
            reason: String::new(),
            attempts: attempts.into(),
        }
    }
}

impl From<&Failed> for Reported {
    fn from(failed: &Failed) -> Self {
        Self {
            outcome: failed.meta("outcome").to_owned(),
            reason: failed.reason.clone(),
            attempts: failed.meta("attempts").parse().unwrap(),
        }
    }
}

impl From<&DeleteBatchNodeUserResponse> for Reported {
    fn from(done: &DeleteBatchNodeUserResponse) -> Self {
        Self::success(done.outcome(), done.attempts)
    }
}

impl From<&DeleteHmcUserResponse> for Reported {
    fn from(done: &DeleteHmcUserResponse) -> Self {
        Self::success(done.outcome(), done.attempts)
    }
}

impl App {
    /// Asserts that the last audit record has the outcome that the caller of the last call received.
    #[track_caller]
    pub fn expect_on_record(&self, reported: impl Into<Reported>) {
        let record = self.audit().pop().unwrap();
        assert_eq!(record["event"], "outcome", "{record}");
        let text = |key: &str| record[key].as_str().unwrap().to_owned();
        let recorded = Reported {
            outcome: text("outcome"),
            reason: text("reason"),
            attempts: record["attempts"].as_u64().unwrap(),
        };
        assert_eq!(recorded, reported.into(), "{record}");
    }
}
