//! A logon that fails for another reason than the password is followed by a pause, so that callers in a loop cause no
//! load.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use useradmin_testkit::{
    Console, Reply,
    Say::{Empty, Hmc, Html, Json, Made, Reset},
    Step, by_id,
};

/// Returns the maximum number of requests in this time, with pauses of at least 0.1 s, 0.2 s, 0.4 s, and so on.
pub fn most_requests(took: Duration) -> usize {
    let (mut requests, mut pause, mut sum) = (1, 100, 0);
    loop {
        sum += pause;
        if sum > took.as_millis() {
            return requests;
        }
        requests += 1;
        pause = (pause * 2).min(2_000);
    }
}

#[tokio::test]
async fn other_logon_failures_are_followed_by_a_pause() {
    let redirect = |_: &_| Reply::empty(302).with("Location", "/elsewhere");
    let rows = [
        Hmc(400, 7),
        Hmc(400, 5),
        Hmc(400, 13),
        Html(400),
        Empty(400),
        Made(302, "redirect", redirect),
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
    for say in rows {
        let what = say.to_string();
        let console = Console::saying(vec![(Step::Logon, vec![say])]).await;
        let begun = Instant::now();
        let first = console.fail(by_id("id-1")).await;
        for _ in 0..10 {
            let together = join_all((0..3).map(|_| console.fail(by_id("id-1")))).await;
            for failed in together {
                // During a pause, calls receive the last failure. An open circuit breaker has a separate reason.
                let reason = failed.reason.as_str();
                assert!(
                    reason == first.reason || reason == "ERROR_REASON_CIRCUIT_OPEN",
                    "{what}: {reason}"
                );
                assert_eq!(failed.meta("outcome"), "not_sent", "{what}");
            }
        }
        let (logons, most) = (console.count(Step::Logon), most_requests(begun.elapsed()));
        assert!(logons <= most, "{what}: {logons} of {most}");
        assert!(
            most < 25,
            "{what}: the machine is too slow to show anything"
        );
    }
}
