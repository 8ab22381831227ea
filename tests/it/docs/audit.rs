//! Checks the tables of `docs/audit.md`, which is written by hand, against the records that servers write.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use serde_json::Value;
use useradmin::proto::DeleteBatchNodeUserRequest;
use useradmin_testkit::{
    App, ForgedLog, Process, Reply, Signer, Upstream, batch_deleted, batch_request, batch_response,
    batch_section, configure, default_reply, hmc_section, records, token_reply_or, verify,
    wait_until,
};

/// Returns the cells of the table whose header starts with this column name.
fn table(name: &str) -> Vec<Vec<String>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/audit.md");
    let text = fs::read_to_string(path).unwrap();
    let row_start = format!("| {name} | ");
    let lines = text
        .lines()
        .skip_while(|line| !line.starts_with(&row_start));
    let rows = lines.skip(2).take_while(|line| line.starts_with('|'));
    let rows = rows.map(|row| {
        let cells = row.trim_matches('|').split('|');
        cells
            .map(|cell| cell.trim().trim_matches('`').to_owned())
            .collect()
    });
    rows.collect()
}

/// Cell of the keys that only records of a call itself have, not those that were added later.
const OF_CALLS: &str = "intents, and outcomes except `unknown_after_crash`";

/// Returns the type of a key, as the text before the table of keys describes it.
fn documented_type(key: &str) -> &'static str {
    match key {
        "v" | "seq" | "attempts" | "count" => "number",
        "caller_gone" | "carried" => "true or false",
        "identifiers" => "object of texts",
        _ => "text",
    }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Number(_) => "number",
        Value::String(_) => "text",
        Value::Bool(_) => "true or false",
        Value::Object(_) => "object of texts",
        _ => "none",
    }
}

/// Returns the records of unauthenticated callers, and a summary of the refusals that have no record each.
async fn unauthenticated_records(upstream: &Upstream) -> Vec<Value> {
    let folder = App::folder();
    fs::write(folder.join("jwks.json"), Signer::es256("key-1").key_set()).unwrap();
    let text = "[server]\nlisten = \"127.0.0.1:0\"\nadmin_listen = \"\"\n[[jwt_issuers]]\n\
        issuer = \"https://login.example\"\naudience = \"useradmin\"\njwks_file = \"jwks.json\"\n";
    let section = batch_section(&folder, &upstream.url);
    let mut app = App::start_with_text(folder, &format!("{text}{section}")).await;
    for _ in 0..61 {
        let refusal = app.delete_batch_node_user(batch_request("alice")).await;
        assert!(refusal.is_err());
    }
    app.drain().await;
    app.audit()
}

/// Returns the record of a finding about a user of an HMC.
async fn reconciled_records() -> Vec<Value> {
    let upstream = Upstream::start(|received| default_reply(received, 1)).await;
    let folder = App::folder();
    let mut log = ForgedLog::default();
    let user = serde_json::json!({"hmc": "hmc", "user_id": "id-1"});
    log.hmc_call("a", &user, "unknown");
    fs::write(folder.join("audit.jsonl"), &log.text).unwrap();
    let app = App::start_in(folder.clone(), &hmc_section(&folder, &upstream.url)).await;
    let file = folder.join("audit.jsonl");
    wait_until("a finding", async || {
        let text = fs::read_to_string(&file).unwrap();
        text.lines().count() == 3 && text.ends_with('\n')
    })
    .await;
    app.audit().split_off(2)
}

