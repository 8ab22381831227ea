//! Logs that are incomplete, damaged, rotated or old, and outputs that fail.

use std::{
    fs::OpenOptions,
    process::{Command, Stdio},
};

use serde_json::json;
use useradmin_testkit::{ForgedLog, program};

use super::{Logs, record};

const TS: &str = "2026-11-30T12:00:00.000Z";
const COMMON: &str = "spiffe://corp/offboarding DeleteHmcUser hmc";
/// Columns of the records of [`ForgedLog::intent`], which lack `auth` like those of version 0.1.0.
const OLD: &str = "anonymous DeleteBatchNodeUser batch";

/// A log of one call.
fn log_of_bob() -> ForgedLog {
    let mut log = ForgedLog::default();
    log.intent("a", "bob").outcome("a", "bob", "deleted");
    log
}

fn line_of_bob() -> String {
    format!("2026-01-02T03:04:05.006Z a {OLD} bob deleted - -\n")
}

#[test]
fn lines_that_are_not_records_are_reported() {
    let no_object = "no record: not a JSON object\n";
    let first = log_of_bob().text.find('\n').unwrap() + 1;
    let long = format!("{}\n", "x".repeat((1 << 20) + 1));
    let not_utf8 = b"{\"v\":1,\"user\":\"\xff\"}\n";
    let other_outcome = log_of_bob().text[first..].replace("deleted", "gone");
    let note =
        "note: the last line has no end: a server may be writing it, or a crash cut it off\n";
    for (tail, code, message) in [
        (&b"x\n"[..], 1, no_object.to_owned()),
        (b"\n", 1, no_object.to_owned()),
        (b"[]\n", 1, no_object.to_owned()),
        (b"\0\0\0", 1, no_object.to_owned()),
        (b"\0\0\0\n", 1, no_object.to_owned()),
        (b"\x1b[31m\xe2\x80\xae", 1, no_object.to_owned()),
        (not_utf8, 1, no_object.to_owned()),
        (
            long.as_bytes(),
            1,
            "no record: the line is too long\n".to_owned(),
        ),
        (
            b"{\"v\":3}\n",
            1,
            "no record: `v` is not 1 or 2\n".to_owned(),
        ),
        (
            other_outcome.as_bytes(),
            1,
            "no record: `outcome` is not an outcome\n".to_owned(),
        ),
        (b"{\"v\":1,\"ts\":", 0, note.to_owned()),
        (
            &log_of_bob().text.as_bytes()[..first / 2],
            0,
            note.to_owned(),
        ),
    ] {
        let logs = Logs::of(&[&[log_of_bob().text.as_bytes(), tail].concat()]);
        let (found, out, err) = logs.report(&["@audit.jsonl.0"]);
        let shown = String::from_utf8_lossy(&tail[..tail.len().min(20)]);
        assert_eq!((found, out), (code, line_of_bob()), "{shown:?}");
        let summary = "2 records: 1 calls match, 0 of them open, 0 findings";
        let summary = match code {
            0 => format!("{summary}\n"),
            _ => format!("{summary}; 1 lines are not records, and their calls may be missing\n"),
        };
        assert_eq!(
            err,
            format!("@audit.jsonl.0:3: {message}{summary}"),
            "{shown:?}"
        );
        // `--json` prints records only.
        let (found, out, _) = logs.report(&["--json", "@audit.jsonl.0"]);
        assert_eq!((found, out), (code, log_of_bob().text), "{shown:?}");
    }
}

#[test]
fn record_without_newline_is_printed() {
    let text = log_of_bob().text;
    let logs = Logs::of(&[text.trim_end().as_bytes()]);
    let (code, out, _) = logs.report(&["@audit.jsonl.0"]);
    assert_eq!((code, out), (0, line_of_bob()));
    let (code, out, _) = logs.report(&["--json", "@audit.jsonl.0"]);
    assert_eq!((code, out), (0, text));
}

