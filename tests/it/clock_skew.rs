//! Clock skew: the use of an upstream's `Date` when it rejects credentials, and for the interpretation of its dates.

use std::time::{Duration, SystemTime};

use futures_util::future::join_all;
use tonic::Code;
use useradmin_testkit::{
    App, CallFailure, HmcSetup, Process, Reply, Step, Upstream, batch_deleted, batch_error,
    batch_request, batch_section, batch_with_timeout, configure, default_reply, delete_by_id,
    error_reply, start_batch,
};

/// Returns the time this number of seconds from now, in the HTTP date format.
fn date_with_offset(seconds: i64) -> String {
    let time = time::OffsetDateTime::now_utc() + time::Duration::seconds(seconds);
    httpdate::fmt_http_date(SystemTime::from(time))
}

/// Asserts that the metadata contains the expected skew, if any. A few seconds may pass between the script and the
/// response.
#[track_caller]
fn expect_skew(failure: &CallFailure, expected: Option<i64>, case: &str) {
    let actual = failure.metadata_value("clock_skew_seconds");
    let Some(expected) = expected else {
        assert_eq!(actual, "", "{case}");
        return;
    };
    let actual: i64 = actual
        .parse()
        .unwrap_or_else(|_| panic!("{case}: {actual:?}"));
    assert!(
        (expected - 20..=expected + 1).contains(&actual),
        "{case}: {actual}"
    );
}

#[tokio::test]
async fn skew_above_five_minutes_is_reported() {
    let rows = [
        (date_with_offset(1_900), Some(1_900)),
        (date_with_offset(-1_900), Some(-1_900)),
        (date_with_offset(330), Some(330)),
        (date_with_offset(-330), Some(-330)),
        (date_with_offset(270), None),
        (date_with_offset(-270), None),
        (date_with_offset(0), None),
        (date_with_offset(400 * 86_400), Some(400 * 86_400)),
        ("Fri, 31 Dec 9999 23:59:59 GMT".to_owned(), {
            let years = time::OffsetDateTime::now_utc();
            Some(253_402_300_799 - years.unix_timestamp())
        }),
        ("soon".to_owned(), None),
        (String::new(), None),
    ];
    join_all(rows.map(|(date, expected)| async move {
        let case = date.clone();
        let refusal = batch_error(403, "AuthenticationFailed").with_header("Date", &date);
        let (app, _upstream) = start_batch(move |_| refusal.clone()).await;
        let failure = app.delete_batch_node_user(batch_request("alice")).await;
        let failure = failure.unwrap_err();
        failure.expect(Code::Internal, "UPSTREAM_CREDENTIALS_REJECTED");
        expect_skew(&failure, expected, &case);
    }))
    .await;
}

#[tokio::test]
async fn skew_is_reported_only_with_refused_credentials() {
    let rows = [
        (batch_error(401, "AuthenticationFailed"), true),
        (Reply::empty(401), true),
        (Reply::html(401), true),
        (Reply::html(403), true),
        (batch_error(400, "InvalidAuthenticationInfo"), true),
        (batch_error(403, "AuthorizationFailure"), true),
        (batch_error(403, "Unlisted"), true),
        (batch_error(404, "NodeUserNotFound"), false),
        (batch_error(409, "NodeBeingCreated"), false),
        (batch_error(400, "InvalidInput"), false),
        (batch_error(503, "ServerBusy"), false),
        (Reply::html(302), false),
    ];
    join_all(rows.map(|(reply, is_told)| async move {
        let case = format!("{reply:?}");
        let reply = reply.with_header("Date", &date_with_offset(1_900));
        let (app, _upstream) = start_batch(move |_| reply.clone()).await;
        let failure = app.delete_batch_node_user(batch_request("alice")).await;
        expect_skew(&failure.unwrap_err(), is_told.then_some(1_900), &case);
    }))
    .await;
}

