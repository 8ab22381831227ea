//! Leases: the calls of a replica that is dead, paused or cut off get an outcome once, and the replica continues later.

use std::{fs, sync::Arc};

use tokio::sync::Notify;
use useradmin_testkit::{
    App, Postgres, Reply, Store, TcpProxy, Upstream, batch_deleted, batch_request, run, wait_until,
};

use super::{
    replica::{
        LEASE, Replica, batch_upstream, configuration, results, start_app, upstream_with,
        wait_for_health,
    },
    rig::psql,
};

/// Registers a dead replica with this number of open intents.
fn add_dead_replica(store: &Store<'_>, intents: u32) {
    let members = r#"'"event":"intent","request_id":"dead-' || n || '","caller":"anonymous","auth":"anonymous",'
        || '"peer":"127.0.0.1:1","rpc":"DeleteBatchNodeUser","target":"batch","user":"user-' || n || '",'
        || '"identifiers":{},"outcome":"","reason":"","attempts":0,"caller_gone":false'"#;
    let sql = format!(
        "SELECT useradmin.append_records('dead', useradmin.register_replica('dead', '0 s'), '0 s', \
         array_agg('intent'::text), array_agg(false), array_agg(1), array_agg('2026-01-01T00:00:00.000Z'::text), \
         array_agg('dead-' || n), array_agg(''::text), array_agg('anonymous'::text), array_agg('user-' || n), \
         array_agg('{{}}'::text), array_agg(NULL::text), array_agg({members}), array_agg(NULL::text), array_agg(NULL::integer)) FROM generate_series(1, {intents}) AS n"
    );
    store.database.sql(&sql).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn many_calls_of_dead_replica_are_closed_once() {
    let Some(postgres) = Postgres::shared() else {
        return;
    };
    let store = Store::create(postgres, "lease_many");
    add_dead_replica(&store, 2_500);
    let upstream = batch_upstream().await;
    let mut replicas = Vec::new();
    for _ in 0..3 {
        replicas.push(start_app(&store, postgres.port(), &upstream.url).await);
    }
    let results = results(&store).await;
    assert_eq!(results.len(), 2_500);
    let is_unknown = |outcome: &str| outcome == "unknown_after_crash";
    assert!(results.values().all(|(outcome, _)| is_unknown(outcome)));
    let mut closed = 0;
    for replica in replicas {
        let lines = replica.metrics("useradmin_store_intents_closed").await;
        closed += value_of(&lines);
        replica.stop().await;
    }
    assert_eq!(closed, 2_500);
}

fn value_of(lines: &[String]) -> u32 {
    let values = lines
        .iter()
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u32>().ok());
    values.sum()
}

/// While the outcomes of a dead replica's calls cannot be recorded, they are kept once, not once for each attempt.
#[tokio::test(flavor = "multi_thread")]
async fn calls_of_dead_replica_are_kept_once_while_they_cannot_be_recorded() {
    let Some(postgres) = Postgres::shared() else {
        return;
    };
    let store = Store::create(postgres, "lease_full");
    let upstream = batch_upstream().await;
    add_dead_replica(&store, 100);
    let damage = "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS \
                  $$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = '53100'; END $$; \
                  CREATE TRIGGER full_disk BEFORE INSERT ON useradmin.audit_record EXECUTE FUNCTION full_disk()";
    store.database.sql(damage).unwrap();
    let app = start_app(&store, postgres.port(), &upstream.url).await;
    wait_until("several attempts", async || {
        let lines = app
            .metrics("useradmin_store_statement_duration_seconds_count")
            .await;
        let appends = lines.iter().filter(|line| line.contains("\"append\""));
        value_of(&appends.cloned().collect::<Vec<_>>()) >= 4
    })
    .await;
    let pending = app.metrics("useradmin_audit_outcomes_pending").await;
    assert_eq!(value_of(&pending), 100, "{pending:?}");
    store
        .database
        .sql("DROP FUNCTION full_disk CASCADE")
        .unwrap();
    wait_for_health(&app, true, "repaired").await;
    assert_eq!(results(&store).await.len(), 100);
    app.stop().await;
}

/// A number of an earlier registration must not become valid again, even if the row of the replica was removed.
#[test]
fn epoch_is_never_used_again() {
    let Some(postgres) = Postgres::shared() else {
        return;
    };
    let store = Store::create(postgres, "lease_epoch");
    let sql = |statement: &str| store.database.sql(statement).unwrap();
    let register = "SELECT useradmin.register_replica('paused', '0 s')";
    let first: i64 = sql(register).parse().unwrap();
    let other = sql("SELECT useradmin.register_replica('other', '60 s')");
    sql(&format!(
        "SELECT useradmin.maintain('other', {other}, '60 s')"
    ));
    assert_eq!(sql("SELECT id FROM useradmin.replica"), "other");
    let second: i64 = sql(register).parse().unwrap();
    assert!(second > first, "{first} {second}");
    let stale = format!("SELECT useradmin.maintain('paused', {first}, '3 s')");
    let error = store.database.sql(&stale).unwrap_err();
    assert!(error.contains("newer connection"), "{error}");
}