/// Returns records of all kinds: completed calls, dry runs, and calls interrupted by a crash before and after a
/// rotation.
async fn all_kinds() -> Vec<Value> {
    let upstream = Upstream::start(|received| {
        token_reply_or(received, || match received.method.as_str() {
            "DELETE" if received.target.contains("/held") => Reply::Hang,
            "DELETE" => batch_deleted(),
            _ => batch_response(200, r#"{"state":"idle"}"#),
        })
    })
    .await;
    let folder = App::folder();
    configure(&folder, &upstream.url, "");
    let (file, old) = (folder.join("audit.jsonl"), folder.join("audit.jsonl.1"));
    let process = Process::start(&folder);
    let mut client = process.client();
    client
        .delete_batch_node_user(batch_request("alice"))
        .await
        .unwrap();
    let mut hanging_client = client.clone();
    tokio::spawn(async move {
        hanging_client
            .delete_batch_node_user(batch_request("held"))
            .await
    });
    upstream.wait_for_requests("DELETE", "/pools", 2).await;
    fs::rename(&file, &old).unwrap();
    wait_until("a new file", async || file.exists()).await;
    let request = DeleteBatchNodeUserRequest {
        validate_only: true,
        ..batch_request("alice")
    };
    client.delete_batch_node_user(request).await.unwrap();
    process.kill();
    Process::start(&folder).stop();
    let all = [
        records(&old),
        records(&file),
        unauthenticated_records(&upstream).await,
        reconciled_records().await,
        crate::on_behalf_of::audit_records().await,
    ]
    .concat();
    fs::remove_dir_all(folder).unwrap();
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn documented_audit_keys_match_records() {
    let mut missing: BTreeMap<String, String> = table("key")
        .into_iter()
        .map(|row| (row[0].clone(), row[1].clone()))
        .collect();
    let documented = missing.clone();
    let mut kinds = BTreeSet::new();
    for record in all_kinds().await {
        let event = record["event"].as_str().unwrap();
        let of_call = event != "reconciled" && record["outcome"] != "unknown_after_crash";
        let version = if event == "reconciled" { 2 } else { 1 };
        assert_eq!(record["v"], version, "{record}");
        let fields = record.as_object().unwrap();
        for (key, value) in fields {
            let Some(only_in) = documented.get(key) else {
                panic!("docs/audit.md lacks `{key}`: {record}");
            };
            assert_eq!(type_of(value), documented_type(key), "{key}");
            let fits = match only_in.as_str() {
                "" => true,
                OF_CALLS => of_call,
                "summaries" => event == "outcome",
                events => events.contains(event),
            };
            assert!(fits, "{key} in {event}: {record}");
            missing.remove(key);
        }
        for (key, only_in) in &documented {
            let required = only_in.is_empty() || only_in == OF_CALLS && of_call;
            assert!(!required || fields.contains_key(key), "{key} in {record}");
        }
        kinds.insert((
            event.to_owned(),
            record["outcome"].as_str().unwrap_or_default().to_owned(),
        ));
    }
    assert!(missing.is_empty(), "in no record: {missing:?}");
    let expected = [
        ("intent", ""),
        ("outcome", "deleted"),
        ("outcome", "denied"),
        ("outcome", "unknown_after_crash"),
        ("outcome", "validated"),
        ("reconciled", "present"),
    ];
    assert_eq!(
        kinds,
        expected
            .map(|(event, outcome)| (event.to_owned(), outcome.to_owned()))
            .into()
    );
}

/// Checks that `verify` accepts the documented events and outcomes, and applies the documented rule for intents.
#[test]
fn documented_audit_events_match_verify() {
    let folder = App::folder();
    let file = folder.join("audit.jsonl");
    let code = |log: &ForgedLog| {
        fs::write(&file, &log.text).unwrap();
        verify([&file]).0
    };
    let events = table("event").into_iter().map(|row| row[0].clone());
    assert_eq!(
        events.collect::<Vec<_>>(),
        ["intent", "outcome", "reconciled"]
    );
    let outcomes = table("outcome");
    assert_eq!(outcomes.len(), 9);
    for row in outcomes {
        let (outcome, attempts) = (&row[0], 1);
        let mut log = ForgedLog::default();
        log.intent("a", "bob").ended("a", "bob", outcome, attempts);
        assert_eq!(code(&log), 0, "{outcome}");
        let mut log = ForgedLog::default();
        log.ended("a", "bob", outcome, attempts);
        assert_eq!(code(&log), i32::from(row[1] == "yes"), "{outcome}");
    }
    assert_eq!(
        code(ForgedLog::default().ended("a", "bob", "unknown", 0)),
        0
    );
    assert_eq!(code(ForgedLog::default().outcome("a", "bob", "lost")), 1);
    let findings = table("finding");
    assert_eq!(findings.len(), 4);
    for row in findings {
        let finding = &row[0];
        let mut log = ForgedLog::default();
        let user = serde_json::json!({"hmc": "hmc", "user_id": "id-1"});
        log.hmc_call("a", &user, "unknown");
        log.hmc("reconciled", "a", &user, finding);
        // The command only prints this finding.
        let printed = finding == "not_readable";
        assert_eq!(code(&log), i32::from(printed), "{finding}");
        log.hmc("reconciled", "a", &user, "absent");
        let settled = row[2] == "yes";
        assert_eq!(code(&log), i32::from(printed || settled), "{finding}");
    }
    fs::remove_dir_all(folder).unwrap();
}
