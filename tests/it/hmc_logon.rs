//! Every response of an HMC to the logon: a failed logon is never an error of the caller and never a statement about
//! the user.

mod accounts;
mod backoff;
mod crash;
mod guard;
mod responses;
mod restart;
mod slow_logons;

use std::fmt::Write as _;

use futures_util::{StreamExt as _, stream};
use tokio::net::TcpSocket;
use tonic::Code::{DeadlineExceeded, ResourceExhausted, Unavailable};
use useradmin_testkit::{
    App, HmcSetup,
    ScriptedReply::{self, Hang},
    Step, delete_by_id, delete_by_name, hmc_section,
};

use self::responses::Row;
pub use self::{
    backoff::max_requests,
    responses::rows,
    restart::{FILE, logons},
};

/// Gives one response to every logon of a call with `allow_missing`. Returns the differences from the expected row.
async fn run_case(row: &Row) -> String {
    let setup = HmcSetup::with_replies(vec![(Step::Logon, vec![row.reply.clone()])]).await;
    let mut request = delete_by_id("id-1");
    request.allow_missing = true;
    let response = setup.app.delete_hmc_user(request).await;
    let failure = match response {
        Ok(result) => return format!("{}: {result:?}\n", row.reply),
        Err(failure) => failure,
    };
    let mut errors = String::new();
    let reason = failure.reason.strip_prefix("ERROR_REASON_").unwrap();
    let retry = failure.retry_delay.is_some();
    if (failure.code, reason, retry) != (row.code, row.reason, row.retry) {
        let (code, reason) = (row.code, row.reason);
        let _ = writeln!(
            errors,
            "{}: wanted {code:?} {reason}: {failure:?}",
            row.reply
        );
    }
    let counts = [Step::Logon, Step::Read, Step::Delete, Step::Other].map(|s| setup.count(s));
    if counts != [row.logons, 0, 0, 0]
        || (
            failure.metadata_value("attempts"),
            failure.metadata_value("outcome"),
        ) != ("0", "not_sent")
    {
        let _ = writeln!(errors, "{}: {counts:?}: {failure:?}", row.reply);
    }
    let ended = setup.requests_of(Step::Logoff);
    let ended: Vec<_> = ended
        .iter()
        .map(|off| off.header("x-api-session"))
        .collect();
    if ended
        != row
            .partial_session
            .iter()
            .map(|one| Some(*one))
            .collect::<Vec<_>>()
    {
        let _ = writeln!(errors, "{}: ended {ended:?}", row.reply);
    }
    let text = format!("{failure:?}");
    for secret in ["partial-1", "kanari-", "html", "10.1.2.3"] {
        if text.contains(secret) {
            let _ = writeln!(errors, "{}: {secret} has leaked", row.reply);
        }
    }
    errors
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logon_responses_map_to_documented_errors() {
    let rows = rows();
    // Each row starts a server, and logons compute slow digests, so only some rows run at the same time.
    let errors: String = stream::iter(&rows)
        .map(run_case)
        .buffered(8)
        .collect()
        .await;
    assert!(errors.is_empty(), "\n{errors}");
}

#[tokio::test]
async fn retry_after_of_logon_is_returned_to_caller() {
    let later = ScriptedReply::RetryAfter(429, 0, "60");
    let setup = HmcSetup::with_replies(vec![(Step::Logon, vec![later])]).await;
    let failure = setup.fail(delete_by_id("id-1")).await;
    failure.expect(ResourceExhausted, "UPSTREAM_THROTTLED");
    assert_eq!(failure.retry_delay.unwrap().as_secs(), 60);
    assert_eq!(setup.count(Step::Logon), 1);
}

#[tokio::test]
async fn unreachable_hmc_is_reported() {
    // The socket is bound but does not listen: the port is reserved, and connections are refused.
    let unauthenticated = TcpSocket::new_v4().unwrap();
    unauthenticated
        .bind("127.0.0.1:0".parse().unwrap())
        .unwrap();
    let url = format!("http://{}", unauthenticated.local_addr().unwrap());
    let folder = App::folder();
    let section = hmc_section(&folder, &url);
    let app = App::start_in(folder, &section).await;
    let failure = app
        .delete_hmc_user(delete_by_name("alice"))
        .await
        .unwrap_err();
    failure.expect(Unavailable, "UPSTREAM_UNREACHABLE");
    assert_eq!(
        (
            failure.metadata_value("attempts"),
            failure.metadata_value("outcome")
        ),
        ("0", "not_sent")
    );
    assert!(failure.retry_delay.is_some() && failure.hmc.is_none());
}

#[tokio::test]
async fn hung_logon_ends_at_callers_deadline() {
    let setup = HmcSetup::with_replies(vec![(Step::Logon, vec![Hang])]).await;
    let (failure, _) = setup.fail_in_time(delete_by_id("id-1"), 600).await;
    failure.expect(DeadlineExceeded, "DEADLINE_EXCEEDED");
    setup.assert_not_sent(&failure);
    assert!(failure.retry_delay.is_some());
}
