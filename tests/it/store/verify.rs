//! `useradmin audit verify` on the database.

use std::fs;

use useradmin_testkit::{
    App, Cut, Database, Postgres, STORE_USER, Store, TcpProxy, Upstream, batch_deleted,
    batch_request, batch_section, run, run_with_database, token_reply_or,
};

const VERIFY: [&str; 2] = ["audit", "verify"];

/// Restores the tables that [`fill`] has copied.
fn restore(database: &Database<'_>) {
    for table in ["audit_record", "audit_head"] {
        let sql = format!(
            "TRUNCATE useradmin.{table}; INSERT INTO useradmin.{table} SELECT * FROM copy_of_{table}"
        );
        database.sql(&sql).unwrap();
    }
}

async fn start_replica(store: &Store<'_>, upstream: &Upstream) -> App {
    let folder = App::folder();
    let text = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nadmin_listen = \"\"\n{}[[callers]]\n\
         identity = \"anonymous\"\n\
         allow = [{{ rpc = \"DeleteBatchNodeUser\", targets = [\"*\"] }}]\n{}",
        store.section(&folder, ""),
        batch_section(&folder, &upstream.url)
    );
    App::start_with_text(folder, &text).await
}

/// Lets two replicas delete three users each, one after the other, so that intents and outcomes alternate. Copies the
/// tables with the 12 records.
async fn fill(store: &Store<'_>) {
    let upstream = Upstream::start(move |seen| token_reply_or(seen, batch_deleted)).await;
    for users in [["u1", "u2", "u3"], ["u4", "u5", "u6"]] {
        let app = start_replica(store, &upstream).await;
        for user in users {
            app.delete_batch_node_user(batch_request(user))
                .await
                .unwrap();
        }
        app.stop().await;
    }
    for table in ["audit_record", "audit_head"] {
        let sql = format!("CREATE TABLE copy_of_{table} AS TABLE useradmin.{table}");
        store.database.sql(&sql).unwrap();
    }
}

