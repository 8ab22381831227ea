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
    App, Console,
    Say::{self, Hang},
    Step, by_id, by_name, hmc_section,
};

use self::responses::Row;
pub use self::{backoff::most_requests, responses::rows};

/// Gives one response to every logon of a call with `allow_missing`. Returns the differences from the expected row.
async fn play(row: &Row) -> String {
    let console = Console::saying(vec![(Step::Logon, vec![row.say.clone()])]).await;
    let mut request = by_id("id-1");
    request.allow_missing = true;
    let answer = console.app.delete_hmc_user(request).await;
    let failed = match answer {
        Ok(done) => return format!("{}: {done:?}\n", row.say),
        Err(failed) => failed,
    };
    let mut faults = String::new();
    let reason = failed.reason.strip_prefix("ERROR_REASON_").unwrap();
    let retry = failed.retry_delay.is_some();
    if (failed.code, reason, retry) != (row.code, row.reason, row.retry) {
        let (code, reason) = (row.code, row.reason);
        let _ = writeln!(faults, "{}: wanted {code:?} {reason}: {failed:?}", row.say);
    }
    let counts = [Step::Logon, Step::Read, Step::Delete, Step::Other].map(|s| console.count(s));
    if counts != [row.logons, 0, 0, 0]
        || (failed.meta("attempts"), failed.meta("outcome")) != ("0", "not_sent")
    {
        let _ = writeln!(faults, "{}: {counts:?}: {failed:?}", row.say);
    }
    let ended = console.asked(Step::Logoff);
    let ended: Vec<_> = ended
        .iter()
        .map(|off| off.header("x-api-session"))
        .collect();
    if ended != row.partial.iter().map(|one| Some(*one)).collect::<Vec<_>>() {
        let _ = writeln!(faults, "{}: ended {ended:?}", row.say);
    }
    let text = format!("{failed:?}");
    for secret in ["partial-1", "kanari-", "html", "10.1.2.3"] {
        if text.contains(secret) {
            let _ = writeln!(faults, "{}: {secret} has leaked", row.say);
        }
    }
    faults
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logon_responses_map_to_documented_errors() {
    let rows = rows();
    // Each row starts a server, and logons compute slow digests, so only some rows run at the same time.
    let faults: String = stream::iter(&rows).map(play).buffered(8).collect().await;
    assert!(faults.is_empty(), "\n{faults}");
}

#[tokio::test]
async fn retry_after_of_logon_is_returned_to_caller() {
    let later = Say::Later(429, 0, "60");
    let console = Console::saying(vec![(Step::Logon, vec![later])]).await;
    let failed = console.fail(by_id("id-1")).await;
    failed.expect(ResourceExhausted, "UPSTREAM_THROTTLED");
    assert_eq!(failed.retry_delay.unwrap().as_secs(), 60);
    assert_eq!(console.count(Step::Logon), 1);
}

#[tokio::test]
async fn unreachable_hmc_is_reported() {
    // The socket is bound but does not listen: the port is reserved, and connections are refused.
    let nobody = TcpSocket::new_v4().unwrap();
    nobody.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = format!("http://{}", nobody.local_addr().unwrap());
    let folder = App::folder();
    let section = hmc_section(&folder, &url);
    let app = App::start_in(folder, &section).await;
    let failed = app.delete_hmc_user(by_name("alice")).await.unwrap_err();
    failed.expect(Unavailable, "UPSTREAM_UNREACHABLE");
    assert_eq!(
        (failed.meta("attempts"), failed.meta("outcome")),
        ("0", "not_sent")
    );
    assert!(failed.retry_delay.is_some() && failed.hmc.is_none());
}

#[tokio::test]
async fn hung_logon_ends_at_callers_deadline() {
    let console = Console::saying(vec![(Step::Logon, vec![Hang])]).await;
    let (failed, _) = console.fail_in_time(by_id("id-1"), 600).await;
    failed.expect(DeadlineExceeded, "DEADLINE_EXCEEDED");
    console.expect_not_sent(&failed);
    assert!(failed.retry_delay.is_some());
}
