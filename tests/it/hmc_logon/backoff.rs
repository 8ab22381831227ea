//! A logon that fails for another reason than the password is followed by a pause, so that callers in a loop cause no
//! load.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use useradmin_testkit::{
    HmcSetup, Reply,
    ScriptedReply::{Custom, Empty, Hmc, Html, Json, Reset},
    Step, delete_by_id,
};

/// Returns the maximum number of requests in this time, with pauses of at least 0.1 s, 0.2 s, 0.4 s, and so on.
pub fn max_requests(elapsed: Duration) -> usize {
    let (mut requests, mut pause, mut sum) = (1, 100, 0);
    loop {
        sum += pause;
        if sum > elapsed.as_millis() {
            return requests;
        }
        requests += 1;
        pause = (pause * 2).min(2_000);
    }
}

#[tokio::test]
async fn other_logon_failures_are_followed_by_a_pause() {
    let redirect = |_: &_| Reply::empty(302).with_header("Location", "/elsewhere");
    let rows = [
        Hmc(400, 7),
        Hmc(400, 5),
        Hmc(400, 13),
        Html(400),
        Empty(400),
        Custom(302, "redirect", redirect),
        Hmc(404, 1),
        Html(404),
        Empty(404),
        Html(407),
        Html(409),
        Hmc(409, 1),
        Hmc(409, 99),
        Hmc(412, 1),
        Empty(440),
        Empty(202),
        Empty(204),
        Hmc(501, 0),
        Hmc(500, 12),
        Html(503),
        Reset,
        Json(400, "foreign JSON", r#"{"error":"bad request"}"#),
    ];
    for reply in rows {
        let case = reply.to_string();
        let setup = HmcSetup::with_replies(vec![(Step::Logon, vec![reply])]).await;
        let started = Instant::now();
        let first = setup.fail(delete_by_id("id-1")).await;
        for _ in 0..10 {
            let together = join_all((0..3).map(|_| setup.fail(delete_by_id("id-1")))).await;
            for failure in together {
                // During a pause, calls receive the last failure. An open circuit breaker has a separate reason.
                let reason = failure.reason.as_str();
                assert!(
                    reason == first.reason || reason == "ERROR_REASON_CIRCUIT_OPEN",
                    "{case}: {reason}"
                );
                assert_eq!(failure.metadata_value("outcome"), "not_sent", "{case}");
            }
        }
        let (logons, max) = (setup.count(Step::Logon), max_requests(started.elapsed()));
        assert!(logons <= max, "{case}: {logons} of {max}");
        assert!(max < 25, "{case}: the machine is too slow to show anything");
    }
}
