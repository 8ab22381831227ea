//! Findings for each response of the HMC, and their records.

use std::{collections::HashMap, fs, slice};

use serde_json::{Value, json};
use useradmin_testkit::{
    ForgedLog, Process, ScriptedReply, Step, default_reply, free_port, records, wait_until,
};

use super::{Setup, by_id, by_name, configure, last_line, last_record, log_of_alice};

/// A case: the identifiers in the record, the replies of the HMC to the requests of one step, and the finding with the
/// reason. The last reply is repeated.
type Case = (
    fn() -> Value,
    (Step, &'static [ScriptedReply]),
    (&'static str, &'static str),
);

use ScriptedReply::{Default, Empty, Hmc, Html, Json};

/// Two users whose names differ only in case.
const TWO: &str = r#"{"users":[
    {"object-uri":"/api/users/id-1","name":"alice","type":"standard"},
    {"object-uri":"/api/users/id-2","name":"ALICE","type":"standard"}]}"#;
const PATTERN: &str = r#"{"object-id":"id-1","name":"alice","type":"pattern-based"}"#;
const PROTECTED: &str = r#"{"object-id":"id-1","name":"acsadmin","type":"standard"}"#;
const OWN: &str = r#"{"object-id":"id-1","name":"SVC-USERADMIN","type":"standard"}"#;
const OTHER: &str = r#"{"object-id":"id-2","name":"alice","type":"standard"}"#;

