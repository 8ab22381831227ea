//! Calls, records, metrics and shutdown while the database is away.

use std::{
    fs,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use tokio::sync::Notify;
use tonic::Code::{PermissionDenied, Unavailable};
use useradmin::proto::{DeleteBatchNodeUserRequest, DeleteHmcUserRequest, DeleteOutcome};
use useradmin_testkit::{
    App, Postgres, Process, Reply, Store, TcpProxy, Upstream, batch_deleted, batch_request,
    batch_response, delete_by_name, token_reply_or, wait_until,
};

use super::replica::{
    LEASE, Replica, all_results, batch_upstream, configuration, deleted_users, results, start_app,
    upstream_with, wait_for_health,
};
use crate::audit::assert_stays_unready;

/// Concurrent calls of one round.
const CALLS: usize = 60;
const ROUNDS: usize = 3;

/// A way in which the database fails.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Outage {
    /// Connections are refused.
    Refused,
    /// All packets are lost.
    BlackHole,
    /// The database returns this error for each record.
    Error(&'static str),
    /// Each record takes longer than the time limit of a statement.
    Hanging,
}

impl Outage {
    async fn start(self, store: &Store<'_>, proxy: &mut TcpProxy) {
        let trigger = |statement: &str| {
            let sql = format!(
                "CREATE FUNCTION fault() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {statement}; RETURN NULL; END $$; \
                 CREATE TRIGGER fault AFTER INSERT ON useradmin.audit_record EXECUTE FUNCTION fault()"
            );
            store.database.sql(&sql).unwrap();
        };
        match self {
            Self::Refused => {
                proxy.refuse().await;
                proxy.cut().await;
            }
            Self::BlackHole => proxy.set_black_hole(true),
            Self::Error(code) => {
                trigger(&format!("RAISE EXCEPTION 'fault' USING ERRCODE = '{code}'"));
            }
            Self::Hanging => trigger("PERFORM pg_sleep(60)"),
        }
    }

    async fn end(self, store: &Store<'_>, proxy: &mut TcpProxy) {
        match self {
            Self::Refused => proxy.accept().await,
            Self::BlackHole => proxy.set_black_hole(false),
            Self::Error(_) | Self::Hanging => {
                store.database.sql("DROP FUNCTION fault CASCADE").unwrap();
            }
        }
    }

    /// Returns whether the database can no longer be reached.
    fn closes_connections(self) -> bool {
        matches!(self, Self::Refused | Self::BlackHole)
    }
}

/// Starts a replica with short time limits, which reaches the database through this port.
async fn start_impatient(store: &Store<'_>, port: u16, upstream: &Upstream) -> App {
    let folder = App::folder();
    let keys = format!("{LEASE}connect_timeout_seconds = 1\nstatement_timeout_seconds = 1\n");
    let section = store.section_at(port, &folder, &keys);
    let text = configuration(&folder, 0, &upstream.url, &section, "");
    App::start_with_text(folder, &text).await
}

async fn metric(app: &App, name: &str) -> usize {
    let lines = app.metrics(&format!("{name} ")).await;
    let value = lines[0].rsplit(' ').next().unwrap();
    value.parse().unwrap()
}

/// Makes concurrent calls, which are all refused.
async fn refused_calls(app: &App, outage: Outage) {
    let calls = (0..CALLS).map(async |number| {
        let request = batch_request(&format!("refused-{number}"));
        let failure = app.delete_batch_node_user(request).await.unwrap_err();
        failure.expect(Unavailable, "AUDIT_UNAVAILABLE");
        assert_eq!(failure.metadata_value("outcome"), "not_sent", "{outage:?}");
    });
    join_all(calls).await;
}

/// Refused calls leave nothing behind. Only the first statement of an outage may have been committed, so the outcomes of
/// its calls wait.
#[tokio::test(flavor = "multi_thread")]
async fn refused_calls_are_not_kept_in_memory() {
    let Some(postgres) = Postgres::shared() else {
        return;
    };
    let store = Store::create(postgres, "outage_refused");
    let upstream = batch_upstream().await;
    let mut proxy = TcpProxy::start(postgres.port()).await;
    let app = start_impatient(&store, proxy.port(), &upstream).await;
    let pending = "useradmin_audit_outcomes_pending";
    for outage in [
        Outage::Refused,
        Outage::BlackHole,
        Outage::Error("53100"),
        Outage::Error("25006"),
        Outage::Hanging,
    ] {
        let name = format!("{outage:?}");
        wait_for_health(&app, true, &name).await;
        assert_eq!(metric(&app, pending).await, 0, "{name}");
        let failures = metric(&app, "useradmin_store_connect_failures_total").await;
        outage.start(&store, &mut proxy).await;
        refused_calls(&app, outage).await;
        if outage.closes_connections() {
            wait_for_health(&app, false, &name).await;
            app.await_metric("useradmin_store_connections 0").await;
            wait_until("a failure to connect", async || {
                metric(&app, "useradmin_store_connect_failures_total").await > failures
            })
            .await;
        }
        if let Outage::Error(_) = outage {
            assert_stays_unready(&app).await;
        }
        let first = metric(&app, pending).await;
        let max = if outage == Outage::BlackHole {
            CALLS
        } else {
            0
        };
        assert!(first <= max, "{name}: {first}");
        for _ in 1..ROUNDS {
            refused_calls(&app, outage).await;
            let later = metric(&app, pending).await;
            assert!(later <= first, "{name}: {first} {later}");
        }
        outage.end(&store, &mut proxy).await;
        wait_for_health(&app, true, &name).await;
        app.await_metric("useradmin_audit_outcomes_pending 0").await;
        wait_until("a connection", async || {
            metric(&app, "useradmin_store_connections").await > 0
        })
        .await;
    }
    let results = all_results(&store).await;
    assert!(
        results
            .iter()
            .all(|(_, (outcome, _))| outcome == "not_sent")
    );
    assert_eq!(deleted_users(&upstream), [""; 0]);
    app.stop().await;
}

fn validation(user: &str) -> DeleteBatchNodeUserRequest {
    DeleteBatchNodeUserRequest {
        validate_only: true,
        ..batch_request(user)
    }
}

/// Calls that delete nothing do not depend on the database. Their records follow.
#[tokio::test(flavor = "multi_thread")]
async fn records_of_validations_and_denied_calls_follow_once() {
    let Some(postgres) = Postgres::shared() else {
        return;
    };
    let store = Store::create(postgres, "outage_records");
    let upstream = Upstream::start(|request| {
        let document = if request.target.contains("/nodes/") {
            r#"{"id":"node-1","state":"idle"}"#
        } else {
            r#"{"id":"pool-1"}"#
        };
        token_reply_or(request, || batch_response(200, document))
    })
    .await;
    let mut proxy = TcpProxy::start(postgres.port()).await;
    let app = start_impatient(&store, proxy.port(), &upstream).await;
    let outages = [Outage::Refused, Outage::BlackHole, Outage::Error("53100")];
    for (number, outage) in outages.into_iter().enumerate() {
        let name = format!("{outage:?}");
        wait_for_health(&app, true, &name).await;
        outage.start(&store, &mut proxy).await;
        let user = format!("user-{number}");
        let validated = app.delete_batch_node_user(validation(&user));
        let denied = app.delete_hmc_user(DeleteHmcUserRequest {
            hmc: "other".to_owned(),
            ..delete_by_name(&user)
        });
        let start = Instant::now();
        let (validated, denied) = tokio::join!(validated, denied);
        assert!(start.elapsed() < Duration::from_secs(5), "{name}");
        assert_eq!(validated.unwrap().outcome(), DeleteOutcome::Validated);
        denied
            .unwrap_err()
            .expect(PermissionDenied, "CALLER_NOT_AUTHORIZED");
        wait_for_health(&app, false, &name).await;
        app.await_metric("useradmin_audit_outcomes_pending 2").await;
        outage.end(&store, &mut proxy).await;
        wait_for_health(&app, true, &name).await;
        app.await_metric("useradmin_audit_outcomes_pending 0").await;
        let records = store.records();
        let records = records.iter().filter(|record| record["user"] == *user);
        let mut outcomes: Vec<_> = records
            .map(|record| record["outcome"].as_str().unwrap())
            .collect();
        outcomes.sort_unstable();
        assert_eq!(outcomes, ["denied", "validated"], "{name}");
    }
    assert_eq!(store.verify().0, 0);
    app.stop().await;
}

/// `drain_seconds` of a server that stops.
const DRAIN: Duration = Duration::from_secs(2);

/// Stops a replica, and asserts that it exits in time and logs the number of outcomes that it could not record.
fn stop_in_time(replica: Replica, case: &str, outcomes: usize) {
    let start = Instant::now();
    let (code, _) = replica.process.stop_with("TERM");
    let elapsed = start.elapsed();
    assert_eq!(code, Some(0), "{case}");
    let limit = DRAIN + Duration::from_secs(5);
    assert!(elapsed < limit, "{case}: {elapsed:?}");
    let log = fs::read_to_string(replica.folder.join("log")).unwrap();
    assert!(!log.contains("panic"), "{log}");
    let lost = Process::log_records(&replica.folder, "audit outcomes not written");
    let found: Vec<_> = lost.iter().map(|record| &record["outcomes"]).collect();
    assert_eq!(found, vec![&serde_json::json!(1); outcomes], "{case}");
    fs::remove_dir_all(replica.folder).unwrap();
}

/// A server that stops while the database is away exits in time. Another replica records its calls as unknown.
#[tokio::test(flavor = "multi_thread")]
async fn server_stops_in_time_while_the_database_is_away() {
    let Some(postgres) = Postgres::shared() else {
        return;
    };
    let store = Store::create(postgres, "outage_stop");
    let gate = Arc::new(Notify::new());
    let opened = Arc::clone(&gate);
    let upstream =
        upstream_with(move || Reply::Gated(Arc::clone(&opened), Box::new(batch_deleted()))).await;
    let mut called = Vec::new();
    for (number, (outage, calls)) in [
        (Outage::Refused, 0),
        (Outage::Refused, 1),
        (Outage::BlackHole, 0),
        (Outage::BlackHole, 1),
    ]
    .into_iter()
    .enumerate()
    {
        let mut proxy = TcpProxy::start(postgres.port()).await;
        let replica = Replica::start(&upstream.url, "", |folder| {
            let keys = format!(
                "{LEASE}[server.limits]\ndrain_seconds = {}\n",
                DRAIN.as_secs()
            );
            store.section_at(proxy.port(), folder, &keys)
        });
        replica.wait_until_ready().await;
        if calls > 0 {
            let user = format!("user-{number}");
            let mut client = replica.process.client();
            let request = batch_request(&user);
            let call = tokio::spawn(async move { client.delete_batch_node_user(request).await });
            called.push(user);
            upstream
                .wait_for_requests("DELETE", "/pools", called.len())
                .await;
            outage.start(&store, &mut proxy).await;
            gate.notify_one();
            // The caller receives the true outcome.
            call.await.unwrap().unwrap();
        } else {
            outage.start(&store, &mut proxy).await;
        }
        stop_in_time(replica, &format!("{outage:?}"), calls);
    }
    let survivor = start_app(&store, postgres.port(), &upstream.url).await;
    let results = results(&store).await;
    let users: Vec<_> = results.keys().collect();
    assert_eq!(users, called.iter().collect::<Vec<_>>());
    let unknown = ("unknown_after_crash".to_owned(), String::new());
    assert!(results.values().all(|result| *result == unknown));
    survivor.stop().await;
}
