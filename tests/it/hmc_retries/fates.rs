//! What becomes of a call whose DELETEs are answered one after the other like this: the reason is the last
//! answer's, `outcome` the worst of all.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use futures_util::future::join_all;
use tokio::sync::Barrier;
use tonic::Code::{Aborted, FailedPrecondition, Internal, NotFound, PermissionDenied, Unavailable};
use useradmin::proto::DeleteOutcome::{self, AbsentAfterRetry, AlreadyAbsent, Deleted};

use crate::support::{
    Console, Reply,
    Say::{self, Empty, Hmc, Html, Reset, Usual},
    Step, by_id, refusal, usual,
};

/// Each line is one call: the answers to its DELETEs, `allow_missing`, and the outcome.
#[tokio::test]
async fn an_absence_after_an_unknown_fate_is_our_own_deletion() {
    let rows: Vec<(Vec<Say>, bool, DeleteOutcome)> = vec![
        (vec![Reset, Usual], false, Deleted),
        (vec![Reset, Reset, Usual], false, Deleted),
        (vec![Html(503), Hmc(429, 1), Usual], false, Deleted),
        (vec![Reset, Hmc(404, 1)], false, AbsentAfterRetry),
        (vec![Reset, Hmc(404, 1)], true, AbsentAfterRetry),
        (vec![Reset, Reset, Hmc(404, 1)], false, AbsentAfterRetry),
        (vec![Hmc(500, 12), Hmc(404, 1)], false, AbsentAfterRetry),
        (vec![Html(502), Hmc(404, 1)], false, AbsentAfterRetry),
        (vec![Html(504), Hmc(404, 1)], false, AbsentAfterRetry),
        (vec![Html(408), Hmc(404, 1)], false, AbsentAfterRetry),
        (vec![Reset, Html(503), Hmc(404, 1)], false, AbsentAfterRetry),
        (
            vec![Hmc(503, 1), Reset, Hmc(404, 1)],
            false,
            AbsentAfterRetry,
        ),
        (
            vec![Reset, Hmc(403, 5), Hmc(404, 1)],
            false,
            AbsentAfterRetry,
        ),
        (
            vec![Hmc(403, 5), Reset, Hmc(404, 1)],
            false,
            AbsentAfterRetry,
        ),
        (vec![Hmc(404, 1)], true, AlreadyAbsent),
        (vec![Hmc(503, 1), Hmc(404, 1)], true, AlreadyAbsent),
        (vec![Hmc(429, 1), Hmc(404, 1)], true, AlreadyAbsent),
        (vec![Hmc(403, 5), Hmc(404, 1)], true, AlreadyAbsent),
    ];
    join_all(
        rows.into_iter()
            .map(|(says, allow_missing, wanted)| async move {
                let (what, attempts) = (format!("{says:?}"), says.len());
                let console = Console::saying(vec![(Step::Delete, says)]).await;
                let mut request = by_id("id-1");
                request.allow_missing = allow_missing;
                let done = console.app.delete_hmc_user(request).await;
                let done = done.unwrap_or_else(|failed| panic!("{what}: {failed:?}"));
                assert_eq!(
                    (done.outcome(), done.attempts as usize),
                    (wanted, attempts),
                    "{what}"
                );
                assert_eq!(console.count(Step::Delete), attempts, "{what}");
            }),
    )
    .await;
}