#[rustfmt::skip]
const CASES: [Case; 23] = [
    (|| by_id("id-1"), (Step::Read, &[Default]), ("present", "")),
    (|| by_id("id-2"), (Step::Read, &[Default]), ("absent", "")),
    (|| by_id("id-1"), (Step::Read, &[Hmc(404, 1)]), ("absent", "")),
    (|| by_name("alice"), (Step::List, &[Default]), ("present", "")),
    (|| by_name("ALICE"), (Step::List, &[Default]), ("present", "")),
    (|| by_name("alice"), (Step::List, &[Json(200, "none", r#"{"users":[]}"#)]), ("absent", "")),
    (|| by_name("bob"), (Step::List, &[Default]), ("absent", "")),
    (|| by_name("alice"), (Step::List, &[Json(200, "two", TWO)]), ("unreadable", "AMBIGUOUS_USER_NAME")),
    (|| by_name("alice"), (Step::List, &[Hmc(404, 1)]), ("unreadable", "UPSTREAM_RESOURCE_NOT_FOUND")),
    // The user exists, although the service would not delete it.
    (|| by_id("id-1"), (Step::Read, &[Json(200, "pattern", PATTERN)]), ("present", "")),
    (|| by_id("id-1"), (Step::Read, &[Json(200, "protected", PROTECTED)]), ("present", "")),
    (|| by_id("id-1"), (Step::Read, &[Json(200, "own", OWN)]), ("present", "")),
    // An error with the same reasons is no proof that the user exists.
    (|| by_id("id-1"), (Step::Read, &[Hmc(400, 312)]), ("unreadable", "PATTERN_BASED_USER")),
    (|| by_id("id-1"), (Step::Read, &[Hmc(400, 313)]), ("unreadable", "OWN_USER")),
    (|| by_id("id-1"), (Step::Read, &[Json(200, "other", OTHER)]), ("unreadable", "UPSTREAM_PROTOCOL_ERROR")),
    (|| by_id("id-1"), (Step::Read, &[Html(404)]), ("unreadable", "UPSTREAM_PROTOCOL_ERROR")),
    (|| by_id("id-1"), (Step::Read, &[Hmc(403, 1)]), ("unreadable", "UPSTREAM_PERMISSION_DENIED")),
    (|| by_id("id-1"), (Step::Read, &[Hmc(403, 5), Default]), ("present", "")),
    (|| by_id("id-1"), (Step::Read, &[Hmc(503, 1), Hmc(404, 1)]), ("absent", "")),
    (|| by_id("id-1"), (Step::Read, &[Empty(503)]), ("unreadable", "UPSTREAM_UNAVAILABLE")),
    (|| by_id("id-1"), (Step::Logon, &[Hmc(403, 0)]), ("unreadable", "UPSTREAM_CREDENTIALS_REJECTED")),
    (|| json!({"hmc": "hmc"}), (Step::Read, &[Default]), ("unreadable", "INVALID_REQUEST")),
    // A changed record cannot select another path.
    (|| by_id(".."), (Step::Read, &[Default]), ("unreadable", "INTERNAL")),
];

/// Starts an HMC with the replies of a case.
async fn setup((identifiers, (step, replies), _): &Case) -> Setup {
    let mut log = ForgedLog::default();
    log.hmc_call("a", &identifiers(), "unknown");
    let (step, replies) = (*step, *replies);
    let mut counts: HashMap<Step, usize> = HashMap::new();
    Setup::start(&log, move |request| {
        let nth = counts.entry(Step::of(request)).or_default();
        *nth += 1;
        match &replies[(*nth).min(replies.len()) - 1] {
            other if Step::of(request) == step && !matches!(other, Default) => other.reply(request),
            _ => default_reply(request, *nth),
        }
    })
    .await
}

fn expected((_, _, (finding, reason)): &Case) -> [String; 3] {
    let reason = if reason.is_empty() {
        String::new()
    } else {
        format!("ERROR_REASON_{reason}")
    };
    ["a".to_owned(), (*finding).to_owned(), reason]
}

#[tokio::test(flavor = "multi_thread")]
async fn command_records_finding_of_every_response() {
    for (number, case) in CASES.iter().enumerate() {
        let setup = setup(case).await;
        let (code, out, err) = setup.reconcile(&[]);
        let expected = expected(case);
        assert_eq!(
            setup.found(),
            slice::from_ref(&expected),
            "{number}: {out}{err}"
        );
        assert_eq!(code, i32::from(expected[1] == "unreadable"), "{number}");
        let user = last_record(&setup.file)["user"].clone();
        let line = format!("a hmc {} {}", user.as_str().unwrap(), expected[1]);
        let first = out.lines().next().unwrap();
        assert!(first.starts_with(&line), "{number}: {out}");
        assert!(
            expected[2].is_empty() == (first == line) && first.contains(&expected[2]),
            "{out}"
        );
        setup.finish();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn server_records_finding_of_every_response() {
    for (number, case) in CASES.iter().enumerate() {
        let setup = setup(case).await;
        setup.restart(1).await;
        assert_eq!(setup.found(), [expected(case)], "{number}");
        setup.finish();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn user_is_read_by_recorded_id_if_there_is_one() {
    let mut log = ForgedLog::default();
    let identifiers = json!({"hmc": "hmc", "user_id": "id-7", "user_name": "alice"});
    log.hmc_call("a", &identifiers, "unknown");
    // Another user has got the name.
    let setup = Setup::with_alice(&log).await;
    assert_eq!(setup.reconcile(&[]).0, 0);
    assert_eq!(setup.found(), [["a", "absent", ""]]);
    assert_eq!(setup.upstream.requests("GET", "/api/users/id-7").len(), 1);
    assert!(setup.upstream.requests("GET", "/api/console").is_empty());
    let read = &setup.upstream.requests("GET", "/api/users")[0];
    assert_eq!(read.header("x-audit-id"), Some("a reconciliation"));
    // The session was closed.
    assert_eq!(setup.upstream.requests("DELETE", "/api/sessions").len(), 1);
    setup.finish();
}

/// Nothing listens on the port, and an alias is no longer configured.
#[tokio::test(flavor = "multi_thread")]
async fn unreachable_and_removed_targets_are_unreadable() {
    let mut log = log_of_alice("unknown");
    log.hmc_call("b", &by_name("bob"), "unknown_after_crash");
    let mut removed = last_line(&log);
    removed["target"] = "old".into();
    removed["request_id"] = "c".into();
    let mut intent = removed.clone();
    intent["event"] = "intent".into();
    intent["outcome"] = "".into();
    log.with(intent).with(removed);
    let setup = Setup::with_alice(&log).await;
    configure(&setup.folder, &format!("http://127.0.0.1:{}", free_port()));
    let (unreachable, unknown) = (
        "ERROR_REASON_UPSTREAM_UNREACHABLE",
        "ERROR_REASON_UNKNOWN_TARGET",
    );
    let expected = [
        ["a", "unreadable", unreachable],
        ["c", "unreadable", unknown],
    ];
    let sorted = || {
        let mut found = setup.found();
        found.sort();
        found
    };
    let (code, out, _) = setup.reconcile(&[]);
    let summary = "2 unreadable, 0 not_readable; 1 not read because their target failed\n";
    assert!(code == 1 && out.ends_with(summary), "{out}");
    assert_eq!(sorted(), expected);
    // At each start, users that could not be read come last, and are not recorded again.
    let server = Process::start(&setup.folder);
    let lines = || Process::log_records(&setup.folder, "unknown outcome not reconciled");
    wait_until("both targets", async || lines().len() == 2).await;
    server.stop();
    let mut left: Vec<_> = lines().iter().map(|line| line["left"].clone()).collect();
    left.sort_by_key(Value::as_u64);
    assert_eq!(left, [0, 1]);
    let second = ["b", "unreadable", unreachable];
    assert_eq!(sorted(), [expected[0], second, expected[1]]);
    configure(&setup.folder, &setup.upstream.url);
    let (code, out, _) = setup.reconcile(&[]);
    assert_eq!(code, 1);
    let summary = "FILE: 3 unknown outcomes: 1 absent, 1 present, 1 unreadable, 0 not_readable\n";
    assert!(out.ends_with(summary), "{out}");
    let (_, out, _) = setup.reconcile(&[]);
    let again = "c old bob unreadable ERROR_REASON_UNKNOWN_TARGET: alias\n";
    assert!(out.starts_with(again), "{out}");
    let [first, last] = [["a", "present", ""], ["b", "absent", ""]];
    let found = [first, expected[0], last, second, expected[1]];
    assert_eq!(sorted(), found);
    setup.finish();
}

/// An HMC hides the users that the service's own user has no permission for.
#[tokio::test(flavor = "multi_thread")]
async fn absent_user_may_be_hidden_after_refused_delete() {
    let mut log = ForgedLog::default();
    log.hmc_call("a", &by_id("id-2"), "unknown");
    let mut outcome = last_line(&log);
    let reason = "ERROR_REASON_UPSTREAM_PERMISSION_DENIED";
    outcome["reason"] = reason.into();
    let mut log = ForgedLog::default();
    log.hmc("intent", "a", &by_id("id-2"), "").with(outcome);
    let setup = Setup::with_alice(&log).await;
    assert_eq!(setup.reconcile(&[]).0, 1);
    assert_eq!(setup.found(), [["a", "unreadable", reason]]);
    setup.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn finding_has_members_of_reconciled_outcome() {
    let setup = Setup::with_alice(&log_of_alice("unknown")).await;
    let before = fs::read_to_string(&setup.file).unwrap();
    setup.restart(1).await;
    let after = fs::read_to_string(&setup.file).unwrap();
    assert!(after.starts_with(&before));
    let [_, outcome, finding] = records(&setup.file).try_into().unwrap();
    let mut expected = outcome.as_object().unwrap().clone();
    for key in ["attempts", "caller_gone", "ts", "prev"] {
        expected.remove(key);
    }
    for (key, value) in [
        ("v", json!(2)),
        ("seq", json!(3)),
        ("event", json!("reconciled")),
        ("outcome", json!("present")),
    ] {
        expected.insert(key.to_owned(), value);
    }
    let mut finding = finding.as_object().unwrap().clone();
    assert!(finding.remove("ts").is_some_and(|ts| ts != outcome["ts"]));
    finding.remove("prev");
    assert_eq!(finding, expected);
    setup.finish();
}
