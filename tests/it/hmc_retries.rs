//! Lost responses and responses that ask for a pause: which requests are sent again, and which outcome the caller
//! receives for a deletion whose effect is unknown.

mod deadlines;
mod effects;

use futures_util::future::join_all;
use tonic::Code::{FailedPrecondition, ResourceExhausted, Unavailable};
use useradmin::proto::DeleteOutcome;
use useradmin_testkit::{
    Console, Reply,
    Say::{Hmc, Html, Later, Reset, Usual},
    Step, by_id, by_name, usual,
};

/// By name: the name is resolved once, and every attempt uses the ID that was found.
#[tokio::test]
async fn retry_uses_same_object_without_new_lookup() {
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
async fn reads_are_retried_but_not_counted_as_attempts() {
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

/// Code, reason, attempts and `RetryInfo` of a call whose read keeps failing in this way.
#[tokio::test]
async fn repeatedly_failing_read_reports_not_sent() {
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

/// A deletion that the HMC refuses with a documented reason is never sent again.
#[tokio::test]
async fn refusal_is_not_retried() {
    let console = Console::saying(vec![(Step::Delete, vec![Hmc(409, 320), Usual])]).await;
    let failed = console.fail(by_id("id-1")).await;
    failed.expect(FailedPrecondition, "AUTOMATIC_LOGON_USER");
    assert_eq!(console.count(Step::Delete), 1);
}
