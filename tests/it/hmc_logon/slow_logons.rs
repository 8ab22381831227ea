//! Logons that take longer than any call waits: the server still processes the late response of the HMC.

use std::{sync::Arc, time::Duration};

use tokio::sync::Notify;
use tonic::{Code, Request};
use useradmin::proto::DeleteOutcome;
use useradmin_testkit::{
    App, CallFailure, ReceivedRequest, Reply, Step, Upstream, canary::SESSION, default_reply,
    delete_by_id, error_reply, hmc_section, wait_until,
};

/// Starts a server with a logon timeout of a second, and its HMC. The script receives the number of logons so far.
async fn app_with_slow_logons(
    mut script: impl FnMut(&ReceivedRequest, usize) -> Reply + Send + 'static,
) -> (App, Arc<Upstream>) {
    let mut logons = 0;
    let upstream = Upstream::start(move |request| {
        logons += usize::from(Step::of(request) == Step::Logon);
        script(request, logons)
    })
    .await;
    let folder = App::folder();
    let section = hmc_section(&folder, &upstream.url);
    let section = section.replacen("url =", "logon_timeout_seconds = 1\nurl =", 1);
    (App::start_in(folder, &section).await, Arc::new(upstream))
}

fn logons(upstream: &Upstream) -> usize {
    upstream.requests("POST", "/api/sessions").len()
}

/// A correct password is sent again, and a session that is created late is ended.
#[tokio::test]
async fn hung_logon_times_out_and_is_retried() {
    let gate = Arc::new(Notify::new());
    let gate_for_reply = Arc::clone(&gate);
    let first = format!("{SESSION}1");
    let (app, upstream) = app_with_slow_logons(move |request, logons| match Step::of(request) {
        Step::Logon if logons == 2 => Reply::Gated(
            Arc::clone(&gate_for_reply),
            Box::new(default_reply(request, 2)),
        ),
        Step::Logon | Step::Logoff => default_reply(request, logons),
        // The first session has expired by now.
        _ if logons == 1 && request.target.ends_with("id-1") => default_reply(request, 1),
        _ if request.header("x-api-session") == Some(first.as_str()) => {
            error_reply(request, 403, 5)
        }
        _ => default_reply(request, logons),
    })
    .await;
    let response = app.delete_hmc_user(delete_by_id("id-1")).await.unwrap();
    assert_eq!(response.outcome(), DeleteOutcome::Deleted);
    // The second call gets a new session and does not find its user.
    let failure = app.delete_hmc_user(delete_by_id("id-2")).await.unwrap_err();
    failure.expect(Code::NotFound, "USER_NOT_FOUND");
    assert_eq!(logons(&upstream), 3);
    gate.notify_one();
    let late = format!("{SESSION}2");
    wait_until("the late session is ended", async || {
        let ended = upstream.requests("DELETE", "/api/sessions/this-session");
        ended
            .iter()
            .any(|off| off.header("x-api-session") == Some(late.as_str()))
    })
    .await;
}

/// A password that may be wrong is not sent again until the HMC has accepted or refused it.
#[tokio::test]
async fn late_refusal_of_logon_counts() {
    let gate = Arc::new(Notify::new());
    let gate_for_reply = Arc::clone(&gate);
    let (app, upstream) = app_with_slow_logons(move |received, logons| match logons {
        1 => Reply::Gated(
            Arc::clone(&gate_for_reply),
            Box::new(error_reply(received, 403, 0)),
        ),
        _ => error_reply(received, 403, 0),
    })
    .await;
    for _ in 0..2 {
        let mut request = Request::new(delete_by_id("id-1"));
        request.set_timeout(Duration::from_millis(1_500));
        let failure = CallFailure::from(app.client().delete_hmc_user(request).await.unwrap_err());
        failure.expect(Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
        assert_eq!(logons(&upstream), 1);
    }
    gate.notify_one();
    for _ in 0..4 {
        let failure = app.delete_hmc_user(delete_by_id("id-1")).await.unwrap_err();
        failure.expect(Code::Internal, "UPSTREAM_CREDENTIALS_REJECTED");
    }
    assert_eq!(logons(&upstream), 2);
}
