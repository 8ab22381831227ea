//! The faults of single records and of the records of one call, and their messages.

use std::{fs, path::Path};

use serde_json::{Value, json};
use useradmin_testkit::{App, ForgedLog, verify};

/// A change of a valid outcome record, and the expected message, which is empty if the record stays valid.
type Change = (fn(&mut Value), &'static str);

#[rustfmt::skip]
const CHANGES: [Change; 18] = [
    (|record| record["seq"] = json!("1"), "`seq` is not a whole number"),
    (|record| record["seq"] = json!(-1), "`seq` is not a whole number"),
    (|record| record["prev"] = json!(0), "`prev` is not a text"),
    (|record| record["event"] = json!("\u{1b}[31m"), "`event` is not an event"),
    (|record| record["outcome"] = json!("gone"), "`outcome` is not an outcome"),
    (|record| record["user"] = json!(7), "`user` is not a text"),
    (|record| record["ts"] = json!(null), "`ts` is not a text"),
    (|record| record["attempts"] = json!("1"), "`attempts` is not a whole number"),
    (|record| record["caller_gone"] = json!(0), "`caller_gone` is not true or false"),
    (|record| record["identifiers"] = json!({"a": 1}), "`identifiers` is not an object of texts"),
    (|record| record["client_request_id"] = json!([]), "`client_request_id` is not a text"),
    (|record| record["request_id"] = json!(""), "`request_id` is not a text that is not empty"),
    (|record| drop(record.as_object_mut().unwrap().remove("peer")), "`peer` is not a text"),
    (|record| drop(record.as_object_mut().unwrap().remove("v")), "`v` is not 1 or 2"),
    (|record| record["v"] = json!(3), "`v` is not 1 or 2"),
    (|record| record["event"] = json!("reconciled"), "`outcome` is not a finding"),
    (|record| record["outcome"] = json!("absent"), "`outcome` is not an outcome"),
    (|record| record["later"] = json!("a key of a later version"), ""),
];

/// Returns the messages of `verify` about this file, without the file name.
fn reported_errors(text: &str) -> Vec<String> {
    let folder = App::folder();
    let file = folder.join("audit.jsonl");
    fs::write(&file, text).unwrap();
    let (code, out, err) = verify([&file]);
    assert_eq!(code, i32::from(!err.is_empty()), "{err}");
    assert_eq!(out.is_empty(), !err.is_empty(), "{out}");
    let prefix = format!("{}:", file.display());
    fs::remove_dir_all(folder).unwrap();
    let lines = err
        .lines()
        .map(|line| line.strip_prefix(&prefix).unwrap_or(line));
    lines.map(ToOwned::to_owned).collect()
}

#[test]
fn invalid_line_is_reported_without_its_content() {
    for (change, expected_error) in CHANGES {
        let mut log = ForgedLog::default();
        log.outcome("a", "bob", "denied");
        let mut record = serde_json::from_str(log.text.trim_end()).unwrap();
        change(&mut record);
        let expected = format!("1: no record: {expected_error}");
        let expected = if expected_error.is_empty() {
            vec![]
        } else {
            vec![expected]
        };
        assert_eq!(reported_errors(&format!("{record}\n")), expected);
    }
    for line in ["", "[1]", "{", "\0", "{\"v\":1}}"] {
        assert_eq!(
            reported_errors(&format!("{line}\n")),
            ["1: no record: not a JSON object"],
            "{line}"
        );
    }
    let long = format!("{{\"v\":1,\"{}\":0}}\n", "x".repeat(2_000_000));
    assert_eq!(
        reported_errors(&long),
        ["1: no record: the line is too long"]
    );
    // A file in which every line is faulty.
    let many = reported_errors(&"x\n".repeat(1_000));
    assert_eq!(many.len(), 101);
    assert_eq!(
        many[99..],
        ["100: no record: not a JSON object", "and 900 more"]
    );
}

#[test]
fn records_of_a_call_must_match() {
    let second_intent = "a second intent of this call, or one after its outcome";
    let new = ForgedLog::default;
    let cases = [
        (
            new().intent("a", "bob").intent("a", "bob"),
            2,
            second_intent,
        ),
        (
            new()
                .intent("a", "bob")
                .outcome("a", "bob", "deleted")
                .intent("a", "bob"),
            3,
            second_intent,
        ),
        (
            new()
                .intent("a", "bob")
                .outcome("a", "bob", "unknown")
                .outcome("a", "bob", "unknown_after_crash"),
            3,
            "a second outcome of this call",
        ),
        (
            new()
                .outcome("a", "bob", "denied")
                .outcome("a", "bob", "denied"),
            2,
            "a second outcome of this call",
        ),
        (
            new().outcome("a", "bob", "deleted"),
            1,
            "an outcome without an intent before it",
        ),
    ]
    .map(|(log, line, expected_error)| (log.text.clone(), format!("{line}: {expected_error}")));
    for (text, expected_error) in cases {
        assert_eq!(reported_errors(&text), [expected_error], "{text}");
    }
}

#[test]
fn only_unknown_outcomes_may_be_reconciled() {
    let fault = "reconciled, but its outcome is not unknown, or settled before";
    let user = json!({"hmc": "hmc", "user_id": "id-1"});
    // The outcome of the call, the findings, and the number of the first line with a fault, or 0.
    for (outcome, findings, line) in [
        ("unknown", &["absent"][..], 0),
        ("unknown", &["present"], 0),
        (
            "unknown_after_crash",
            &["unreadable", "unreadable", "absent"],
            0,
        ),
        ("unknown", &["unreadable"], 0),
        ("unknown", &["absent", "absent"], 4),
        ("unknown", &["absent", "present"], 4),
        ("unknown", &["present", "unreadable"], 4),
        ("deleted", &["absent"], 3),
        ("not_sent", &["unreadable"], 3),
        ("", &["absent"], 2),
    ] {
        let mut log = ForgedLog::default();
        log.hmc("intent", "a", &user, "");
        if !outcome.is_empty() {
            log.hmc("outcome", "a", &user, outcome);
        }
        for finding in findings {
            log.hmc("reconciled", "a", &user, finding);
        }
        let expected: Vec<_> = (line > 0)
            .then(|| format!("{line}: {fault}"))
            .into_iter()
            .collect();
        assert_eq!(
            reported_errors(&log.text),
            expected,
            "{outcome} {findings:?}"
        );
        // A call that is not part of the files.
        log.hmc("reconciled", "b", &user, "unreadable");
        assert!(
            reported_errors(&log.text).contains(&format!("{}: {fault}", log.text.lines().count()))
        );
    }
}

/// With `--partial`, the unknown outcome may be in an older file, but a finding is still recorded once.
#[test]
fn partial_files_may_lack_reconciled_outcomes() {
    let folder = App::folder();
    let file = folder.join("audit.jsonl");
    let user = json!({"hmc": "hmc", "user_id": "id-1"});
    for (findings, code) in [
        (&["absent"][..], 0),
        (&["unreadable", "unreadable", "present"], 0),
        (&["absent", "absent"], 1),
        (&["absent", "unreadable"], 1),
    ] {
        let mut log = ForgedLog::default();
        for finding in findings {
            log.hmc("reconciled", "a", &user, finding);
        }
        fs::write(&file, &log.text).unwrap();
        assert_eq!(
            verify([Path::new("--partial"), &file]).0,
            code,
            "{findings:?}"
        );
        assert_eq!(verify([&file]).0, 1, "{findings:?}");
    }
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn only_open_intents_may_be_carried_over() {
    // Whether the intent is open in the previous file, the value of the key, and the expected message.
    for (open, carried, expected_error) in [
        (true, json!(true), None),
        (
            true,
            json!(false),
            Some("2: no record: `carried` is not true"),
        ),
        (
            false,
            json!(true),
            Some("1: carried over, but it is not open in the file before"),
        ),
    ] {
        let mut log = ForgedLog::default();
        log.intent("a", "bob");
        let mut record: Value = serde_json::from_str(log.text.trim_end()).unwrap();
        record.as_object_mut().unwrap().remove("v");
        record["carried"] = carried;
        let mut log = if open { log } else { ForgedLog::default() };
        log.with(record);
        assert_eq!(
            reported_errors(&log.text),
            expected_error.into_iter().collect::<Vec<_>>()
        );
    }
}
