//! Lost responses and responses that ask for a pause: which requests are sent again, and which outcome the caller
//! receives for a deletion whose effect is unknown.

mod ambiguous;
mod deadlines;
mod effects;
mod observed;

use futures_util::future::join_all;
use tonic::Code::{FailedPrecondition, ResourceExhausted, Unavailable};
use useradmin::proto::DeleteOutcome;
use useradmin_testkit::{
    HmcSetup, Reply,
    ScriptedReply::{Default, Hmc, Html, Reset, RetryAfter},
    Step, default_reply, delete_by_id, delete_by_name,
};

/// By name: the name is resolved once, and every attempt uses the ID that was found.
#[tokio::test]
async fn retry_uses_same_object_without_new_lookup() {
    let (mut lists, mut deletes) = (0, 0);
    let setup = HmcSetup::start(move |request| match Step::of(request) {
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
        _ => default_reply(request, 1),
    })
    .await;
    let response = setup
        .app
        .delete_hmc_user(delete_by_name("alice"))
        .await
        .unwrap();
    assert_eq!(
        (response.outcome(), response.attempts),
        (DeleteOutcome::Deleted, 3)
    );
    assert_eq!(
        (response.user_id.as_str(), response.user_name.as_str()),
        ("id-1", "ALICE")
    );
    assert_eq!((setup.count(Step::List), setup.count(Step::Read)), (1, 0));
    for delete in setup.requests_of(Step::Delete) {
        assert_eq!(delete.target, "/api/users/id-1");
    }
}

#[tokio::test]
async fn reads_are_retried_but_not_counted_as_attempts() {
    let rows = [
        vec![Reset, Default],
        vec![Reset, Reset, Default],
        vec![Hmc(503, 1), Default],
        vec![Html(503), Hmc(500, 12), Default],
        vec![Hmc(429, 1), Default],
        vec![Html(408), Default],
    ];
    let of_both = rows
        .into_iter()
        .flat_map(|replies| [(Step::Read, replies.clone()), (Step::List, replies)]);
    join_all(of_both.map(|(step, replies)| async move {
        let (case, tries) = (format!("{step:?} {replies:?}"), replies.len());
        let setup = HmcSetup::with_replies(vec![(step, replies)]).await;
        let request = if step == Step::Read {
            delete_by_id("id-1")
        } else {
            delete_by_name("alice")
        };
        let response = setup.app.delete_hmc_user(request).await;
        let response = response.unwrap_or_else(|failure| panic!("{case}: {failure:?}"));
        assert_eq!(
            (response.outcome(), response.attempts),
            (DeleteOutcome::Deleted, 1),
            "{case}"
        );
        assert_eq!(
            (setup.count(step), setup.count(Step::Delete)),
            (tries, 1),
            "{case}"
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
            RetryAfter(503, 1, "60"),
            Unavailable,
            "UPSTREAM_UNAVAILABLE",
            1,
            true,
        ),
        (Html(403), Unavailable, "UPSTREAM_PROTOCOL_ERROR", 1, false),
    ];
    join_all(rows.map(|(reply, code, reason, tries, retry)| async move {
        let script = vec![(Step::Read, vec![reply.clone()]), (Step::List, vec![reply])];
        for request in [delete_by_id("id-1"), delete_by_name("alice")] {
            let setup = HmcSetup::with_replies(script.clone()).await;
            let failure = setup.fail(request).await;
            failure.expect(code, reason);
            setup.assert_not_sent(&failure);
            assert_eq!(failure.retry_delay.is_some(), retry, "{failure:?}");
            assert_eq!(
                setup.count(Step::Read) + setup.count(Step::List),
                tries,
                "{failure:?}"
            );
        }
    }))
    .await;
}

/// A deletion that the HMC refuses with a documented reason is never sent again.
#[tokio::test]
async fn refusal_is_not_retried() {
    let setup = HmcSetup::with_replies(vec![(Step::Delete, vec![Hmc(409, 320), Default])]).await;
    let failure = setup.fail(delete_by_id("id-1")).await;
    failure.expect(FailedPrecondition, "AUTOMATIC_LOGON_USER");
    assert_eq!(setup.count(Step::Delete), 1);
}
