//! Answers that get lost and answers that ask for patience: what is sent again, and what the caller is told of a
//! deletion whose fate is not known.

mod fates;

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tonic::Code::{DeadlineExceeded, FailedPrecondition, ResourceExhausted, Unavailable};
use useradmin::proto::DeleteOutcome;

use crate::support::{
    Console, Reply,
    Say::{Hang, Hmc, Html, Later, Reset, Usual},
    Step, by_id, by_name, timed, usual,
};

/// By name: the name is resolved once, and every attempt goes to the ID that was found then.
#[tokio::test]
async fn a_retry_goes_to_the_same_object_without_another_look_up() {
    let (mut lists, mut deletes) = (0, 0);
    let console = Console::start(move |request| match Step::of(request) {
        Step::List => {
            lists += 1;
            let user = format!(
                r#"{{"object-uri":"/api/users/id-{lists}","name":"ALICE","type":"standard"}}"#
            );
            Reply::json(200, &format!(r#"{{"users":[{user}]}}"#))
        }
        Step::Delete => {
            deletes += 1;
            [Reply::Close, Reply::html(502), Reply::empty(204)][deletes - 1].clone()
        }
        _ => usual(request, 1),
    })
    .await;
    let done = console.app.delete_hmc_user(by_name("alice")).await.unwrap();
    assert_eq!((done.outcome(), done.attempts), (DeleteOutcome::Deleted, 3));
    assert_eq!(
        (done.user_id.as_str(), done.user_name.as_str()),
        ("id-1", "ALICE")
    );
    assert_eq!(
        (console.count(Step::List), console.count(Step::Read)),
        (1, 0)
    );
    for delete in console.asked(Step::Delete) {
        assert_eq!(delete.target, "/api/users/id-1");
    }
}

#[tokio::test]
async fn reads_are_retried_and_are_no_attempts() {
    let rows = [
        vec![Reset, Usual],
        vec![Reset, Reset, Usual],
        vec![Hmc(503, 1), Usual],
        vec![Html(503), Hmc(500, 12), Usual],
        vec![Hmc(429, 1), Usual],
        vec![Html(408), Usual],
    ];
    let of_both = rows
        .into_iter()
        .flat_map(|says| [(Step::Read, says.clone()), (Step::List, says)]);
    join_all(of_both.map(|(step, says)| async move {
        let (what, tries) = (format!("{step:?} {says:?}"), says.len());
        let console = Console::saying(vec![(step, says)]).await;
        let request = if step == Step::Read {
            by_id("id-1")
        } else {
            by_name("alice")
        };
        let done = console.app.delete_hmc_user(request).await;
        let done = done.unwrap_or_else(|failed| panic!("{what}: {failed:?}"));
        assert_eq!(
            (done.outcome(), done.attempts),
            (DeleteOutcome::Deleted, 1),
            "{what}"
        );
        assert_eq!(
            (console.count(step), console.count(Step::Delete)),
            (tries, 1),
            "{what}"
        );
    }))
    .await;
}

#[tokio::test]
async fn a_read_that_keeps_failing_ends_the_call_with_nothing_sent() {
    let rows = [
        (Reset, Unavailable, "UPSTREAM_UNREACHABLE", 3, true),
        (Hmc(503, 1), Unavailable, "UPSTREAM_UNAVAILABLE", 3, true),
        (Hmc(500, 12), Unavailable, "UPSTREAM_UNAVAILABLE", 3, true),
        (Html(502), Unavailable, "UPSTREAM_UNAVAILABLE", 3, true),
        (Html(408), Unavailable, "UPSTREAM_UNAVAILABLE", 3, true),
        (
            Hmc(429, 1),
            ResourceExhausted,
            "UPSTREAM_THROTTLED",
            3,
            true,
        ),
        (
            Later(503, 1, "60"),
            Unavailable,
            "UPSTREAM_UNAVAILABLE",
            1,
            true,
        ),
        (Html(403), Unavailable, "UPSTREAM_PROTOCOL_ERROR", 1, false),
    ];
    join_all(rows.map(|(say, code, reason, tries, retry)| async move {
        let script = vec![(Step::Read, vec![say.clone()]), (Step::List, vec![say])];
        for request in [by_id("id-1"), by_name("alice")] {
            let console = Console::saying(script.clone()).await;
            let failed = console.fail(request).await;
            failed.expect(code, reason);
            console.expect_not_sent(&failed);
            assert_eq!(failed.retry_delay.is_some(), retry, "{failed:?}");
            assert_eq!(
                console.count(Step::Read) + console.count(Step::List),
                tries,
                "{failed:?}"
            );
        }
    }))
    .await;
}

#[tokio::test]
async fn a_hang_ends_before_the_callers_deadline() {
    let rows = [
        (Step::Read, "DEADLINE_EXCEEDED", "0", "not_sent"),
        (Step::Delete, "OUTCOME_UNKNOWN", "1", "unknown"),
    ];
    join_all(rows.map(|(step, reason, attempts, outcome)| async move {
        let console = Console::saying(vec![(step, vec![Hang])]).await;
        let began = Instant::now();
        let failed = console.fail(timed(by_id("id-1"), 700)).await;
        let took = began.elapsed();
        failed.expect(DeadlineExceeded, reason);
        assert_eq!(
            (failed.meta("attempts"), failed.meta("outcome")),
            (attempts, outcome)
        );
        assert!(
            failed.retry_delay.is_some() && failed.hmc.is_none(),
            "{failed:?}"
        );
        let due = Duration::from_millis(500)..Duration::from_millis(700);
        assert!(due.contains(&took), "{took:?}");
    }))
    .await;
}

/// `Retry-After` is obeyed when it fits, and else becomes the caller's.
#[tokio::test]
async fn a_pause_that_does_not_fit_is_passed_on() {
    let rows = [
        (
            Later(429, 1, "7"),
            ResourceExhausted,
            "UPSTREAM_THROTTLED",
            7,
        ),
        (Later(503, 1, "7"), Unavailable, "UPSTREAM_UNAVAILABLE", 7),
        (Later(503, 1, "0"), Unavailable, "UPSTREAM_UNAVAILABLE", 1),
        (
            Later(503, 1, "Mon, 01 Jan 2001 00:00:00 GMT"),
            Unavailable,
            "UPSTREAM_UNAVAILABLE",
            1,
        ),
    ];
    join_all(rows.map(|(say, code, reason, seconds)| async move {
        let console = Console::saying(vec![(Step::Delete, vec![say])]).await;
        let failed = console.fail(timed(by_id("id-1"), 1_200)).await;
        failed.expect(code, reason);
        assert_eq!(failed.retry_delay.unwrap(), Duration::from_secs(seconds));
        assert_eq!(console.count(Step::Delete), 1);
    }))
    .await;
}

#[tokio::test]
async fn a_pause_that_fits_is_kept() {
    let console = Console::saying(vec![(Step::Delete, vec![Later(503, 1, "1"), Usual])]).await;
    let began = Instant::now();
    let done = console.app.delete_hmc_user(by_id("id-1")).await.unwrap();
    assert_eq!((done.outcome(), done.attempts), (DeleteOutcome::Deleted, 2));
    assert!(began.elapsed() >= Duration::from_secs(1));
}

/// What the HMC refuses for a reason of its own is never sent twice.
#[tokio::test]
async fn a_refusal_is_final() {
    let console = Console::saying(vec![(Step::Delete, vec![Hmc(409, 320), Usual])]).await;
    let failed = console.fail(by_id("id-1")).await;
    failed.expect(FailedPrecondition, "AUTOMATIC_LOGON_USER");
    assert_eq!(console.count(Step::Delete), 1);
}
