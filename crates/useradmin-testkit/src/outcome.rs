//! Comparison of the outcome that a caller received with the one in the audit log.

use useradmin::proto::{
    DeleteBatchNodeUserResponse, DeleteHmcUserResponse, DeleteOutcome as Outcome,
};

use crate::{App, CallFailure};

/// The outcome of a call, as received by the caller or as recorded in the audit log.
#[derive(Debug, PartialEq, Eq)]
pub struct ReportedOutcome {
    outcome: String,
    reason: String,
    attempts: u64,
}

impl ReportedOutcome {
    fn success(outcome: Outcome, attempts: u32) -> Self {
        // The names are those in docs/audit.md.
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

impl From<&CallFailure> for ReportedOutcome {
    fn from(failed: &CallFailure) -> Self {
        Self {
            outcome: failed.metadata_value("outcome").to_owned(),
            reason: failed.reason.clone(),
            attempts: failed.metadata_value("attempts").parse().unwrap(),
        }
    }
}

impl From<&DeleteBatchNodeUserResponse> for ReportedOutcome {
    fn from(done: &DeleteBatchNodeUserResponse) -> Self {
        Self::success(done.outcome(), done.attempts)
    }
}

impl From<&DeleteHmcUserResponse> for ReportedOutcome {
    fn from(done: &DeleteHmcUserResponse) -> Self {
        Self::success(done.outcome(), done.attempts)
    }
}

impl App {
    /// Asserts that the last audit record has the outcome that the caller of the last call received.
    #[track_caller]
    pub fn assert_recorded(&self, reported: impl Into<ReportedOutcome>) {
        let record = self.audit().pop().unwrap();
        assert_eq!(record["event"], "outcome", "{record}");
        let text = |key: &str| record[key].as_str().unwrap().to_owned();
        let recorded = ReportedOutcome {
            outcome: text("outcome"),
            reason: text("reason"),
            attempts: record["attempts"].as_u64().unwrap(),
        };
        assert_eq!(recorded, reported.into(), "{record}");
    }
}