#[test]
fn only_the_first_faults_are_printed() {
    let logs = Logs::of(&["x\n".repeat(150).as_bytes()]);
    let (code, out, err) = logs.report(&["@audit.jsonl.0"]);
    assert_eq!((code, out.as_str(), err.lines().count()), (1, "", 102));
    assert!(err.contains("\nand 50 more\n0 records: "), "{err}");
    assert!(
        err.ends_with("; 150 lines are not records, and their calls may be missing\n"),
        "{err}"
    );
}

#[test]
fn empty_file_has_no_calls_and_missing_file_is_an_error() {
    let logs = Logs::of(&[b"", log_of_bob().text.as_bytes()]);
    let none = "0 records: 0 calls match, 0 of them open, 0 findings\n";
    assert_eq!(
        logs.report(&["@audit.jsonl.0"]),
        (0, String::new(), none.to_owned())
    );
    let (code, out, _) = logs.report(&["@audit.jsonl.0", "@audit.jsonl.1"]);
    assert_eq!((code, out), (0, line_of_bob()));
    for (name, error) in [
        (
            "@missing",
            "@missing: No such file or directory (os error 2)\n",
        ),
        ("@", "@: Is a directory (os error 21)\n"),
    ] {
        let (code, _, err) = logs.report(&["@audit.jsonl.1", name]);
        assert_eq!((code, err.as_str()), (2, error));
    }
}

#[test]
fn misleading_texts_are_one_visible_column() {
    let mut log = ForgedLog::default();
    let user = "x y\0\u{1b}[31m\u{202e}\n\t\u{3164}\u{a0}";
    let shown = r"x\u{20}y\0\u{1b}[31m\u{202e}\n\t\u{3164}\u{a0}";
    log.with(record(TS, "outcome", "a", user, "denied"));
    let logs = Logs::of(&[log.text.as_bytes()]);
    let (code, out, _) = logs.report(&["@audit.jsonl.0"]);
    assert_eq!(
        (code, out),
        (0, format!("{TS} a {COMMON} {shown} denied - -\n"))
    );
    let (code, out, _) = logs.report(&["--json", "--user", "-", "@audit.jsonl.0"]);
    assert_eq!((code, out.as_str()), (0, ""));
    let (code, out, _) = logs.report(&["--json", "@audit.jsonl.0"]);
    assert_eq!((code, out), (0, log.text));
}

/// A rotated log begins with copies of the open intents.
#[test]
fn carried_intents_belong_to_their_call() {
    let mut log = ForgedLog::default();
    let carried = |ts: &str, id: &str, user: &str| {
        let mut copy = record(ts, "intent", id, user, "");
        copy["carried"] = true.into();
        copy
    };
    log.with(record(TS, "intent", "a", "bob", ""));
    log.with(record(TS, "intent", "b", "eve", ""));
    let old = log.text.len();
    let later = "2026-11-30T13:00:00.000Z";
    log.with(carried(later, "a", "bob"));
    log.with(carried(later, "b", "eve"));
    log.with(record(later, "outcome", "b", "eve", "deleted"));
    let logs = Logs::of(&[&log.text.as_bytes()[..old], &log.text.as_bytes()[old..]]);
    let files = ["@audit.jsonl.0", "@audit.jsonl.1"];
    let (code, out, err) = logs.report(&files);
    let expected =
        |ts: &str| format!("{ts} b {COMMON} eve deleted - -\n{ts} a {COMMON} bob open - -\n");
    assert_eq!((code, out), (0, expected(TS)));
    assert_eq!(
        err,
        "5 records: 2 calls match, 1 of them open, 0 findings\n"
    );
    // The old file was removed.
    assert_eq!(logs.report(&files[1..]).1, expected(later));
    // `--json` prints all copies.
    let lines: Vec<_> = log.text.lines().collect();
    for (user, records) in [("bob", &[0, 2][..]), ("eve", &[1, 3, 4])] {
        let (_, out, _) = logs.report(&[&["--json", "--user", user], &files[..]].concat());
        let records: Vec<_> = records.iter().map(|at| lines[*at]).collect();
        assert_eq!(out.lines().collect::<Vec<_>>(), records);
    }
}

