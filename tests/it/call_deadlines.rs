//! Insufficient time: no attempt is started with less than 250 ms left, whatever the time was spent on, and no call
//! gets more than a minute.

use std::{sync::Arc, time::Duration};

use tokio::{sync::Notify, time::sleep};
use tonic::Code;
use useradmin::service::call_context::CallContext;
use useradmin_testkit::{
    App, HmcSetup, Reply, Step, Upstream, batch_deleted, batch_request, batch_section,
    batch_with_timeout, default_reply, delete_by_id, token_reply_or, with_timeout,
};

const DEADLINE: Duration = Duration::from_millis(700);

/// The server sends the response 100 ms before the deadline. The time between this delay and that response is less than
/// an attempt needs, and much more than a busy machine needs to send it.
const TOO_LATE: Duration = Duration::from_millis(400);

/// Notifies `arrived`, and holds the reply until `open` is notified.
fn gated_reply(arrived: &Notify, open: &Arc<Notify>, reply: Reply) -> Reply {
    arrived.notify_one();
    Reply::Gated(Arc::clone(open), Box::new(reply))
}

/// Waits until a request arrives, and releases its reply when too little time is left for an attempt.
async fn release_too_late(arrived: &Notify, open: &Notify) {
    arrived.notified().await;
    // A real delay, because the remaining time is the subject of the test.
    sleep(TOO_LATE).await;
    open.notify_one();
}

#[tokio::test]
async fn token_received_too_late_is_not_used() {
    let (arrived, open) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (notify, gate) = (Arc::clone(&arrived), Arc::clone(&open));
    let upstream = Upstream::start(move |request| {
        let reply = token_reply_or(request, batch_deleted);
        if request.method == "POST" {
            gated_reply(&notify, &gate, reply)
        } else {
            reply
        }
    })
    .await;
    let folder = App::folder();
    let section = batch_section(&folder, &upstream.url);
    let app = App::start_in(folder, &section).await;
    let call = batch_with_timeout(&app, batch_request("alice"), DEADLINE);
    let (response, ()) = tokio::join!(call, release_too_late(&arrived, &open));
    let failure = response.unwrap_err();
    failure.expect(Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
    app.assert_recorded(&failure);
    let actual = (
        failure.metadata_value("attempts"),
        failure.metadata_value("outcome"),
    );
    assert_eq!(actual, ("0", "not_sent"));
    // The token is available to the next call.
    app.delete_batch_node_user(batch_request("bob"))
        .await
        .unwrap();
    assert_eq!(upstream.requests("POST", "").len(), 1);
    assert_eq!(upstream.requests("DELETE", "").len(), 1);
}

#[tokio::test]
async fn late_logon_is_not_followed_by_delete() {
    for step in [Step::Logon, Step::Read] {
        let (arrived, open) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (notify, gate) = (Arc::clone(&arrived), Arc::clone(&open));
        let setup = HmcSetup::start(move |request| {
            let reply = default_reply(request, 1);
            if Step::of(request) == step {
                gated_reply(&notify, &gate, reply)
            } else {
                reply
            }
        })
        .await;
        let call = setup.fail(with_timeout(delete_by_id("id-1"), 700));
        let (failure, ()) = tokio::join!(call, release_too_late(&arrived, &open));
        failure.expect(Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
        setup.app.assert_recorded(&failure);
        setup.assert_not_sent(&failure);
    }
}

#[tokio::test(start_paused = true)]
async fn call_deadline_is_capped_at_60_seconds() {
    let rows: [(Option<&[u8]>, u64); 6] = [
        (None, 29_900),
        (Some(b"10S"), 9_900),
        (Some(b"60S"), 59_900),
        (Some(b"61S"), 59_900),
        (Some(b"1H"), 59_900),
        (Some(b"99999999H"), 59_900),
    ];
    for (timeout, milliseconds) in rows {
        let meta = CallContext::new(timeout, None);
        assert_eq!(meta.remaining(), Duration::from_millis(milliseconds));
    }
}