/// Replicas whose leases have all ended, for example after an outage of the database, do not wait for each other.
#[tokio::test(flavor = "multi_thread")]
async fn maintenance_of_several_replicas_does_not_deadlock() {
    let Some(postgres) = Postgres::shared() else {
        return;
    };
    let store = Store::create(postgres, "lease_deadlock");
    let url = store.database.url("postgres");
    let maintain = |id: &str| {
        let register = format!("SELECT useradmin.register_replica('{id}', '0 s')");
        let epoch = store.database.sql(&register).unwrap();
        format!("SELECT useradmin.maintain('{id}', {epoch}, '0 s')")
    };
    for _ in 0..10 {
        let statements: Vec<_> = ["a", "b", "c", "d"].map(maintain).to_vec();
        let threads = statements.into_iter().map(|statement| {
            let url = url.clone();
            tokio::task::spawn_blocking(move || psql(&url, &[&statement]))
        });
        for result in futures_util::future::join_all(threads).await {
            // One of them may be removed by another.
            let error = result.unwrap().err().unwrap_or_default();
            assert!(!error.contains("deadlock"), "{error}");
        }
    }
}

/// The way in which a replica is separated from the database.
#[derive(Clone, Copy, Debug)]
enum Separation {
    /// The process is suspended.
    Paused,
    /// All packets are lost.
    BlackHole,
    /// Connections are refused.
    Refused,
}

/// A replica with a call in progress at the upstream, and others that are connected to the database.
struct Scene<'a> {
    store: &'a Store<'a>,
    upstream: Upstream,
    gate: Arc<Notify>,
    proxy: TcpProxy,
    replica: Replica,
}

impl<'a> Scene<'a> {
    async fn new(store: &'a Store<'a>, port: u16) -> Self {
        let gate = Arc::new(Notify::new());
        let opened = Arc::clone(&gate);
        let reply = move || Reply::Gated(Arc::clone(&opened), Box::new(batch_deleted()));
        let upstream = upstream_with(reply).await;
        let proxy = TcpProxy::start(port).await;
        let replica = Replica::start(&upstream.url, "", |folder| {
            store.section_at(proxy.port(), folder, LEASE)
        });
        replica.wait_until_ready().await;
        Self {
            store,
            upstream,
            gate,
            proxy,
            replica,
        }
    }

    async fn separate(&mut self, separation: Separation) {
        match separation {
            Separation::Paused => self.replica.process.signal("STOP"),
            Separation::BlackHole => self.proxy.set_black_hole(true),
            Separation::Refused => {
                self.proxy.refuse().await;
                self.proxy.cut().await;
            }
        }
    }

    async fn join(&mut self, separation: Separation) {
        match separation {
            Separation::Paused => self.replica.process.signal("CONT"),
            Separation::BlackHole => self.proxy.set_black_hole(false),
            Separation::Refused => self.proxy.accept().await,
        }
    }

    /// Waits until there is a record of this event about this user.
    async fn wait_for_record(&self, event: &str, user: &str) {
        wait_until(&format!("{event} {user}"), async || {
            let records = self.store.records();
            records
                .iter()
                .any(|record| record["event"] == event && record["user"] == user)
        })
        .await;
    }

