//! Replicas and the database are killed under load: no DELETE without a committed intent, and no intent without exactly
//! one outcome.
//!
//! `USERADMIN_STORE_KILLS=50` kills more replicas than by default, and the database two times for each five of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rand::RngExt as _;
use tokio::{sync::watch, task::JoinSet, time::timeout};
use useradmin_testkit::{
    CallFailure, Postgres, Store, Upstream, batch_deleted, batch_request, token_reply_or,
};

use super::replica::{LEASE, Replica, UNAVAILABLE, results};

const DEFAULT_KILLS: usize = 10;
const REPLICAS: usize = 3;
/// Callers of each replica.
const CALLERS: usize = 4;
/// Time after which a replica is killed even if too few DELETEs have arrived, since the database may be away.
const MAX_ROUND: Duration = Duration::from_secs(6);

/// Time in microseconds.
fn now() -> u128 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap().as_micros()
}

/// The results of calls, as their callers received them.
#[derive(Default)]
struct Responses {
    deleted: BTreeSet<String>,
    /// Users of calls that were refused because the audit log was not available.
    refused: BTreeSet<String>,
}

/// The state that all tasks share.
struct Load {
    postgres: &'static Postgres,
    store: Store<'static>,
    upstream: Upstream,
    /// Time of the arrival of each DELETE.
    arrivals: Arc<Mutex<Vec<(String, u128)>>>,
    /// Number of DELETEs that have arrived.
    arrived: watch::Receiver<usize>,
    responses: Mutex<Responses>,
    /// Number of the next user.
    next: AtomicUsize,
    /// Number of replicas that are still to be killed.
    kills: AtomicUsize,
    ended: AtomicBool,
}

impl Load {
    async fn new(postgres: &'static Postgres, kills: usize) -> Arc<Self> {
        let arrivals = Arc::<Mutex<Vec<_>>>::default();
        let (notify, arrived) = watch::channel(0);
        let record = Arc::clone(&arrivals);
        let upstream = Upstream::start(move |request| {
            if request.method == "DELETE" {
                record.lock().unwrap().push((request.user(), now()));
                notify.send_modify(|count| *count += 1);
            }
            token_reply_or(request, batch_deleted)
        })
        .await;
        Arc::new(Self {
            postgres,
            store: Store::create(postgres, "crash"),
            upstream,
            arrivals,
            arrived,
            responses: Mutex::default(),
            next: AtomicUsize::new(0),
            kills: AtomicUsize::new(kills),
            ended: AtomicBool::new(false),
        })
    }

    /// Starts replicas one after the other, and kills each under load.
    async fn kill_replicas(self: Arc<Self>) {
        let take = |kills: usize| kills.checked_sub(1);
        while self
            .kills
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .is_ok()
        {
            let replica = self.start_replica();
            let mut callers = JoinSet::new();
            for _ in 0..CALLERS {
                callers.spawn(Arc::clone(&self).call(replica.process.client()));
            }
            let mut arrived = self.arrived.clone();
            let enough = *arrived.borrow() + rand::rng().random_range(1..60);
            let enough = arrived.wait_for(|count| *count >= enough);
            drop(timeout(MAX_ROUND, enough).await);
            replica.kill();
            callers.join_all().await;
        }
    }

    fn start_replica(&self) -> Replica {
        Replica::start(&self.upstream.url, "", |folder| {
            self.store.section(folder, LEASE)
        })
    }

    /// Makes calls, each for a new user, until the replica does not respond any more.
    async fn call(
        self: Arc<Self>,
        mut client: useradmin::proto::user_admin_client::UserAdminClient<tonic::transport::Channel>,
    ) {
        loop {
            let user = format!("user-{}", self.next.fetch_add(1, Ordering::Relaxed));
            let response = client.delete_batch_node_user(batch_request(&user)).await;
            let Err(status) = response else {
                self.responses.lock().unwrap().deleted.insert(user);
                continue;
            };
            if status.details().is_empty() {
                // The status is not one of the server.
                return;
            }
            assert_eq!(CallFailure::from(status).reason, UNAVAILABLE);
            self.responses.lock().unwrap().refused.insert(user);
        }
    }

