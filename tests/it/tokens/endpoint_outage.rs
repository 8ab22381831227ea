//! The lifetime of a token: as stated in the response and counted from its arrival, regardless of the availability of
//! the endpoint and of differences between clocks.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use futures_util::future::join_all;
use tonic::Code::Unavailable;
use useradmin::proto::DeleteOutcome::Deleted;
use useradmin_testkit::{Reply, batch_deleted, batch_request, now, wait_until};

use super::{sent_authorizations, start_account_with, token_requests};

const LIFE: Duration = Duration::from_secs(3);

/// Returns a token with this lifetime and these other members.
fn token_valid_for(number: usize, seconds: u64, members: &str) -> Reply {
    let body = format!(
        r#"{{"token_type":"Bearer","expires_in":{seconds},{members}"access_token":"kanari-token-{number}"}}"#
    );
    Reply::json(200, &body)
}

fn without_sync(section: String) -> String {
    section + "[audit]\nsync = false\n"
}

#[tokio::test]
async fn valid_token_is_used_while_endpoint_is_down() {
    let up = Arc::new(AtomicBool::new(true));
    let is_up = Arc::clone(&up);
    let token = move |number| {
        if is_up.load(Ordering::SeqCst) {
            token_valid_for(number, LIFE.as_secs(), "")
        } else {
            Reply::Close
        }
    };
    let (app, _upstream) = start_account_with(token, |_| batch_deleted(), &without_sync).await;
    let call = || app.delete_batch_node_user(batch_request("alice"));
    let before = Instant::now();
    call().await.unwrap();
    let after = Instant::now();
    up.store(false, Ordering::SeqCst);
    wait_until("the token has ended", async || {
        let requested_at = Instant::now();
        let Err(failure) = call().await else {
            assert!(
                requested_at < after + LIFE,
                "a token that has ended was used"
            );
            return false;
        };
        assert!(
            before.elapsed() >= LIFE,
            "{:?} {failure:?}",
            before.elapsed()
        );
        failure.expect(Unavailable, "UPSTREAM_UNREACHABLE");
        app.assert_recorded(&failure);
        let actual = (
            failure.metadata_value("attempts"),
            failure.metadata_value("outcome"),
        );
        assert_eq!(actual, ("0", "not_sent"));
        true
    })
    .await;
    up.store(true, Ordering::SeqCst);
    wait_until("there is a token again", async || call().await.is_ok()).await;
}

/// The relative lifetime in the response applies, not the date of the response or an absolute expiry.
#[tokio::test]
async fn clock_difference_does_not_affect_expiry() {
    let date = |seconds: i64| {
        let time = time::OffsetDateTime::now_utc() + time::Duration::seconds(seconds);
        httpdate::fmt_http_date(SystemTime::from(time))
    };
    let moment = |name: &str, at: u64| format!(r#""{name}":{at},"#);
    let rows = [
        (date(-600), String::new()),
        (date(600), String::new()),
        (date(0), moment("expires_on", now() - 600)),
        (date(0), format!(r#""expires_on":"{}","#, now() - 600)),
        (date(0), moment("expires_on", now() + 10 * 86_400)),
        (date(0), moment("not_before", now() + 600)),
        (date(0), moment("ext_expires_in", 0)),
        (date(0), moment("ext_expires_in", 10 * 86_400)),
        (
            date(-600),
            r#""expires_on":null,"expires_at":"soon","#.to_owned(),
        ),
    ];
    join_all(rows.map(|(date, members)| async move {
        let case = format!("{date} {members}");
        // A long lifetime: one token for all calls.
        let (shown_date, text) = (date.clone(), members.clone());
        let token = move |n| token_valid_for(n, 3_599, &text).with_header("Date", &shown_date);
        let (app, upstream) = start_account_with(token, |_| batch_deleted(), &without_sync).await;
        for _ in 0..3 {
            let response = app.delete_batch_node_user(batch_request("alice")).await;
            let response = response.unwrap_or_else(|failure| panic!("{case}: {failure:?}"));
            assert_eq!(
                (response.outcome(), response.attempts),
                (Deleted, 1),
                "{case}"
            );
        }
        assert_eq!(token_requests(&upstream).len(), 1, "{case}");
        // A lifetime of one second: another token is used afterwards.
        let token = move |n| token_valid_for(n, 1, &members).with_header("Date", &date);
        let (app, upstream) = start_account_with(token, |_| batch_deleted(), &without_sync).await;
        wait_until(&case, async || {
            let response = app.delete_batch_node_user(batch_request("alice")).await;
            assert!(response.is_ok(), "{case}: {response:?}");
            sent_authorizations(&upstream).pop().unwrap() != "Bearer kanari-token-1"
        })
        .await;
    }))
    .await;
}
