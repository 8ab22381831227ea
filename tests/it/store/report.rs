//! `useradmin audit report` on the database selects the same calls as on a file with the same lines.

use std::{collections::BTreeSet, fs};

use serde_json::{Value, json};
use useradmin::proto::DeleteBatchNodeUserRequest;
use useradmin_testkit::{
    App, ForgedLog, Postgres, Reply, STORE_USER, Step, Store, Upstream, batch_deleted,
    batch_request, batch_response, batch_section, default_reply, delete_by_id, delete_by_name,
    hmc_section, run, token_reply_or, values_of, wait_until,
};

/// A user that may only read the tables of the report.
const AUDITOR: &str = "useradmin_auditor";

/// Name of the user `id-2`, with characters that have a meaning in arrays of SQL, and NUL, which the database
/// cannot store.
const ODD_NAME: &str = "a \"b\\\"{c,NULL}\0'";

async fn upstream() -> Upstream {
    Upstream::start(move |request| {
        if !request.target.starts_with("/api/") {
            return token_reply_or(request, || match request.method.as_str() {
                "DELETE" if request.target.contains("/held") => Reply::Hang,
                "DELETE" => batch_deleted(),
                _ => batch_response(200, r#"{"state":"idle"}"#),
            });
        }
        let target = request.target.as_str();
        match Step::of(request) {
            Step::Read if target == "/api/users/id-2" => {
                let user = json!({"object-id": "id-2", "name": ODD_NAME, "type": "standard"});
                Reply::json(200, &user.to_string())
            }
            Step::Read if target == "/api/users/id-lost" => {
                let user = json!({"object-id": "id-lost", "name": "lost", "type": "standard"});
                Reply::json(200, &user.to_string())
            }
            Step::Delete if target.ends_with("id-lost") => Reply::Close,
            _ => default_reply(request, 1),
        }
    })
    .await
}

/// Starts a replica whose anonymous callers may call these rpcs.
async fn start_replica(store: &Store<'_>, upstream: &Upstream, rpcs: &[&str]) -> App {
    let folder = App::folder();
    let allow = rpcs
        .iter()
        .map(|rpc| format!("{{ rpc = \"{rpc}\", targets = [\"*\"] }}"));
    let text = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nadmin_listen = \"\"\n{}[[callers]]\n\
         identity = \"anonymous\"\nallow = [{}]\n{}{}",
        store.section(&folder, ""),
        allow.collect::<Vec<_>>().join(", "),
        batch_section(&folder, &upstream.url),
        hmc_section(&folder, &upstream.url)
    );
    App::start_with_text(folder, &text).await
}

/// Lets several replicas write records of all kinds, except for an intent without an outcome.
async fn fill(store: &Store<'_>, upstream: &Upstream) {
    let all = ["DeleteBatchNodeUser", "DeleteHmcUser"];
    let one = start_replica(store, upstream, &all).await;
    let two = start_replica(store, upstream, &all[..1]).await;
    one.delete_hmc_user(delete_by_id("id-1")).await.unwrap();
    one.delete_hmc_user(delete_by_id("id-2")).await.unwrap();
    for validate_only in [true, false] {
        let request = DeleteBatchNodeUserRequest {
            validate_only,
            ..batch_request("bob")
        };
        two.delete_batch_node_user(request).await.unwrap();
    }
    one.delete_hmc_user(delete_by_name("alice")).await.unwrap();
    // The last refusals have no record each.
    for _ in 0..62 {
        assert!(two.delete_hmc_user(delete_by_id("refused")).await.is_err());
    }
    let lost = one
        .delete_hmc_user(delete_by_id("id-lost"))
        .await
        .unwrap_err();
    assert_eq!(lost.metadata_value("outcome"), "unknown", "{lost:?}");
    one.stop().await;
    two.stop().await;
    // A replica that starts reads the user.
    let three = start_replica(store, upstream, &all).await;
    wait_until("a finding", async || {
        store.lines().contains("\"reconciled\"")
    })
    .await;
    three.stop().await;
}

