//! Failures of the database and of the connection to it: nothing is sent without a committed intent, nothing is lost,
//! and the server recovers without help.

use std::sync::Arc;

use tokio::sync::Notify;
use tokio_postgres::NoTls;
use useradmin_testkit::{
    Cut, Postgres, Reply, Store, TcpProxy, Upstream, batch_deleted, batch_request, wait_until,
};

use super::replica::{
    UNAVAILABLE, all_results, assert_refused, batch_upstream, deleted_users, open_intents, results,
    start_app, upstream_with, wait_for_health,
};

const APPEND: &str = "append_records";

/// Starts an upstream that replies to a DELETE when it is notified.
async fn gated_upstream() -> (Upstream, Arc<Notify>) {
    let gate = Arc::new(Notify::new());
    let opened = Arc::clone(&gate);
    let reply = move || Reply::Gated(Arc::clone(&opened), Box::new(batch_deleted()));
    (upstream_with(reply).await, gate)
}

/// Locks the head of the chain until the client is dropped.
async fn lock_head(store: &Store<'_>) -> tokio_postgres::Client {
    let url = store.database.url("postgres");
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    tokio::spawn(connection);
    let lock = "BEGIN; SELECT FROM useradmin.audit_head FOR UPDATE";
    client.batch_execute(lock).await.unwrap();
    client
}

