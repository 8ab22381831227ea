//! The server finds a database that starts later, that moves to another host, or whose configuration changes.

use std::fs;

use useradmin_testkit::{App, Postgres, Store, TcpProxy, batch_request, wait_until, write_secret};

use super::replica::{LEASE, Replica, batch_upstream, configuration, results, start_app};

/// After a switchover the former primary is alive and keeps its connections, but is read-only.
#[tokio::test(flavor = "multi_thread")]
async fn server_finds_the_new_primary() {
    let (Some(first), Some(second)) = (Postgres::start(), Postgres::start()) else {
        return;
    };
    // Stand-ins for a primary and its replica: two servers with the same schema.
    let stores = [&first, &second].map(|postgres| Store::create(postgres, "failover_primary"));
    let upstream = batch_upstream().await;
    let folder = App::folder();
    let section = stores[0].section(&folder, LEASE);
    let url = fs::read_to_string(folder.join("store.url")).unwrap();
    let hosts = format!("127.0.0.1:{},127.0.0.1:{}", first.port(), second.port());
    let url = url
        .trim()
        .replace(&format!("127.0.0.1:{}", first.port()), &hosts);
    let url = format!("{url}?target_session_attrs=read-write");
    write_secret(&folder.join("store.url"), &url);
    let text = configuration(&folder, 0, &upstream.url, &section, "");
    let app = App::start_with_text(folder, &text).await;
    app.delete_batch_node_user(batch_request("a"))
        .await
        .unwrap();
    first.set("default_transaction_read_only", "on");
    wait_until("the new primary is found", async || {
        let called = app.delete_batch_node_user(batch_request("b")).await;
        called.is_ok()
    })
    .await;
    assert_eq!(
        stores.each_ref().map(recorded_deletions),
        [vec!["a"], vec!["b"]]
    );
    app.stop().await;
}

fn recorded_deletions(store: &Store<'_>) -> Vec<String> {
    let records = store.records();
    let deleted = records
        .iter()
        .filter(|record| record["outcome"] == "deleted");
    deleted
        .map(|record| record["user"].as_str().unwrap().to_owned())
        .collect()
}

/// The server must not weaken the durability of its commits when the configuration of the database changes while it
/// runs.
#[tokio::test(flavor = "multi_thread")]
async fn commits_stay_durable_when_the_database_is_reconfigured() {
    let Some(postgres) = Postgres::start() else {
        return;
    };
    let store = Store::create(&postgres, "failover_durable");
    let upstream = batch_upstream().await;
    let app = start_app(&store, postgres.port(), &upstream.url).await;
    // Its session exists before the configuration changes.
    app.delete_batch_node_user(batch_request("before"))
        .await
        .unwrap();
    // The setting of the session that appends a record, as a trigger sees it.
    let sql = "CREATE TABLE seen (setting text); \
               CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN \
               INSERT INTO public.seen VALUES (current_setting('synchronous_commit')); RETURN NULL; END $$; \
               CREATE TRIGGER see AFTER INSERT ON useradmin.audit_record EXECUTE FUNCTION see()";
    store.database.sql(sql).unwrap();
    postgres.set("synchronous_commit", "off");
    app.delete_batch_node_user(batch_request("after"))
        .await
        .unwrap();
    let seen = store.database.sql("SELECT DISTINCT setting FROM seen");
    assert_eq!(seen, Ok("on".to_owned()));
    app.stop().await;
}

/// A server that starts while the database is away starts, and becomes ready when the database is there.
#[tokio::test(flavor = "multi_thread")]
async fn server_waits_for_the_database() {
    let Some(postgres) = Postgres::shared() else {
        return;
    };
    let store = Store::create(postgres, "failover_start");
    let upstream = batch_upstream().await;
    let mut proxy = TcpProxy::start(postgres.port()).await;
    for silent in [false, true] {
        if silent {
            proxy.set_black_hole(true);
        } else {
            proxy.refuse().await;
        }
        let replica = Replica::start(&upstream.url, "", |folder| {
            let keys = "connect_timeout_seconds = 1\n";
            store.section_at(proxy.port(), folder, keys)
        });
        assert!(!replica.is_ready().await);
        if silent {
            proxy.set_black_hole(false);
        } else {
            proxy.accept().await;
        }
        replica.wait_until_ready().await;
        let user = format!("silent-{silent}");
        let mut client = replica.process.client();
        client
            .delete_batch_node_user(batch_request(&user))
            .await
            .unwrap();
        replica.stop();
    }
    assert_eq!(results(&store).await.len(), 2);
}