/// Returns filters of all kinds, with the times of the records as bounds of periods.
fn filters(records: &[Value]) -> Vec<Vec<String>> {
    let fixed: [&[&str]; 17] = [
        &[],
        &["--json"],
        &["--user", "alice"],
        &["--user", "alice", "--json"],
        &["--user", "id-1"],
        &["--user", "id-2"],
        &["--user", "id-lost"],
        // The finding and its call.
        &["--user", "lost", "--json"],
        &["--user", "bob"],
        &["--user", "pool-1"],
        &["--user", "%"],
        &["--user", ""],
        &["--caller", "anonymous"],
        &["--caller", ""],
        &["--caller", "anonymous", "--user", "bob"],
        &["--since", "800000d", "--until", "9000-01-01"],
        &["--user", "held", "--caller", "anonymous", "--since", "1h"],
    ];
    let owned = |arguments: &[&str]| arguments.iter().map(|text| (*text).to_owned()).collect();
    let mut filters: Vec<Vec<String>> = fixed.iter().map(|arguments| owned(arguments)).collect();
    let calls = records.iter();
    let calls = calls.filter(|record| record["outcome"] != "denied" || record["count"].is_u64());
    let calls: Vec<_> = calls.cloned().collect();
    let times = [values_of(&calls, "ts"), values_of(&calls, "since")].concat();
    let times: BTreeSet<_> = times.iter().map(String::as_str).collect();
    for time in &times {
        filters.push(owned(&["--since", time]));
        filters.push(owned(&["--until", time, "--user", "alice"]));
    }
    let times: Vec<_> = times.into_iter().collect();
    for period in times.windows(2) {
        filters.push(owned(&["--since", period[0], "--until", period[1]]));
    }
    filters
}

/// Returns the number of calls and findings in the summary of a report, without the number of records that were read.
fn totals(summary: &str) -> &str {
    summary.split_once(" records: ").unwrap().1
}

#[tokio::test(flavor = "multi_thread")]
async fn selection_is_the_same_as_in_a_file() {
    let Some(postgres) = Postgres::shared() else {
        return;
    };
    let store = Store::create(postgres, "report_filters");
    let upstream = upstream().await;
    Box::pin(fill(&store, &upstream)).await;
    let app = start_replica(&store, &upstream, &["DeleteBatchNodeUser"]).await;
    let mut client = app.client();
    let held =
        tokio::spawn(async move { client.delete_batch_node_user(batch_request("held")).await });
    upstream.wait_for_requests("DELETE", "/pools", 2).await;

    let folder = App::folder();
    let file = folder.join("copy.jsonl");
    fs::write(&file, store.lines()).unwrap();
    postgres.create_user(AUDITOR);
    let grants = format!(
        "GRANT USAGE ON SCHEMA useradmin TO {AUDITOR}; GRANT SELECT ON useradmin.audit_record, \
         useradmin.audit_head, useradmin.schema_history TO {AUDITOR}"
    );
    store.database.sql(&grants).unwrap();
    let mut selected = 0;
    for filter in filters(&store.records()) {
        let filter: Vec<_> = filter.iter().map(String::as_str).collect();
        let arguments = [&["audit", "report"], &filter[..]].concat();
        let expected = run(&[&arguments[..], &[file.to_str().unwrap()]].concat());
        let found = store.run_as(AUDITOR, &arguments);
        assert_eq!(expected.0, 0, "{filter:?}: {expected:?}");
        assert_eq!((found.0, &found.1), (0, &expected.1), "{filter:?}");
        assert_eq!(totals(&found.2), totals(&expected.2), "{filter:?}");
        selected += found.1.lines().count();
    }
    assert!(selected > 500, "{selected}");
    let (code, _, err) = store.run_as(AUDITOR, &["audit", "verify"]);
    assert_eq!((code, err.as_str()), (0, ""));
    fs::remove_dir_all(folder).unwrap();
    held.abort();
}