async fn wait_for_lock_waiters(store: &Store<'_>) {
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
               AND usename = 'useradmin_server' AND wait_event_type = 'Lock'";
    wait_until("a statement waits for the lock", async || {
        store.database.sql(sql).unwrap() != "0"
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn intent_whose_commit_is_in_doubt_is_not_sent() {
    let Some(postgres) = Postgres::shared() else {
        return;
    };
    let store = Store::create(postgres, "failover_intent");
    let upstream = batch_upstream().await;
    let proxy = TcpProxy::start(postgres.port()).await;
    let app = start_app(&store, proxy.port(), &upstream.url).await;
    for (user, cut, committed) in [
        ("before", Cut::BeforeRequest(APPEND), false),
        ("after", Cut::BeforeResponseTo(APPEND), true),
    ] {
        wait_for_health(&app, true, user).await;
        proxy.cut_at(cut);
        let failure = app.delete_batch_node_user(batch_request(user)).await;
        assert_eq!(failure.unwrap_err().reason, UNAVAILABLE, "{user}");
        assert!(!proxy.will_cut());
        wait_for_health(&app, true, user).await;
        let next = format!("{user}-next");
        app.delete_batch_node_user(batch_request(&next))
            .await
            .unwrap();
        let results = results(&store).await;
        let expected = committed.then(|| ("not_sent".to_owned(), String::new()));
        assert_eq!(results.get(user), expected.as_ref(), "{user}");
    }
    assert_eq!(deleted_users(&upstream), ["before-next", "after-next"]);
    app.stop().await;
}

/// The statement waits for a lock while its connection is lost, and the server of the database does not notice that.
#[tokio::test(flavor = "multi_thread")]
async fn statement_of_lost_connection_does_not_lead_to_a_deletion() {
    let Some(postgres) = Postgres::shared() else {
        return;
    };
    let store = Store::create(postgres, "failover_zombie");
    let upstream = batch_upstream().await;
    let proxy = TcpProxy::start(postgres.port()).await;
    let app = start_app(&store, proxy.port(), &upstream.url).await;
    for round in 0..5 {
        wait_for_health(&app, true, "before").await;
        let lock = lock_head(&store).await;
        let user = format!("zombie-{round}");
        let call = app.delete_batch_node_user(batch_request(&user));
        let lose_connection = async {
            wait_for_lock_waiters(&store).await;
            proxy.cut().await;
        };
        let (result, ()) = tokio::join!(call, lose_connection);
        assert_eq!(result.unwrap_err().reason, UNAVAILABLE);
        drop(lock);
    }
    wait_for_health(&app, true, "after").await;
    let results = results(&store).await;
    assert!(results.values().all(|(outcome, _)| outcome == "not_sent"));
    assert_eq!(deleted_users(&upstream), [""; 0]);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn outcome_whose_commit_is_in_doubt_is_recorded_once() {
    let Some(postgres) = Postgres::shared() else {
        return;
    };
    let store = Store::create(postgres, "failover_outcome");
    let (upstream, gate) = gated_upstream().await;
    let proxy = TcpProxy::start(postgres.port()).await;
    let app = start_app(&store, proxy.port(), &upstream.url).await;
    let cuts = [
        Cut::BeforeRequest(APPEND),
        Cut::BeforeResponseTo(APPEND),
        Cut::AfterResponseBytes(0),
        Cut::AfterResponseBytes(40),
    ];
    for (index, cut) in cuts.into_iter().enumerate() {
        wait_for_health(&app, true, "before").await;
        let user = format!("user-{index}");
        let call = app.delete_batch_node_user(batch_request(&user));
        let cut_outcome = async {
            upstream
                .wait_for_requests("DELETE", "/pools", index + 1)
                .await;
            proxy.cut_at(cut);
            gate.notify_one();
        };
        let (result, ()) = tokio::join!(call, cut_outcome);
        // The user is deleted, so the caller learns that although the outcome is not recorded yet.
        result.unwrap();
        wait_until("the connection is cut", async || !proxy.will_cut()).await;
    }
    let results = results(&store).await;
    assert_eq!(results.len(), cuts.len());
    assert!(results.values().all(|(outcome, _)| outcome == "deleted"));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn outcomes_are_kept_while_the_database_is_away() {
    let Some(postgres) = Postgres::shared() else {
        return;
    };
    let store = Store::create(postgres, "failover_away");
    let (upstream, gate) = gated_upstream().await;
    let mut proxy = TcpProxy::start(postgres.port()).await;
    let app = start_app(&store, proxy.port(), &upstream.url).await;
    let calls =
        (0..20).map(|number| app.delete_batch_node_user(batch_request(&format!("user-{number}"))));
    let calls = futures_util::future::join_all(calls);
    let lose_database = async {
        upstream.wait_for_requests("DELETE", "/pools", 20).await;
        proxy.refuse().await;
        proxy.cut().await;
        for _ in 0..20 {
            gate.notify_one();
            tokio::task::yield_now().await;
        }
        gate.notify_waiters();
    };
    let (responses, ()) = tokio::join!(calls, lose_database);
    for response in responses {
        response.unwrap();
    }
    assert_eq!(open_intents(&store), Ok(20));
    wait_for_health(&app, false, "away").await;
    assert_eq!(
        app.metrics("useradmin_audit_outcomes_pending").await.len(),
        1,
        "the metric exists"
    );
    proxy.accept().await;
    wait_for_health(&app, true, "back").await;
    let results = results(&store).await;
    assert_eq!(results.len(), 20);
    assert!(results.values().all(|(outcome, _)| outcome == "deleted"));
    app.stop().await;
}

/// Statements that make the database fail, and that repair it. Connections that exist are cut after the first one.
const FAULTS: [(&str, &str, &str); 6] = [
    (
        "read-only",
        "ALTER DATABASE failover_faults SET default_transaction_read_only = on",
        "ALTER DATABASE failover_faults RESET default_transaction_read_only",
    ),
    (
        "too many connections",
        "ALTER DATABASE failover_faults CONNECTION LIMIT 0",
        "ALTER DATABASE failover_faults CONNECTION LIMIT -1",
    ),
    (
        "full",
        "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS \
         $$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = '53100'; END $$; \
         CREATE TRIGGER full_disk BEFORE INSERT ON useradmin.audit_record EXECUTE FUNCTION full_disk()",
        "DROP FUNCTION full_disk CASCADE",
    ),
    (
        "slow",
        "CREATE FUNCTION slow_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(2); RETURN NULL; END $$; \
         CREATE TRIGGER slow_disk AFTER INSERT ON useradmin.audit_record EXECUTE FUNCTION slow_disk()",
        "DROP FUNCTION slow_disk CASCADE",
    ),
    (
        "hanging",
        "CREATE FUNCTION hung_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(60); RETURN NULL; END $$; \
         CREATE TRIGGER hung_disk AFTER INSERT ON useradmin.audit_record EXECUTE FUNCTION hung_disk()",
        "DROP FUNCTION hung_disk CASCADE",
    ),
    (
        "rights revoked",
        "REVOKE USAGE ON SCHEMA useradmin FROM useradmin_server",
        "GRANT USAGE ON SCHEMA useradmin TO useradmin_server",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn calls_are_refused_in_time_while_the_database_fails() {
    let Some(postgres) = Postgres::shared() else {
        return;
    };
    let store = Store::create(postgres, "failover_faults");
    let upstream = batch_upstream().await;
    let proxy = TcpProxy::start(postgres.port()).await;
    let app = start_app(&store, proxy.port(), &upstream.url).await;
    for (case, damage, repair) in FAULTS {
        wait_for_health(&app, true, case).await;
        store.database.sql(damage).unwrap();
        proxy.cut().await;
        assert_refused(&app, case).await;
        wait_for_health(&app, false, case).await;
        assert_refused(&app, case).await;
        store.database.sql(repair).unwrap();
        wait_for_health(&app, true, case).await;
        app.delete_batch_node_user(batch_request(case.split(' ').next().unwrap()))
            .await
            .unwrap();
    }
    assert_outcomes(&store).await;
    assert_eq!(deleted_users(&upstream).len(), FAULTS.len());
    app.stop().await;
}

/// Asserts that the recorded calls for users `refused-N` sent nothing, and that all others deleted their user.
async fn assert_outcomes(store: &Store<'_>) {
    for (user, (outcome, _)) in all_results(store).await {
        let expected = if user.starts_with("refused") {
            "not_sent"
        } else {
            "deleted"
        };
        assert_eq!(outcome, expected, "{user}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_are_refused_in_time_while_the_database_does_not_respond() {
    let Some(postgres) = Postgres::start() else {
        return;
    };
    let store = Store::create(&postgres, "failover_silence");
    let upstream = batch_upstream().await;
    let proxy = TcpProxy::start(postgres.port()).await;
    let app = start_app(&store, proxy.port(), &upstream.url).await;
    for (case, user) in [
        ("black hole", "a"),
        ("paused", "b"),
        ("locked", "c"),
        ("killed", "d"),
    ] {
        wait_for_health(&app, true, case).await;
        let mut lock = None;
        match case {
            "black hole" => proxy.set_black_hole(true),
            "paused" => postgres.pause(),
            "locked" => lock = Some(lock_head(&store).await),
            _ => postgres.kill(),
        }
        assert_refused(&app, case).await;
        wait_for_health(&app, false, case).await;
        assert_refused(&app, case).await;
        match case {
            "black hole" => proxy.set_black_hole(false),
            "paused" => postgres.resume(),
            "locked" => drop(lock),
            _ => postgres.restart(),
        }
        wait_for_health(&app, true, case).await;
        app.delete_batch_node_user(batch_request(user))
            .await
            .unwrap();
    }
    assert_outcomes(&store).await;
    assert_eq!(deleted_users(&upstream), ["a", "b", "c", "d"]);
    app.stop().await;
}