#[tokio::test]
async fn the_last_answer_gives_the_reason_and_the_worst_the_outcome() {
    let rows = [
        (
            vec![Hmc(503, 1), Hmc(404, 1)],
            NotFound,
            "USER_NOT_FOUND",
            "not_deleted",
        ),
        (
            vec![Hmc(429, 1), Hmc(404, 1)],
            NotFound,
            "USER_NOT_FOUND",
            "not_deleted",
        ),
        (
            vec![Hmc(403, 5), Hmc(404, 1)],
            NotFound,
            "USER_NOT_FOUND",
            "not_deleted",
        ),
        (
            vec![Hmc(429, 1), Html(503), Hmc(404, 1)],
            NotFound,
            "USER_NOT_FOUND",
            "not_deleted",
        ),
        (
            vec![Reset, Hmc(404, 2)],
            NotFound,
            "UPSTREAM_RESOURCE_NOT_FOUND",
            "unknown",
        ),
        (
            vec![Reset, Html(404)],
            Unavailable,
            "UPSTREAM_PROTOCOL_ERROR",
            "unknown",
        ),
        (
            vec![Html(503), Empty(200)],
            Unavailable,
            "UPSTREAM_PROTOCOL_ERROR",
            "unknown",
        ),
        (
            vec![Hmc(500, 12), Hmc(409, 317)],
            FailedPrecondition,
            "TEMPLATE_USER_IN_USE",
            "unknown",
        ),
        (
            vec![Reset, Hmc(409, 2)],
            Aborted,
            "UPSTREAM_CONFLICT",
            "unknown",
        ),
        (
            vec![Reset, Hmc(403, 1)],
            PermissionDenied,
            "UPSTREAM_PERMISSION_DENIED",
            "unknown",
        ),
        (
            vec![Reset, Html(503), Html(503)],
            Unavailable,
            "UPSTREAM_UNAVAILABLE",
            "unknown",
        ),
        (
            vec![Html(503), Html(502), Html(503)],
            Unavailable,
            "UPSTREAM_UNAVAILABLE",
            "unknown",
        ),
        (
            vec![Reset, Hmc(403, 5), Hmc(403, 5)],
            Internal,
            "UPSTREAM_CREDENTIALS_REJECTED",
            "unknown",
        ),
        (
            vec![Reset, Reset, Reset],
            Unavailable,
            "OUTCOME_UNKNOWN",
            "unknown",
        ),
        (
            vec![Html(503), Html(503), Reset],
            Unavailable,
            "OUTCOME_UNKNOWN",
            "unknown",
        ),
        (
            vec![Hmc(403, 5), Reset, Reset],
            Unavailable,
            "OUTCOME_UNKNOWN",
            "unknown",
        ),
    ];
    join_all(rows.map(|(says, code, reason, outcome)| async move {
        let (what, attempts) = (format!("{says:?}"), says.len());
        let answered = !matches!(says.last(), Some(Reset));
        let console = Console::saying(vec![(Step::Delete, says)]).await;
        let failed = console.fail(by_id("id-1")).await;
        failed.expect(code, reason);
        let told = (failed.meta("attempts"), failed.meta("outcome"));
        assert_eq!(told, (attempts.to_string().as_str(), outcome), "{what}");
        assert_eq!(
            failed.metadata.contains_key("upstream_http_status"),
            answered,
            "{what}"
        );
        assert_eq!(console.count(Step::Delete), attempts, "{what}");
    }))
    .await;
}

/// The session dies in another call while this one waits for its answer; the answer gets lost, and there is no
/// new session to try again with.
#[tokio::test]
async fn an_unknown_fate_is_told_even_if_no_logon_is_possible_any_more() {
    join_all(
        [Hmc(403, 0), Hmc(400, 13), Html(403), Html(501)].map(|say| async move {
            let (gate, dead) = (Arc::new(Barrier::new(2)), AtomicBool::new(false));
            let closed = Arc::clone(&gate);
            let what = say.to_string();
            let console = Console::start(move |request| match Step::of(request) {
                Step::Delete => {
                    dead.store(true, Ordering::SeqCst);
                    Reply::Together(Arc::clone(&closed), Box::new(Reply::Close))
                }
                Step::Logon if dead.load(Ordering::SeqCst) => say.reply(request),
                Step::Read if dead.load(Ordering::SeqCst) => refusal(request, 403, 5),
                _ => usual(request, 1),
            })
            .await;
            let other = async {
                console.upstream.until("DELETE", "/api/users/id-1", 1).await;
                let failed = console.fail(by_id("id-1")).await;
                console_not_sent(&failed);
                gate.wait().await;
            };
            let (failed, ()) = tokio::join!(console.fail(by_id("id-1")), other);
            failed.expect(Unavailable, "OUTCOME_UNKNOWN");
            let told = (failed.meta("attempts"), failed.meta("outcome"));
            assert_eq!(told, ("1", "unknown"), "{what}");
            assert!(
                failed.retry_delay.is_some() && failed.hmc.is_none(),
                "{what}: {failed:?}"
            );
            assert_eq!(console.count(Step::Delete), 1, "{what}");
            assert_eq!(console.count(Step::Logon), 3, "{what}");
        }),
    )
    .await;
}

fn console_not_sent(failed: &crate::support::Failed) {
    assert_eq!(
        (failed.meta("attempts"), failed.meta("outcome")),
        ("0", "not_sent"),
        "{failed:?}"
    );
}

/// The last answer was an expiry, and it could not be helped: what was lost before it is not forgotten.
#[tokio::test]
async fn a_logon_that_fails_between_two_attempts_does_not_hide_the_first() {
    let script = vec![
        (Step::Delete, vec![Reset, Hmc(403, 5)]),
        (Step::Logon, vec![Usual, Hmc(403, 0)]),
    ];
    let console = Console::saying(script).await;
    let failed = console.fail(by_id("id-1")).await;
    failed.expect(Internal, "UPSTREAM_CREDENTIALS_REJECTED");
    assert_eq!(
        (failed.meta("attempts"), failed.meta("outcome")),
        ("2", "unknown")
    );
}