/// Only the records of calls that may match are read.
#[tokio::test(flavor = "multi_thread")]
async fn columns_preselect_calls() {
    let Some(postgres) = Postgres::shared() else {
        return;
    };
    let store = Store::create(postgres, "report_columns");
    Box::pin(fill(&store, &upstream().await)).await;
    let last = store.records().pop().unwrap()["ts"]
        .as_str()
        .unwrap()
        .to_owned();
    let report = |arguments: &[&str]| {
        let (code, out, err) =
            store.run_as(STORE_USER, &[&["audit", "report"], arguments].concat());
        assert!(
            code == 0 && out.lines().count() > 0 || arguments.contains(&"nobody"),
            "{err}"
        );
        err
    };
    for (arguments, expected) in [
        (
            &["--user", "nobody"][..],
            "0 records: 0 calls match, 0 of them open, 0 findings\n",
        ),
        (
            &["--user", "bob"],
            "3 records: 2 calls match, 0 of them open, 0 findings\n",
        ),
        (
            &["--user", "id-1"],
            "4 records: 2 calls match, 0 of them open, 0 findings\n",
        ),
        (
            &["--user", "lost"],
            "3 records: 1 calls match, 0 of them open, 1 findings\n",
        ),
        (
            &["--user", "lost", "--caller", "nobody"],
            "0 records: 0 calls match, 0 of them open, 0 findings\n",
        ),
        (
            &["--until", &last, "--user", "id-2"],
            "2 records: 1 calls match, 0 of them open, 0 findings\n",
        ),
    ] {
        assert_eq!(report(arguments), expected, "{arguments:?}");
    }
}

#[test]
fn lines_that_are_not_records_are_reported() {
    let Some(postgres) = Postgres::shared() else {
        return;
    };
    let store = Store::create(postgres, "report_faults");
    let insert = "INSERT INTO useradmin.audit_record \
         SELECT n, now(), 'a', 'outcome', 'denied', 'x', 'bob', '{}', NULL, 'no record' FROM generate_series(6, 7) AS n";
    store.database.sql(insert).unwrap();
    let name = "postgres 127.0.0.1/report_faults";
    let summary = "0 records: 0 calls match, 0 of them open, 0 findings; \
         2 lines are not records, and their calls may be missing\n";
    for arguments in [&[][..], &["--user", "bob"]] {
        let found = store.run_as(STORE_USER, &[&["audit", "report"], arguments].concat());
        let text = "no record: not a JSON object";
        let err = format!("{name}:6: {text}\n{name}:7: {text}\n{summary}");
        assert_eq!(found, (1, String::new(), err));
    }
}

/// Without a database, `--config` names the file of `[audit]`.
#[test]
fn configuration_names_the_file() {
    let folder = App::folder();
    let file = folder.join("useradmin.toml");
    let mut log = ForgedLog::default();
    log.intent("a", "bob").outcome("a", "bob", "deleted");
    fs::write(folder.join("log.jsonl"), &log.text).unwrap();
    let configure = |audit: &str| {
        let section = batch_section(&folder, "http://127.0.0.1:1");
        fs::write(&file, format!("[audit]\nfile = \"{audit}\"\n{section}")).unwrap();
    };
    let config = file.to_str().unwrap();
    let audit = |arguments: &[&str]| run(&[&["audit"], arguments].concat());
    configure("log.jsonl");
    let (code, out, err) = audit(&["report", "--config", config, "--user", "bob"]);
    assert_eq!((code, out.lines().count()), (0, 1), "{err}");
    let (code, out, err) = audit(&["verify", "--config", config, "--contains", &log.head()]);
    assert!(
        code == 0 && out.contains("log.jsonl: 2 records, seq 1 to 2"),
        "{err}"
    );
    for (audit_file, arguments, message) in [
        (
            "missing.jsonl",
            &["--config", config][..],
            "missing.jsonl: No such file",
        ),
        (
            "stdout",
            &["--config", config],
            "`file` in [audit] is not a file",
        ),
        ("log.jsonl", &["--config", "/nothing.toml"], "/nothing.toml"),
        (
            "log.jsonl",
            &["--config", config, config],
            "cannot be used with",
        ),
        ("log.jsonl", &[], "Usage: useradmin audit"),
    ] {
        configure(audit_file);
        for command in ["verify", "report"] {
            let (code, out, err) = audit(&[&[command], arguments].concat());
            assert_eq!((code, out.as_str()), (2, ""), "{arguments:?}: {err}");
            assert!(err.contains(message), "{arguments:?}: {err}");
        }
    }
    fs::remove_dir_all(folder).unwrap();
}
