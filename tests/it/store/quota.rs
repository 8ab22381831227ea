//! Quotas in the database: the limit holds for all replicas together, over restarts and changes of the limit and of the
//! clock.
//!
//! `USERADMIN_STORE_QUOTA_SECONDS=150` measures the deletions of replicas under load for this time.

use std::{
    env,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use tokio::{task::JoinSet, time::sleep};
use useradmin_testkit::{
    App, Postgres, Reply, Store, Upstream, batch_deleted, batch_request, token_reply_or,
};

use super::replica::{
    LEASE, Replica, batch_upstream, calls, configuration, deleted_users, upstream_with,
};

const EXCEEDED: &str = "ERROR_REASON_DELETE_QUOTA_EXCEEDED";
const WINDOW: Duration = Duration::from_mins(1);

async fn start(store: &Store<'_>, upstream: &str, limit: u32) -> App {
    let folder = App::folder();
    let section = store.section(&folder, LEASE);
    let quota = format!("deletes_per_minute = {limit}");
    let text = configuration(&folder, 0, upstream, &section, &quota);
    App::start_with_text(folder, &text).await
}

/// Makes calls until one is refused. Returns the number of deletions, and the time after which a repetition makes
/// sense.
async fn use_up(app: &App) -> (usize, u64) {
    let mut deleted = 0;
    loop {
        let called = app.delete_batch_node_user(batch_request("alice")).await;
        let Err(failure) = called else {
            deleted += 1;
            continue;
        };
        assert_eq!(failure.reason, EXCEEDED, "{failure:?}");
        return (deleted, failure.retry_delay.unwrap().as_secs());
    }
}

/// Moves all counted deletions to an earlier or later time.
fn shift_deletions(store: &Store<'_>, seconds: i32) {
    // Two steps, because a row may otherwise have the key of one that is still to be moved.
    for shift in [1_000_000 + seconds, -1_000_000] {
        let sql = format!("UPDATE useradmin.deletion_count SET second = second + {shift}");
        store.database.sql(&sql).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn window_limit_and_clock_change() {
    let Some(postgres) = Postgres::shared() else {
        return;
    };
    let store = Store::create(postgres, "quota_window");
    let upstream = batch_upstream().await;
    let mut total = 0;
    // The shift of the counted deletions, the limit of the server that starts then, and the deletions it allows.
    for (case, shift, limit, expected) in [
        ("first", 0, 10, 10),
        ("restart", 0, 10, 0),
        ("raised", 0, 15, 5),
        ("lowered", 0, 5, 0),
        ("almost a minute later", -40, 15, 0),
        ("a minute later", -61, 15, 15),
        ("clock set back by an hour", 3_600, 15, 0),
        ("a minute after that", -61, 15, 15),
    ] {
        shift_deletions(&store, shift);
        let app = start(&store, &upstream.url, limit).await;
        let (deleted, wait) = use_up(&app).await;
        assert_eq!(deleted, expected, "{case}");
        let range = if case == "almost a minute later" {
            1..=21
        } else {
            1..=61
        };
        assert!(range.contains(&wait), "{case}: {wait}");
        total += deleted;
        app.stop().await;
    }
    assert_eq!(deleted_users(&upstream).len(), total);
    assert_eq!(recorded_deletions(&store), total);
}

/// Deletions that were counted and not sent are given back, also if the outcome is recorded after the database was
/// away.
#[tokio::test(flavor = "multi_thread")]
async fn calls_that_sent_nothing_are_given_back() {
    let Some(postgres) = Postgres::shared() else {
        return;
    };
    let store = Store::create(postgres, "quota_refund");
    // Microsoft Entra does not issue a token, so that no DELETE is sent.
    let refusing = Upstream::start(|_| Reply::json(503, "{}")).await;
    let app = start(&store, &refusing.url, 3).await;
    for _ in 0..5 {
        let called = app.delete_batch_node_user(batch_request("alice")).await;
        let failure = called.unwrap_err();
        assert_eq!(failure.metadata_value("outcome"), "not_sent");
        assert_ne!(failure.reason, EXCEEDED);
    }
    app.stop().await;
    let upstream = upstream_with(batch_deleted).await;
    let app = start(&store, &upstream.url, 3).await;
    assert_eq!(use_up(&app).await.0, 3);
    app.stop().await;
    let counted = "SELECT sum(count) FROM useradmin.deletion_count";
    assert_eq!(store.database.sql(counted), Ok("3".to_owned()));
}

/// Asserts that the records are one chain, and that each intent has one outcome. Returns the number of deletions. The other
/// intents were recorded too late on a busy machine, so that nothing was sent.
fn recorded_deletions(store: &Store<'_>) -> usize {
    assert_eq!(store.verify().0, 0);
    let calls = calls(&store.records());
    let recorded = calls.values().filter(|call| !call.intents.is_empty());
    let deleted = recorded.filter(|call| {
        let (outcome, _) = call.result();
        assert!(["deleted", "not_sent"].contains(&outcome), "{call:?}");
        outcome == "deleted"
    });
    deleted.count()
}

/// Returns the largest number of deletions in a period of 60 seconds.
fn max_in_window(times: &[Instant]) -> usize {
    let from = |first: &Instant| {
        let within = times
            .iter()
            .filter(|time| *time >= first && **time < *first + WINDOW);
        within.count()
    };
    times.iter().map(from).max().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_under_load_do_not_exceed_the_limit() {
    let Some(postgres) = Postgres::shared() else {
        return;
    };
    let seconds = env::var("USERADMIN_STORE_QUOTA_SECONDS").map(|number| number.parse().unwrap());
    let seconds: u64 = seconds.unwrap_or(5);
    let store = Store::create(postgres, "quota_load");
    let times = Arc::<Mutex<Vec<Instant>>>::default();
    let record = Arc::clone(&times);
    let upstream = Upstream::start(move |request| {
        if request.method == "DELETE" {
            record.lock().unwrap().push(Instant::now());
        }
        token_reply_or(request, batch_deleted)
    })
    .await;
    let replicas: Vec<_> = (0..5)
        .map(|_| {
            Replica::start(&upstream.url, "deletes_per_minute = 60", |folder| {
                store.section(folder, LEASE)
            })
        })
        .collect();
    let mut callers = JoinSet::new();
    let end = Instant::now() + Duration::from_secs(seconds);
    for replica in &replicas {
        replica.wait_until_ready().await;
        for _ in 0..4 {
            let mut client = replica.process.client();
            callers.spawn(async move {
                while Instant::now() < end {
                    let _refused = client.delete_batch_node_user(batch_request("alice")).await;
                    sleep(Duration::from_millis(20)).await;
                }
            });
        }
    }
    callers.join_all().await;
    for replica in replicas {
        replica.stop();
    }
    let times = times.lock().unwrap().clone();
    let max = max_in_window(&times);
    eprintln!("{} deletions, {max} at most in 60 seconds", times.len());
    assert!((60..=63).contains(&max), "{max}");
    // Each further minute allows 60 more, except that whole seconds are counted.
    let minutes = usize::try_from(seconds / 61).unwrap();
    assert!(times.len() >= 57 * (minutes + 1), "{}", times.len());
    assert_eq!(recorded_deletions(&store), times.len());
}