    /// Separates the replica during a call until its lease has ended.
    async fn round(&mut self, number: usize, separation: Separation) {
        let user = format!("user-{number}");
        let mut client = self.replica.process.client();
        let request = batch_request(&user);
        let call = tokio::spawn(async move { client.delete_batch_node_user(request).await });
        self.upstream
            .wait_for_requests("DELETE", "/pools", 2 * number + 1)
            .await;
        self.separate(separation).await;
        self.wait_for_record("outcome", &user).await;
        self.gate.notify_one();
        self.join(separation).await;
        call.await.unwrap().unwrap();
        self.wait_for_record("reconciled", &user).await;
        self.replica.wait_until_ready().await;
        let mut client = self.replica.process.client();
        let request = batch_request(&format!("next-{number}"));
        self.gate.notify_one();
        client.delete_batch_node_user(request).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn true_outcome_is_recorded_after_the_lease_has_ended() {
    let Some(postgres) = Postgres::shared() else {
        return;
    };
    let store = Store::create(postgres, "lease_separated");
    let mut scene = Scene::new(&store, postgres.port()).await;
    let mut others = Vec::new();
    for _ in 0..3 {
        others.push(start_app(&store, postgres.port(), &scene.upstream.url).await);
    }
    let separations = [
        Separation::Paused,
        Separation::BlackHole,
        Separation::Refused,
    ];
    for (number, separation) in separations.into_iter().enumerate() {
        scene.round(number, separation).await;
    }
    let results = results(&store).await;
    assert_eq!(results.len(), 6);
    for (user, (outcome, finding)) in results {
        let expected = if user.starts_with("user-") {
            ("unknown_after_crash", "deleted")
        } else {
            ("deleted", "")
        };
        assert_eq!((&*outcome, &*finding), expected, "{user}");
    }
    scene.replica.stop();
    for other in others {
        other.stop().await;
    }
}

/// A replica without calls whose row was removed accepts the first call after its pause.
#[tokio::test(flavor = "multi_thread")]
async fn paused_replica_accepts_the_next_call() {
    let Some(postgres) = Postgres::shared() else {
        return;
    };
    let store = Store::create(postgres, "lease_idle");
    let upstream = batch_upstream().await;
    let replica = Replica::start(&upstream.url, "", |folder| store.section(folder, LEASE));
    replica.wait_until_ready().await;
    let mut client = replica.process.client();
    client
        .delete_batch_node_user(batch_request("before"))
        .await
        .unwrap();
    let other = start_app(&store, postgres.port(), &upstream.url).await;
    replica.process.signal("STOP");
    wait_until("the replica is removed", async || {
        store
            .database
            .sql("SELECT count(*) FROM useradmin.replica")
            .unwrap()
            == "1"
    })
    .await;
    let call = client.delete_batch_node_user(batch_request("after"));
    let wake = async { replica.process.signal("CONT") };
    let (result, ()) = tokio::join!(call, wake);
    result.unwrap();
    assert_eq!(results(&store).await.len(), 2);
    replica.stop();
    other.stop().await;
}

/// A server that cannot work with the schema does not start, and reports what to do.
#[tokio::test(flavor = "multi_thread")]
async fn server_with_unusable_schema_does_not_start() {
    let Some(postgres) = Postgres::shared() else {
        return;
    };
    let store = Store::create(postgres, "lease_schema");
    let version = "SELECT max(version) FROM useradmin.schema_history";
    let version: u32 = store.database.sql(version).unwrap().parse().unwrap();
    let older = format!("has version {}, and this program needs", version - 1);
    for (case, damage, repair, expected) in [
        (
            "no execution",
            "REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA useradmin FROM useradmin_server",
            "GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA useradmin TO useradmin_server",
            "lacks rights",
        ),
        (
            "no reading",
            "REVOKE SELECT ON useradmin.audit_head FROM useradmin_server",
            "GRANT SELECT ON useradmin.audit_head TO useradmin_server",
            "lacks rights",
        ),
        (
            "no usage",
            "REVOKE USAGE ON SCHEMA useradmin FROM useradmin_server",
            "GRANT USAGE ON SCHEMA useradmin TO useradmin_server",
            "user may not read it",
        ),
        (
            "older",
            "UPDATE useradmin.schema_history SET version = version - 1",
            "UPDATE useradmin.schema_history SET version = version + 1",
            &*older,
        ),
        (
            "missing",
            "ALTER SCHEMA useradmin RENAME TO other",
            "ALTER SCHEMA other RENAME TO useradmin",
            "the schema of the database is missing",
        ),
    ] {
        store.database.sql(damage).unwrap();
        let folder = App::folder();
        let section = store.section(&folder, LEASE);
        let text = configuration(&folder, 0, "http://127.0.0.1:9", &section, "");
        let file = folder.join("useradmin.toml");
        fs::write(&file, text).unwrap();
        let (code, stdout, stderr) = run(&["serve", "--config", file.to_str().unwrap()]);
        assert_eq!((code, stdout.as_str()), (1, ""), "{case}: {stderr}");
        assert!(stderr.contains(expected), "{case}: {stderr}");
        assert!(
            stderr.contains("useradmin store migrate"),
            "{case}: {stderr}"
        );
        fs::remove_dir_all(folder).unwrap();
        store.database.sql(repair).unwrap();
    }
}

/// Names in other encodings than UTF-8 could not be stored, and would block all later records.
#[test]
fn database_with_other_encoding_is_refused() {
    let Some(postgres) = Postgres::shared() else {
        return;
    };
    let create = "CREATE DATABASE lease_latin1 ENCODING 'LATIN1' TEMPLATE template0";
    postgres.sql(create).unwrap();
    let folder = App::folder();
    let url = postgres.url("postgres");
    let url = format!("{}/lease_latin1", url.strip_suffix("/postgres").unwrap());
    useradmin_testkit::write_secret(&folder.join("store.url"), &url);
    let section = "[store]\nkind = \"postgres\"\nurl_file = \"store.url\"\n";
    let text = configuration(&folder, 0, "http://127.0.0.1:9", section, "");
    let file = folder.join("useradmin.toml");
    fs::write(&file, text).unwrap();
    let (code, _, stderr) = run(&["store", "migrate", "--config", file.to_str().unwrap()]);
    assert_eq!(code, 1, "{stderr}");
    assert!(
        stderr.contains("LATIN1") && stderr.contains("UTF8"),
        "{stderr}"
    );
    fs::remove_dir_all(folder).unwrap();
}
