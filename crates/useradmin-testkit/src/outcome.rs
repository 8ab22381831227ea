//! What the caller was told, held against the audit log: both say the same.

use useradmin::proto::{
    DeleteBatchNodeUserResponse, DeleteHmcUserResponse, DeleteOutcome as Outcome,
};

use crate::{App, Failed};

/// How a call ended.
#[derive(Debug, PartialEq, Eq)]
pub struct Told {
    outcome: String,
    reason: String,
    attempts: u64,
}

impl Told {
    fn success(outcome: Outcome, attempts: u32) -> Self {
        // In the words of docs/audit.md.
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

impl From<&Failed> for Told {
    fn from(failed: &Failed) -> Self {
        Self {
            outcome: failed.meta("outcome").to_owned(),
            reason: failed.reason.clone(),
            attempts: failed.meta("attempts").parse().unwrap(),
        }
    }
}

impl From<&DeleteBatchNodeUserResponse> for Told {
    fn from(done: &DeleteBatchNodeUserResponse) -> Self {
        Self::success(done.outcome(), done.attempts)
    }
}

impl From<&DeleteHmcUserResponse> for Told {
    fn from(done: &DeleteHmcUserResponse) -> Self {
        Self::success(done.outcome(), done.attempts)
    }
}

impl App {
    /// The last record is the outcome that the caller of the last call was told.
    #[track_caller]
    pub fn expect_on_record(&self, told: impl Into<Told>) {
        let record = self.audit().pop().unwrap();
        assert_eq!(record["event"], "outcome", "{record}");
        let text = |key: &str| record[key].as_str().unwrap().to_owned();
        let recorded = Told {
            outcome: text("outcome"),
            reason: text("reason"),
            attempts: record["attempts"].as_u64().unwrap(),
        };
        assert_eq!(recorded, told.into(), "{record}");
    }
}
