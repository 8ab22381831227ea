//! Concurrent calls share commits, and an append does not take longer with each commit.

use futures_util::future::join_all;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};
use useradmin_testkit::{Postgres, Store, batch_request};

use super::replica::{batch_upstream, results, start_app, wait_for_health};

/// Returns the number of statements of a kind.
async fn statements(app: &useradmin_testkit::App, kind: &str) -> u32 {
    let name = format!("useradmin_store_statement_duration_seconds_count{{statement=\"{kind}\"}}");
    let lines = app.metrics(&name).await;
    let value = lines.first().and_then(|line| line.rsplit(' ').next());
    value.map_or(0, |value| value.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_calls_share_commits() {
    let Some(postgres) = Postgres::shared() else {
        return;
    };
    let store = Store::create(postgres, "throughput_shared");
    let upstream = batch_upstream().await;
    let app = start_app(&store, postgres.port(), &upstream.url).await;
    wait_for_health(&app, true, "start").await;
    let calls = (0..256).map(|number| {
        let request = batch_request(&format!("user-{number}"));
        app.delete_batch_node_user(request)
    });
    for response in join_all(calls).await {
        response.unwrap();
    }
    let results = results(&store).await;
    assert_eq!(results.len(), 256);
    assert!(results.values().all(|(outcome, _)| outcome == "deleted"));
    // Without shared commits, there would be 512.
    let appends = statements(&app, "append").await;
    assert!((2..=256).contains(&appends), "{appends}");
    app.stop().await;
}

async fn connect(store: &Store<'_>) -> Client {
    let url = store.database.url("postgres");
    let (client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// Returns a statement that appends an intent (an odd number) or its outcome (the next number).
fn append(epoch: &str, number: u32) -> String {
    let (kind, outcome) = if number % 2 == 1 {
        ("intent", "")
    } else {
        ("outcome", "deleted")
    };
    let id = number.div_ceil(2);
    format!(
        "SELECT useradmin.append_records('r', {epoch}, '60 s', ARRAY['{kind}'], ARRAY[false], ARRAY[1], \
         ARRAY['2026-01-01T00:00:00.000Z'], ARRAY['id-{id}'], ARRAY['{outcome}'], ARRAY['anonymous'], ARRAY['alice'], \
         ARRAY['{{}}'], ARRAY[NULL::text], ARRAY['\"event\":\"{kind}\"'], ARRAY[NULL::text], ARRAY[NULL::integer])"
    )
}

/// Returns the number of pages that the statement reads from the cache.
async fn pages(client: &Client, statement: &str) -> u32 {
    let explain = format!("EXPLAIN (ANALYZE, BUFFERS, TIMING OFF) {statement}");
    let rows = client.simple_query(&explain).await.unwrap();
    let lines = rows.iter().filter_map(|row| match row {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    let counts = lines.filter_map(|line| {
        let (_, rest) = line.split_once("Buffers: shared hit=")?;
        rest.split(' ').next()?.parse::<u32>().ok()
    });
    counts.max().unwrap()
}

/// A backup or a report reads for a long time. The database then keeps all old versions of the rows that are changed.
#[tokio::test(flavor = "multi_thread")]
async fn long_queries_do_not_slow_down_appends() {
    let Some(postgres) = Postgres::shared() else {
        return;
    };
    let store = Store::create(postgres, "throughput_snapshot");
    let (writer, reader) = (connect(&store).await, connect(&store).await);
    let snapshot =
        "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM useradmin.audit_record";
    reader.batch_execute(snapshot).await.unwrap();
    let epoch = "SELECT useradmin.register_replica('r', '60 s')";
    let epoch = store.database.sql(epoch).unwrap();
    // The durability of these commits does not matter.
    let settings = "SET synchronous_commit = off";
    writer.batch_execute(settings).await.unwrap();
    let maintain = format!("SELECT useradmin.maintain('r', {epoch}, '60 s')");
    let mut first = (0, 0);
    for number in 1..=3_000 {
        let statement = append(&epoch, number);
        if number == 101 {
            first = (
                pages(&writer, &statement).await,
                pages(&writer, &maintain).await,
            );
        } else {
            writer.batch_execute(&statement).await.unwrap();
        }
    }
    let last = (
        pages(&writer, &append(&epoch, 3_001)).await,
        pages(&writer, &maintain).await,
    );
    // The indexes grow by a level.
    assert!(last.0 < first.0 + 40, "{first:?} {last:?}");
    assert!(last.1 < first.1 + 40, "{first:?} {last:?}");
}
