//! A failed token request is followed by a pause, so that callers in a loop cause no load on the endpoint.

use std::time::Instant;

use futures_util::future::join_all;
use useradmin_testkit::{Reply, batch_deleted, batch_request};

use super::{start_account, token_requests};
use crate::hmc_logon::max_requests;

#[tokio::test]
async fn failed_token_request_is_followed_by_a_pause() {
    let rejected = r#"{"error":"invalid_client","error_description":"AADSTS7000215: no."}"#;
    let rows = [
        Reply::json(401, rejected),
        Reply::json(400, rejected),
        Reply::empty(401),
        Reply::html(400),
        Reply::html(403),
        Reply::html(404),
        Reply::empty(302),
        Reply::empty(200),
        Reply::html(500),
        Reply::Close,
    ];
    for reply in rows {
        let case = format!("{reply:?}");
        let (app, upstream) = start_account(move |_| reply.clone(), |_| batch_deleted()).await;
        let started = Instant::now();
        for _ in 0..10 {
            let calls = (0..3).map(|_| app.delete_batch_node_user(batch_request("alice")));
            for response in join_all(calls).await {
                assert_eq!(
                    response.unwrap_err().metadata_value("outcome"),
                    "not_sent",
                    "{case}"
                );
            }
        }
        let (asked, max) = (
            token_requests(&upstream).len(),
            max_requests(started.elapsed()),
        );
        assert!(asked <= max, "{case}: {asked} of {max}");
        assert!(max < 25, "{case}: the machine is too slow to show anything");
    }
}