#[tokio::test]
async fn token_endpoint_skew_is_reported() {
    for status in [400, 401, 403, 503] {
        let upstream = Upstream::start(move |request| match request.method.as_str() {
            "POST" => Reply::html(status).with_header("Date", &date_with_offset(-7_200)),
            _ => batch_deleted(),
        })
        .await;
        let folder = App::folder();
        let section = batch_section(&folder, &upstream.url);
        let app = App::start_in(folder, &section).await;
        let failure = app.delete_batch_node_user(batch_request("alice")).await;
        let expected = (status != 503).then_some(-7_200);
        expect_skew(&failure.unwrap_err(), expected, &status.to_string());
    }
}

#[tokio::test]
async fn hmc_skew_is_reported() {
    let rows = [
        (Step::Logon, 403, 0, true),
        (Step::Logon, 401, 0, true),
        (Step::Delete, 403, 4, true),
        (Step::Delete, 403, 1, true),
        (Step::Delete, 409, 317, false),
    ];
    for (step, status, reason, is_told) in rows {
        let setup = HmcSetup::start(move |request| {
            if Step::of(request) == step {
                return error_reply(request, status, reason)
                    .with_header("Date", &date_with_offset(-1_900));
            }
            default_reply(request, 1)
        })
        .await;
        let failure = setup.fail(delete_by_id("id-1")).await;
        let case = format!("{status}/{reason}");
        expect_skew(&failure, is_told.then_some(-1_900), &case);
    }
}

/// The skew is logged with the call.
#[tokio::test(flavor = "multi_thread")]
async fn skew_is_logged() {
    let upstream = Upstream::start(|request| match request.method.as_str() {
        "POST" => Reply::json(
            200,
            r#"{"token_type":"Bearer","expires_in":3599,"access_token":"kanari-token-1"}"#,
        ),
        _ => batch_error(403, "AuthenticationFailed").with_header("Date", &date_with_offset(1_900)),
    })
    .await;
    let folder = App::folder();
    configure(&folder, &upstream.url, "");
    let process = Process::start(&folder);
    let mut client = process.client();
    let call = client.delete_batch_node_user(batch_request("alice"));
    call.await.unwrap_err();
    process.stop();
    let calls = Process::log_records(&folder, "call ended");
    let context = calls[0]["context"].as_str().unwrap();
    assert!(
        context.contains("the upstream's clock is 1") && context.contains(" s ahead of"),
        "{context}"
    );
    std::fs::remove_dir_all(folder).unwrap();
}

/// A `Retry-After` date is interpreted with the clock of the server that sent it.
#[tokio::test]
async fn retry_after_date_is_relative_to_response_date() {
    let rows = [
        (date_with_offset(3_630), date_with_offset(3_600), 30..=30),
        (date_with_offset(-3_570), date_with_offset(-3_600), 30..=30),
        (date_with_offset(3_600), date_with_offset(3_600), 1..=1),
        (date_with_offset(10), date_with_offset(3_600), 1..=1),
        (date_with_offset(10_000), date_with_offset(3_600), 60..=60),
        // Without a valid `Date`, the local clock is used.
        (date_with_offset(30), "soon".to_owned(), 27..=30),
        (date_with_offset(30), String::new(), 27..=30),
        // A number of seconds is not a date.
        ("7".to_owned(), date_with_offset(3_600), 7..=7),
    ];
    join_all(rows.map(|(pause, date, expected)| async move {
        let case = format!("{pause} at {date}");
        let reply = Reply::html(503);
        let reply = reply
            .with_header("Retry-After", &pause)
            .with_header("Date", &date);
        let (app, _upstream) = start_batch(move |_| reply.clone()).await;
        let timeout = Duration::from_millis(1_200);
        let failure = batch_with_timeout(&app, batch_request("alice"), timeout).await;
        let actual = failure.unwrap_err().retry_delay.unwrap().as_secs();
        assert!(expected.contains(&actual), "{case}: {actual}");
    }))
    .await;
}