/// Statements of a superuser, and the faults that `audit verify` finds afterwards, without the name of the database and
/// in the order of the output.
const CHANGES: [(&str, &[&str]); 24] = [
    ("SELECT 1", &[]),
    (
        "DELETE FROM useradmin.audit_record WHERE seq = 1",
        &[
            "2: `seq` is 2, where 1 is due",
            "2: `prev` is not the hash of the line before",
            "*",
        ],
    ),
    (
        "DELETE FROM useradmin.audit_record WHERE seq = 9",
        &[
            "10: `seq` is 10, where 9 is due",
            "10: `prev` is not the hash of the line before",
            "*",
        ],
    ),
    (
        "DELETE FROM useradmin.audit_record WHERE seq = 12",
        &["11: the newest records are missing: the last one is 12 in `audit_head`"],
    ),
    (
        "DELETE FROM useradmin.audit_record",
        &["0: the newest records are missing: the last one is 12 in `audit_head`"],
    ),
    (
        "DELETE FROM useradmin.audit_head",
        &["12: the table `audit_head` is empty"],
    ),
    (
        "UPDATE useradmin.audit_head SET seq = 11",
        &["12: records were added: the last one is 11 in `audit_head`"],
    ),
    (
        "UPDATE useradmin.audit_head SET hash = ''",
        &["12: the last record has another hash in `audit_head`"],
    ),
    // All records of the replica that ran last, and of the other one.
    (
        "DELETE FROM useradmin.audit_record WHERE seq > 6",
        &["6: the newest records are missing: the last one is 12 in `audit_head`"],
    ),
    (
        "DELETE FROM useradmin.audit_record WHERE seq <= 6",
        &[
            "7: `seq` is 7, where 1 is due",
            "7: `prev` is not the hash of the line before",
        ],
    ),
    // A record that is moved to the end, or that another program has added.
    (
        "UPDATE useradmin.audit_record SET seq = 13 WHERE seq = 12",
        &[
            "13: the column `seq` differs from the record",
            "13: records were added: the last one is 12 in `audit_head`",
        ],
    ),
    (
        "UPDATE useradmin.audit_record SET seq = -5 WHERE seq = 3",
        &["0: `seq` is 3, where 1 is due", "*"],
    ),
    (
        "INSERT INTO useradmin.audit_record SELECT 13, ts, 'x', event, outcome, caller, user_name, user_ids, since, line \
         FROM useradmin.audit_record WHERE seq = 12",
        &["13: `seq` is 12, where 13 is due", "*"],
    ),
    (
        "UPDATE useradmin.audit_record SET line = replace(line, '\"deleted\"', '\"not_deleted\"'), \
         outcome = replace(outcome, 'deleted', 'not_deleted') WHERE seq = 6",
        &["7: `prev` is not the hash of the line before"],
    ),
    (
        "UPDATE useradmin.audit_record SET line = '' WHERE seq = 12",
        &[
            "12: no record: not a JSON object",
            "12: the last record has another hash in `audit_head`",
        ],
    ),
    // Columns that `audit report` searches by.
    (
        "UPDATE useradmin.audit_record SET ts = ts + interval '1 microsecond' WHERE seq = 2",
        &["2: the column `ts` differs from the record"],
    ),
    (
        "UPDATE useradmin.audit_record SET ts = 'infinity' WHERE seq = 2",
        &["2: the column `ts` differs from the record"],
    ),
    (
        "UPDATE useradmin.audit_record SET request_id = 'x' WHERE seq = 2",
        &["2: the column `request_id` differs from the record"],
    ),
    (
        "UPDATE useradmin.audit_record SET event = 'outcome' WHERE seq = 1",
        &["1: the column `event` differs from the record"],
    ),
    (
        "UPDATE useradmin.audit_record SET outcome = '' WHERE seq = 6",
        &["6: the column `outcome` differs from the record"],
    ),
    (
        "UPDATE useradmin.audit_record SET caller = 'x' WHERE seq = 2",
        &["2: the column `caller` differs from the record"],
    ),
    (
        "UPDATE useradmin.audit_record SET user_name = '' WHERE seq = 2",
        &["2: the column `user_name` differs from the record"],
    ),
    (
        "UPDATE useradmin.audit_record SET user_ids = '{NULL}' WHERE seq = 2",
        &["2: the column `user_ids` differs from the record"],
    ),
    (
        "UPDATE useradmin.audit_record SET since = ts WHERE seq = 2",
        &["2: the column `since` differs from the record"],
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_change_by_a_superuser_is_found() {
    let Some(postgres) = Postgres::shared() else {
        return;
    };
    let store = Store::create(postgres, "verify_changes");
    fill(&store).await;
    let name = "postgres 127.0.0.1/verify_changes";
    for (change, faults) in CHANGES {
        store.database.sql(change).unwrap();
        let (code, out, err) = store.verify();
        restore(&store.database);
        let found: Vec<_> = err.lines().collect();
        if faults.is_empty() {
            assert_eq!((code, err.as_str()), (0, ""), "{change}");
            let totals = format!("{name}: 12 records, seq 1 to 12, 0 open intents, head 12:");
            assert!(out.starts_with(&totals), "{out}");
            continue;
        }
        assert_eq!((code, out.as_str()), (1, ""), "{change}: {err}");
        // After `*`, further faults follow.
        let has_more = faults.last() == Some(&"*");
        let faults = faults.iter().filter(|text| **text != "*");
        let faults: Vec<_> = faults.map(|text| format!("{name}:{text}")).collect();
        assert!(found.len() >= faults.len(), "{change}: {err}");
        assert_eq!(found[..faults.len()], faults, "{change}");
        assert!(has_more || found.len() == faults.len(), "{change}: {err}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn log_is_valid_while_a_server_writes() {
    let Some(postgres) = Postgres::shared() else {
        return;
    };
    let store = Store::create(postgres, "verify_writing");
    let upstream = Upstream::start(move |seen| token_reply_or(seen, batch_deleted)).await;
    let app = start_replica(&store, &upstream).await;
    let mut client = app.client();
    let writer = tokio::spawn(async move {
        loop {
            client
                .delete_batch_node_user(batch_request("alice"))
                .await
                .unwrap();
        }
    });
    let mut before = String::new();
    for _ in 0..10 {
        let (code, out, err) = store.verify();
        assert_eq!((code, err.as_str()), (0, ""));
        assert_ne!(out, before);
        before = out;
    }
    writer.abort();
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn archived_records_are_accepted_with_partial() {
    let Some(postgres) = Postgres::shared() else {
        return;
    };
    let store = Store::create(postgres, "verify_partial");
    fill(&store).await;
    let verify = |arguments: &[&str]| store.run_as(STORE_USER, &[&VERIFY, arguments].concat());
    // The archive, as docs/audit.md describes it, has all records up to 6, and the last of them stays in the database.
    let folder = App::folder();
    let archive = folder.join("archive.jsonl");
    let lines = store.lines();
    let archived: String = lines.split_inclusive('\n').take(6).collect();
    fs::write(&archive, archived).unwrap();
    let (code, out, err) = run(&["audit", "verify", archive.to_str().unwrap()]);
    assert_eq!(code, 0, "{err}");
    let head = out.trim_end().rsplit(' ').next().unwrap();
    store
        .database
        .sql("DELETE FROM useradmin.audit_record WHERE seq < 6")
        .unwrap();
    assert_eq!(verify(&[]).0, 1);
    let (code, out, err) = verify(&["--partial", "--contains", head]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(
        out.contains(": 7 records, seq 6 to 12, 0 open intents, head 12:"),
        "{out}"
    );
    // Without the newest record of the archive, the gap after it would not be found.
    store
        .database
        .sql("DELETE FROM useradmin.audit_record WHERE seq = 6")
        .unwrap();
    assert_eq!(verify(&["--partial"]).0, 0);
    let (code, _, err) = verify(&["--partial", "--contains", head]);
    let missing =
        "postgres 127.0.0.1/verify_partial:12: there is no record 6, which must be here\n";
    assert_eq!((code, err.as_str()), (1, missing));
    store
        .database
        .sql("DELETE FROM useradmin.audit_record")
        .unwrap();
    assert_eq!(verify(&["--partial"]).0, 1);
    fs::remove_dir_all(folder).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn known_heads_are_compared() {
    let Some(postgres) = Postgres::shared() else {
        return;
    };
    let store = Store::create(postgres, "verify_contains");
    let verify = |heads: &[&str]| {
        let contains = heads.iter().flat_map(|head| ["--contains", head]);
        let arguments: Vec<_> = VERIFY.into_iter().chain(contains).collect();
        store.run_as(STORE_USER, &arguments)
    };
    let empty = "postgres 127.0.0.1/verify_contains: 0 records\n";
    assert_eq!(verify(&[]), (0, empty.to_owned(), String::new()));
    fill(&store).await;
    let (_, out, _) = verify(&[]);
    let head = out.trim_end().rsplit(' ').next().unwrap();
    let other = format!("12:{}", "0".repeat(64));
    let future = format!("13:{}", "0".repeat(64));
    for (heads, code) in [
        (&[head][..], 0),
        (&["0:", head], 0),
        (&[&other], 1),
        (&[&future], 1),
    ] {
        assert_eq!(verify(heads).0, code, "{heads:?}");
    }
    // Someone with all rights removes the newest records, and changes the head of the chain as well.
    store
        .database
        .sql(
            "DELETE FROM useradmin.audit_record WHERE seq > 6; UPDATE useradmin.audit_head SET seq = 6, \
             hash = (SELECT encode(sha256(convert_to(line, 'UTF8')), 'hex') FROM useradmin.audit_record WHERE seq = 6)",
        )
        .unwrap();
    assert_eq!(verify(&[]).0, 0);
    assert_eq!(verify(&[head]).0, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_connection_is_an_error() {
    let Some(postgres) = Postgres::shared() else {
        return;
    };
    let store = Store::create(postgres, "verify_lost");
    fill(&store).await;
    let proxy = TcpProxy::start(postgres.port()).await;
    let url = store.database.url_at(proxy.port(), STORE_USER);
    for command in ["verify", "report"] {
        assert_eq!(run_with_database(&url, &["audit", command]).0, 0);
        // The statement and some of its rows have been received.
        proxy.cut_at(Cut::AfterResponseBytes(5_000));
        let (code, _, err) = run_with_database(&url, &["audit", command]);
        assert!(!proxy.will_cut());
        assert_eq!(code, 2, "{err}");
        assert!(err.starts_with("postgres 127.0.0.1/verify_lost: "), "{err}");
        assert_eq!(err.lines().count(), 1, "{err}");
    }
}

#[test]
fn databases_that_cannot_be_read_are_errors() {
    let Some(postgres) = Postgres::shared() else {
        return;
    };
    let store = Store::create(postgres, "verify_unreadable");
    postgres.create_database("verify_empty");
    postgres.create_user("verify_nobody");
    let url = store.database.url(STORE_USER);
    let no_schema = url.replace("/verify_unreadable", "/verify_empty");
    let no_database = url.replace("/verify_unreadable", "/verify_none");
    let no_rights = store.database.url("verify_nobody");
    let no_server = store.database.url_at(1, STORE_USER);
    let old = "UPDATE useradmin.schema_history SET version = 0";
    for (url, message) in [
        (no_schema, "the schema of the database is missing"),
        (no_rights, "its user may not read it"),
        (no_database, "database \"verify_none\" does not exist"),
        (no_server, "Connection refused"),
        (url, "has version 0, and this program needs"),
    ] {
        if message.starts_with("has version") {
            store.database.sql(old).unwrap();
        }
        for command in ["verify", "report"] {
            let (code, out, err) = run_with_database(&url, &["audit", command]);
            assert_eq!((code, out.as_str()), (2, ""), "{message}: {err}");
            assert!(err.starts_with("postgres 127.0.0.1/"), "{err}");
            assert!(err.contains(message), "{message}: {err}");
            assert_eq!(err.lines().count(), 1, "{err}");
        }
    }
}
