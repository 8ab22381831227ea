//! Many deletions whose responses are lost or meaningless, on an HMC that carries out some of them.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
};

use futures_util::{StreamExt as _, stream};
use useradmin::proto::DeleteOutcome::{AbsentAfterRetry, Deleted};
use useradmin_testkit::{
    CallFailure, HmcSetup, Reply, Step, default_reply, delete_by_id, error_reply, with_timeout,
};

const CALLS: usize = 240;

/// The users that were deleted, and the number of DELETEs for each user.
#[derive(Default)]
struct Console {
    deleted: HashSet<usize>,
    requests: HashMap<usize, usize>,
}

/// Returns a response from which the effect of a DELETE cannot be known.
fn ambiguous_reply(nth: usize) -> Reply {
    let replies = [
        Reply::Close,
        Reply::html(500),
        Reply::html(502),
        Reply::html(504),
        Reply::html(408),
        Reply::html(404),
        Reply::empty(200),
        Reply::empty(302),
    ];
    replies[nth % replies.len()].clone()
}

/// Starts an HMC whose users are `id-0`, `id-1` and so on. It carries out three of four DELETEs, and does not report
/// the result of any.
async fn start(console: &Arc<Mutex<Console>>) -> HmcSetup {
    let console = Arc::clone(console);
    HmcSetup::start(move |request| {
        let user = request.target.strip_prefix("/api/users/id-");
        let Some(user) = user.and_then(|text| text.parse().ok()) else {
            return default_reply(request, 1);
        };
        let mut console = console.lock().unwrap();
        match Step::of(request) {
            _ if console.deleted.contains(&user) => error_reply(request, 404, 1),
            Step::Delete => {
                let nth = console.requests.entry(user).or_default();
                *nth += 1;
                let nth = *nth + user;
                if !nth.is_multiple_of(4) {
                    console.deleted.insert(user);
                }
                ambiguous_reply(nth + user / 8)
            }
            _ => Reply::json(
                200,
                &format!(r#"{{"name":"user-{user}","type":"standard"}}"#),
            ),
        }
    })
    .await
}

/// Deletes a user. Returns whether the outcome is known.
async fn delete(setup: &HmcSetup, console: &Mutex<Console>, user: usize) -> bool {
    let request = with_timeout(delete_by_id(&format!("id-{user}")), 20_000);
    let response = setup.app.client().delete_hmc_user(request).await;
    let is_deleted = console.lock().unwrap().deleted.contains(&user);
    match response {
        Ok(response) => {
            let outcome = response.into_inner().outcome();
            assert!(matches!(outcome, AbsentAfterRetry | Deleted), "{outcome:?}");
            assert!(is_deleted, "{user}: {outcome:?}, but the user exists");
            true
        }
        Err(status) => {
            let failure = CallFailure::from(status);
            assert_eq!(failure.metadata_value("outcome"), "unknown", "{failure:?}");
            let present = failure.metadata_value("observed") == "present";
            assert!(!present || !is_deleted, "{user}: {failure:?}");
            present
        }
    }
}

#[tokio::test]
async fn ambiguous_responses_are_resolved_by_reading() {
    let console = Arc::default();
    let setup = start(&console).await;
    let calls = stream::iter(0..CALLS).map(|user| delete(&setup, &console, user));
    let known: Vec<_> = calls.buffer_unordered(8).collect().await;
    let known = known.into_iter().filter(|known| *known).count();
    assert_eq!(known, CALLS);
}
