//! Every response of an HMC to `DELETE /api/users/{user-id}`, over the wire. The expected results come from the
//! vendor's documents and the contract, never from the tables of the implementation.

mod documented;
mod foreign;
mod missing_task;

use std::{collections::BTreeSet, fmt::Write as _};

use futures_util::{StreamExt as _, future::join_all, stream};
use tonic::Code;
use useradmin::proto::DeleteOutcome;
use useradmin_testkit::{
    CallFailure, HmcSetup, Reply, ScriptedReply, Step, default_reply, delete_by_id,
};

use crate::hmc_logon;

/// A response and the error that the caller must receive.
pub struct Row {
    pub reply: ScriptedReply,
    pub code: Code,
    pub reason: &'static str,
    /// Number of DELETEs started.
    pub attempts: usize,
    pub outcome: &'static str,
    /// Whether the error has a `RetryInfo`.
    pub retry: bool,
}

/// Returns the row of a final response: one attempt, not deleted, and no retry.
fn final_response(reply: ScriptedReply, code: Code, reason: &'static str) -> Row {
    Row {
        reply,
        code,
        reason,
        attempts: 1,
        outcome: "not_deleted",
        retry: false,
    }
}

impl Row {
    fn attempts(mut self, attempts: usize) -> Self {
        self.attempts = attempts;
        self
    }

    fn unknown(mut self) -> Self {
        self.outcome = "unknown";
        self
    }

    fn retry(mut self) -> Self {
        self.retry = true;
        self
    }

    fn describe_expected(&self) -> String {
        let Self {
            code,
            reason,
            attempts,
            outcome,
            retry,
            ..
        } = self;
        format!("{code:?} {reason} attempts={attempts} outcome={outcome} retry={retry}")
    }
}

pub fn rows() -> Vec<Row> {
    let mut rows = documented::rows();
    rows.extend(foreign::rows());
    rows
}

/// Formats the error that the caller received in the terms of the table.
fn describe_failure(failure: &CallFailure) -> String {
    let reason = failure.reason.strip_prefix("ERROR_REASON_").unwrap();
    format!(
        "{:?} {reason} attempts={} outcome={} retry={}",
        failure.code,
        failure.metadata_value("attempts"),
        failure.metadata_value("outcome"),
        failure.retry_delay.is_some()
    )
}

/// Gives one response to every DELETE of a call. Returns the differences from the expected row, and the line for the
/// snapshot.
async fn run_case(row: &Row) -> (String, String) {
    let setup = HmcSetup::with_replies(vec![(Step::Delete, vec![row.reply.clone()])]).await;
    let response = setup.app.delete_hmc_user(delete_by_id("id-1")).await;
    let failure = match response {
        Ok(result) => return (format!("{}: {result:?}\n", row.reply), String::new()),
        Err(failure) => failure,
    };
    let mut errors = String::new();
    let (describe_failure, wanted) = (describe_failure(&failure), row.describe_expected());
    if describe_failure != wanted {
        let _ = writeln!(
            errors,
            "{}: {describe_failure}, but wanted {wanted}",
            row.reply
        );
    }
    failure.expect(row.code, row.reason);
    setup.app.assert_recorded(&failure);
    let deletes = setup.requests_of(Step::Delete);
    let renewals = usize::from(row.reason == "UPSTREAM_CREDENTIALS_REJECTED" && row.attempts == 2);
    let counts = [Step::Read, Step::Logon, Step::Other].map(|step| setup.count(step));
    // After an unknown outcome, the user is read again.
    let reads = 1 + usize::from(row.outcome == "unknown");
    if deletes.len() != row.attempts || counts != [reads, 1 + renewals, 0] {
        let _ = writeln!(
            errors,
            "{}: {} DELETEs, {counts:?}",
            row.reply,
            deletes.len()
        );
    }
    if deletes
        .iter()
        .any(|delete| delete.target != "/api/users/id-1")
    {
        let _ = writeln!(errors, "{}: another target", row.reply);
    }
    let text = format!("{failure:?}");
    for secret in ["kanari-", "10.1.2.3", "html", "error-details"] {
        if text.contains(secret) {
            let _ = writeln!(errors, "{}: {secret} has leaked", row.reply);
        }
    }
    (errors, format!("[{}]\n{text}\n", row.reply))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn delete_responses_map_to_documented_errors() {
    let rows = rows();
    // Each row starts a server whose first logon computes a slow digest. If all of them ran at the same time, the audit
    // log would wait for a CPU.
    let played = stream::iter(&rows).map(run_case).buffered(8);
    let (errors, lines): (String, String) = played.unzip().await;
    assert!(errors.is_empty(), "\n{errors}");
    insta::assert_snapshot!("delete_responses", lines);
}

/// The status line 204 completes the deletion, regardless of what follows.
#[tokio::test]
async fn status_204_means_deleted_regardless_of_body() {
    let responses = [
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 204 Deleted\r\nserver: zSeries management console API web server / 2.0\r\n\r\n",
        "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 204 No Content\r\nContent-Length: 500\r\n\r\ncut",
        "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\nnot a chunk",
        "HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 204 No Content\r\nLocation: /elsewhere\r\nRetry-After: 60\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
    ];
    join_all(responses.map(|response| async move {
        let setup = HmcSetup::start(move |request| match Step::of(request) {
            Step::Delete => Reply::Raw(response.into()),
            _ => default_reply(request, 1),
        })
        .await;
        let result = setup.app.delete_hmc_user(delete_by_id("id-1")).await;
        let result = result.unwrap_or_else(|failure| panic!("{response}: {failure:?}"));
        assert_eq!(
            (result.outcome(), result.attempts),
            (DeleteOutcome::Deleted, 1)
        );
        assert_eq!(
            (result.user_id.as_str(), result.user_name.as_str()),
            ("id-1", "alice")
        );
        assert_eq!(setup.count(Step::Delete), 1);
    }))
    .await;
}

#[test]
fn responses_are_unique() {
    let delete = rows().into_iter().map(|row| row.reply.to_string());
    let logon = hmc_logon::rows()
        .into_iter()
        .map(|row| row.reply.to_string());
    for replies in [delete.collect::<Vec<_>>(), logon.collect()] {
        let once: BTreeSet<_> = replies.iter().collect();
        assert_eq!(once.len(), replies.len(), "{replies:?}");
    }
}
