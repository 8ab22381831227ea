//! Pauses before a DELETE is retried: `Retry-After`, and the retry budget of a target.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tonic::Code::Unavailable;
use useradmin::proto::DeleteOutcome::Deleted;
use useradmin_testkit::{
    Reply, batch_deleted, batch_request, batch_with_timeout, in_sequence, start_batch,
};

/// A deadline of 1.2 s leaves no time for a pause of a second and another attempt.
#[tokio::test]
async fn retry_after_beyond_deadline_is_returned_to_caller() {
    let date = |seconds: i64| {
        let time = time::OffsetDateTime::now_utc() + time::Duration::seconds(seconds);
        httpdate::fmt_http_date(time.into())
    };
    let rows = [
        ("7".to_owned(), 7..=7),
        (" 12 ".to_owned(), 12..=12),
        ("0".to_owned(), 1..=1),
        ("1".to_owned(), 1..=1),
        ("60".to_owned(), 60..=60),
        ("3600".to_owned(), 60..=60),
        ("9".repeat(30), 60..=60),
        (date(30), 27..=30),
        (date(3_600), 60..=60),
        (date(-30), 1..=1),
    ];
    let calls = rows
        .into_iter()
        .flat_map(|row| [429, 503].map(|status| (row.clone(), status)));
    let calls = calls.map(|((header, delay), status)| async move {
        let value = header.clone();
        let (app, upstream) =
            start_batch(move |_| Reply::html(status).with_header("Retry-After", &value)).await;
        let started = Instant::now();
        let timeout = Duration::from_millis(1_200);
        let failure = batch_with_timeout(&app, batch_request("alice"), timeout)
            .await
            .unwrap_err();
        assert!(started.elapsed() < Duration::from_secs(1), "{header}");
        assert_eq!(upstream.requests("DELETE", "").len(), 1, "{header}");
        assert_eq!(failure.metadata_value("attempts"), "1");
        assert_eq!(failure.metadata_value("outcome"), "not_deleted");
        let actual = failure.retry_delay.unwrap().as_secs();
        assert!(delay.contains(&actual), "{header}: {actual}");
    });
    join_all(calls).await;
}

#[tokio::test]
async fn invalid_retry_after_is_ignored() {
    let rows = [
        "soon",
        "",
        "-5",
        "1.5",
        "0x10",
        "Thu, 99 Nov 2024 00:00:00 GMT",
    ];
    let calls = rows.map(|header| async move {
        let (app, _upstream) =
            start_batch(move |_| Reply::html(503).with_header("Retry-After", header)).await;
        let failure = app
            .delete_batch_node_user(batch_request("alice"))
            .await
            .unwrap_err();
        failure.expect(Unavailable, "UPSTREAM_UNAVAILABLE");
        assert_eq!(failure.metadata_value("attempts"), "3", "{header}");
        assert_eq!(
            failure.retry_delay,
            Some(Duration::from_secs(5)),
            "{header}"
        );
    });
    join_all(calls).await;
}

#[tokio::test]
async fn retry_after_within_deadline_is_obeyed() {
    let rows = [(429, "1"), (503, "0"), (500, "1")];
    let calls = rows.map(|(status, header)| async move {
        let busy = Reply::html(status).with_header("Retry-After", header);
        let (app, _upstream) = start_batch(in_sequence(vec![busy, batch_deleted()])).await;
        let started = Instant::now();
        let response = app
            .delete_batch_node_user(batch_request("alice"))
            .await
            .unwrap();
        assert_eq!((response.outcome(), response.attempts), (Deleted, 2));
        let duration = started.elapsed();
        assert!(
            (1_000..1_900).contains(&duration.as_millis()),
            "{status}: {duration:?}"
        );
    });
    join_all(calls).await;
}

#[tokio::test]
async fn retries_of_a_target_are_limited_by_budget() {
    let (app, upstream) = start_batch(|_| Reply::html(503)).await;
    // Each call would retry twice, 24 times in total.
    let calls = (0..12).map(|_| app.delete_batch_node_user(batch_request("alice")));
    for response in join_all(calls).await {
        let failure = response.unwrap_err();
        failure.expect(Unavailable, "UPSTREAM_UNAVAILABLE");
    }
    let retries = upstream.requests("DELETE", "").len() - 12;
    // 10 tokens, 0.2 for each call, and one per second.
    assert!((10..=14).contains(&retries), "{retries} retries");
}