    /// Kills the database and starts it again, until all replicas are killed.
    async fn kill_database(self: Arc<Self>, kills: usize) -> usize {
        let mut killed = 0;
        while killed < kills && !self.ended.load(Ordering::Relaxed) {
            let mut arrived = self.arrived.clone();
            let enough = *arrived.borrow() + rand::rng().random_range(5..25);
            let enough = arrived.wait_for(|count| *count >= enough);
            if timeout(MAX_ROUND, enough).await.is_err() {
                continue;
            }
            let postgres = self.postgres;
            let restart = move || {
                postgres.kill();
                postgres.restart();
            };
            tokio::task::spawn_blocking(restart).await.unwrap();
            killed += 1;
        }
        killed
    }

    /// Returns the time at which the intent of each user was committed.
    fn commit_times(&self) -> BTreeMap<String, u128> {
        let sql = "SELECT user_name || ' ' || floor(extract(epoch FROM pg_xact_commit_timestamp(xmin)) * 1000000)::bigint \
                   FROM useradmin.audit_record WHERE event = 'intent'";
        let lines = self.store.database.sql(sql).unwrap();
        let times = lines.lines().map(|line| {
            let (user, time) = line.split_once(' ').unwrap();
            (user.to_owned(), time.parse().unwrap())
        });
        times.collect()
    }

    async fn check(&self) {
        // Closes the calls of the replicas that were killed last.
        let replica = self.start_replica();
        replica.wait_until_ready().await;
        let results = results(&self.store).await;
        replica.stop();
        let commits = self.commit_times();
        let arrivals = self.arrivals.lock().unwrap().clone();
        let mut arrived = BTreeSet::new();
        for (user, time) in arrivals {
            let committed = commits.get(&user);
            assert!(committed.is_some(), "DELETE without intent: {user}");
            assert!(committed.is_some_and(|at| *at < time), "{user}: {time}");
            assert!(arrived.insert(user.clone()), "{user} was deleted twice");
        }
        let responses = self.responses.lock().unwrap();
        for user in &responses.refused {
            assert!(!arrived.contains(user), "{user} was refused and deleted");
        }
        for user in &responses.deleted {
            assert!(arrived.contains(user) && results.contains_key(user));
        }
        for (user, (outcome, finding)) in &results {
            let result = if finding.is_empty() { outcome } else { finding };
            let expected: &[&str] = if responses.refused.contains(user) || !arrived.contains(user) {
                &["not_sent", "unknown_after_crash"]
            } else {
                &["deleted", "unknown_after_crash"]
            };
            assert!(expected.contains(&&**result), "{user}: {outcome} {finding}");
        }
        let count = |text: &str| {
            results
                .values()
                .filter(|(outcome, _)| outcome == text)
                .count()
        };
        let (unknown, not_sent) = (count("unknown_after_crash"), count("not_sent"));
        // Otherwise no replica was killed during a call, and the test proved nothing.
        assert!(unknown > 0);
        eprintln!(
            "{} calls recorded, {unknown} unknown after a crash, {not_sent} not sent, {} refused",
            results.len(),
            responses.refused.len()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_of_replicas_and_database_lose_no_record() {
    let Some(postgres) = Postgres::start() else {
        return;
    };
    let kills = env::var("USERADMIN_STORE_KILLS").map(|number| number.parse().unwrap());
    let kills = kills.unwrap_or(DEFAULT_KILLS);
    // The tasks borrow it. The server ends with the test process.
    let postgres: &Postgres = Box::leak(Box::new(postgres));
    postgres.set("track_commit_timestamp", "on");
    postgres.restart();
    let load = Load::new(postgres, kills).await;
    let database = tokio::spawn(Arc::clone(&load).kill_database(kills * 2 / 5));
    let mut slots = JoinSet::new();
    for _ in 0..REPLICAS {
        slots.spawn(Arc::clone(&load).kill_replicas());
    }
    slots.join_all().await;
    load.ended.store(true, Ordering::Relaxed);
    let database_kills = database.await.unwrap();
    eprintln!("{kills} kills of replicas, {database_kills} of the database");
    assert!(database_kills > 0);
    load.check().await;
    postgres.stop_fast();
}