#[test]
fn incomplete_and_repeated_calls_are_shown() {
    let mut log = ForgedLog::default();
    // The intent is in an older file.
    log.with(record(TS, "outcome", "a", "bob", "not_deleted"));
    // A second outcome, which `verify` reports.
    log.with(record(TS, "outcome", "a", "bob", "deleted"));
    // The unknown outcome is in an older file.
    log.with(record(TS, "reconciled", "b", "eve", "present"));
    let logs = Logs::of(&[log.text.as_bytes()]);
    let (code, out, _) = logs.report(&["@audit.jsonl.0"]);
    let expected = format!(
        "{TS} a {COMMON} bob not_deleted - -\n{TS} a {COMMON} bob deleted - -\n\
         {TS} b {COMMON} eve reconciled - present\n"
    );
    assert_eq!((code, out), (0, expected));
}

#[test]
fn summaries_show_their_count() {
    let mut log = ForgedLog::default();
    let mut summary = record(TS, "outcome", "a", "", "denied");
    for key in ["caller", "rpc", "target"] {
        summary[key] = "".into();
    }
    summary["identifiers"] = json!({});
    summary["reason"] = "ERROR_REASON_CALLER_UNAUTHENTICATED".into();
    summary["count"] = 25.into();
    summary["since"] = "2026-11-30T11:59:00.000Z".into();
    log.with(summary);
    let logs = Logs::of(&[log.text.as_bytes()]);
    let expected =
        format!("{TS} a - - - - denied ERROR_REASON_CALLER_UNAUTHENTICATED - count=25\n");
    let totals = "1 records: 25 calls match, 0 of them open, 0 findings\n";
    for filters in [
        &[][..],
        &["--caller", ""],
        &["--until", "2026-11-30T11:59:30Z"],
    ] {
        let found = logs.report(&[filters, &["@audit.jsonl.0"]].concat());
        assert_eq!(
            found,
            (0, expected.clone(), totals.to_owned()),
            "{filters:?}"
        );
    }
    let (_, out, _) = logs.report(&["--until", "2026-11-30T11:59:00Z", "@audit.jsonl.0"]);
    assert_eq!(out, "");
}

/// Records have the first 256 bytes of long names.
#[test]
fn long_names_are_found() {
    let mut log = ForgedLog::default();
    let name = "é".repeat(200);
    log.with(record(TS, "outcome", "a", &name[..256], "denied"));
    let logs = Logs::of(&[log.text.as_bytes()]);
    for (user, count) in [(&name[..], 1), (&name[..256], 1), (&name[..254], 0)] {
        let (_, out, _) = logs.report(&["--user", user, "@audit.jsonl.0"]);
        assert_eq!(out.lines().count(), count);
    }
}

#[test]
fn output_that_fails_ends_the_command() {
    let mut log = ForgedLog::default();
    for id in 0..2000 {
        log.outcome(&id.to_string(), "bob", "denied");
    }
    let logs = Logs::of(&[log.text.as_bytes()]);
    let command = |stdout: Stdio| {
        let mut command = Command::new(program());
        command.args(["audit", "report", &logs.file("audit.jsonl.0")]);
        command
            .stdout(stdout)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    // The reader has closed the pipe, like `head`.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = command(writer.into()).wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr), (Some(0), Vec::new()));

    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = command(full.into()).wait_with_output().unwrap();
    let message = b"standard output: No space left on device (os error 28)\n";
    assert_eq!(
        (output.status.code(), &output.stderr[..]),
        (Some(1), &message[..])
    );
}
