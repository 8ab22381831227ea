//! `useradmin audit report`.

mod odd_input;

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use useradmin::proto::DeleteBatchNodeUserRequest;
use useradmin_testkit::{
    App, COMMON, ForgedLog, Process, Reply, Step, Upstream, batch_deleted, batch_request,
    batch_response, batch_section, default_reply, delete_by_id, delete_by_name, hmc_section, lines,
    run, token_reply_or, wait_until,
};

/// A folder with audit logs.
struct Logs(PathBuf);

impl Logs {
    /// Writes logs with these texts to the files `audit.jsonl.0`, `audit.jsonl.1`, and so on.
    fn of(texts: &[&[u8]]) -> Self {
        let folder = App::folder();
        for (number, text) in texts.iter().enumerate() {
            fs::write(folder.join(format!("audit.jsonl.{number}")), text).unwrap();
        }
        Self(folder)
    }

    fn file(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    /// Runs the command with these arguments. `@` stands for the folder. Returns the exit code, standard output and
    /// standard error.
    fn report(&self, arguments: &[&str]) -> (i32, String, String) {
        let folder = format!("{}/", self.0.display());
        let arguments = arguments.iter().map(|text| text.replace('@', &folder));
        let arguments: Vec<_> = arguments.collect();
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        let (code, out, err) = run(&[&["audit", "report"], &arguments[..]].concat());
        (code, out, err.replace(&folder, "@"))
    }
}

impl Drop for Logs {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Returns a record of version 1, at this time.
fn record(ts: &str, event: &str, id: &str, user: &str, outcome: &str) -> Value {
    json!({
        "ts": ts, "event": event, "request_id": id, "caller": "spiffe://corp/offboarding", "auth": "certificate",
        "peer": "127.0.0.1:4", "rpc": "DeleteHmcUser", "target": "hmc", "user": user,
        "identifiers": {"hmc": "hmc", "user_name": user}, "outcome": outcome, "reason": "", "attempts": 1,
        "caller_gone": false,
    })
}

const OUTCOMES: [&str; 5] = [
    "deleted",
    "validated",
    "deleted",
    "unknown_after_crash",
    "reconciled",
];

/// Filters, and the positions in [`OUTCOMES`] of the calls that they select.
const FILTERS: [(&[&str], &[usize]); 13] = [
    (&[], &[0, 1, 2, 3, 4]),
    (&["--user", "alice"], &[0, 3, 4]),
    // The records of the interrupted deletion by name have no ID.
    (&["--user", "id-1"], &[0]),
    (&["--user", "bob"], &[1, 2]),
    // Other identifiers are not those of a user.
    (&["--user", "pool-1"], &[]),
    (&["--user", "ALICE"], &[]),
    (&["--caller", "anonymous"], &[0, 1, 2, 3, 4]),
    (&["--caller", ""], &[]),
    (&["--caller", "anonymous", "--user", "bob"], &[1, 2]),
    (&["--caller", "other", "--user", "bob"], &[]),
    (&["--since", "1h"], &[0, 1, 2, 3, 4]),
    (&["--until", "1h"], &[]),
    (
        &["--since", "2001-01-01", "--until", "0s"],
        &[0, 1, 2, 3, 4],
    ),
];

/// Lets two servers write a log: a deletion of `alice` by ID, a validation and a deletion of `bob`, and a deletion of
/// `alice` by name that a crash interrupts. Returns the folder and the request IDs.
async fn write_real_log() -> (Logs, Vec<String>) {
    let mut deletions = 0;
    let upstream = Upstream::start(move |request| {
        if request.target.starts_with("/api/") {
            deletions += usize::from(Step::of(request) == Step::Delete);
            return match Step::of(request) {
                Step::Delete if deletions == 2 => Reply::Hang,
                _ => default_reply(request, 1),
            };
        }
        token_reply_or(request, || match request.method.as_str() {
            "DELETE" => batch_deleted(),
            _ => batch_response(200, r#"{"state":"idle"}"#),
        })
    })
    .await;
    let folder = App::folder();
    let (hmc, batch) = (
        hmc_section(&folder, &upstream.url),
        batch_section(&folder, &upstream.url),
    );
    fs::write(
        folder.join("useradmin.toml"),
        format!("{COMMON}{hmc}{batch}"),
    )
    .unwrap();
    let process = Process::start(&folder);
    let mut client = process.client();
    client.delete_hmc_user(delete_by_id("id-1")).await.unwrap();
    for validate_only in [true, false] {
        let request = DeleteBatchNodeUserRequest {
            validate_only,
            ..batch_request("bob")
        };
        client.delete_batch_node_user(request).await.unwrap();
    }
    let hanging =
        tokio::spawn(async move { client.delete_hmc_user(delete_by_name("alice")).await });
    upstream.wait_for_requests("DELETE", "/api/users", 2).await;
    process.kill();
    assert!(hanging.await.unwrap().is_err());
    let file = folder.join("audit.jsonl");
    let process = Process::start(&folder);
    wait_until("a finding", async || {
        fs::read_to_string(&file)
            .unwrap()
            .contains("\"reconciled\"")
    })
    .await;
    process.stop();
    let ids = ids_of_outcomes(&file);
    assert_eq!(ids.len(), OUTCOMES.len());
    (Logs(folder), ids)
}

/// Returns the request IDs of outcomes and findings.
fn ids_of_outcomes(file: &Path) -> Vec<String> {
    let records = lines(file).into_iter().map(|line| {
        let record: Value = serde_json::from_str(&line).unwrap();
        record
    });
    let records = records.filter(|record| record["event"] != "intent");
    records
        .map(|record| record["request_id"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_of_real_log_are_selected() {
    let (logs, ids) = write_real_log().await;
    for (filters, expected) in FILTERS {
        let arguments = [filters, &["@audit.jsonl"]].concat();
        let (code, out, err) = logs.report(&arguments);
        assert_eq!(code, 0, "{filters:?}: {err}");
        let found: Vec<Vec<_>> = out.lines().map(|line| line.split(' ').collect()).collect();
        let found_calls: Vec<_> = found
            .iter()
            .map(|columns| (columns[1], columns[6]))
            .collect();
        let expected_calls: Vec<_> = expected
            .iter()
            .map(|at| (ids[*at].as_str(), OUTCOMES[*at]))
            .collect();
        assert_eq!(found_calls, expected_calls, "{filters:?}");
        assert!(found.iter().all(|columns| columns.len() == 9), "{out}");
    }
    let (_, out, err) = logs.report(&["@audit.jsonl"]);
    let columns: Vec<Vec<_>> = out.lines().map(|line| line.split(' ').collect()).collect();
    assert_eq!(
        columns[0][2..],
        [
            "anonymous",
            "DeleteHmcUser",
            "hmc",
            "alice",
            "deleted",
            "-",
            "-"
        ]
    );
    assert_eq!(
        columns[2][2..],
        [
            "anonymous",
            "DeleteBatchNodeUser",
            "batch",
            "bob",
            "deleted",
            "-",
            "-"
        ]
    );
    assert_eq!(columns[4][5..], ["alice", "reconciled", "-", "present"]);
    assert_eq!(
        err,
        "8 records: 4 calls match, 0 of them open, 1 findings\n"
    );
}

/// `--json` prints the records of the selected calls byte by byte.
#[tokio::test(flavor = "multi_thread")]
async fn json_is_the_records_of_selected_calls() {
    let (logs, ids) = write_real_log().await;
    let records = lines(&logs.0.join("audit.jsonl"));
    let (code, out, _) = logs.report(&["--json", "@audit.jsonl"]);
    assert_eq!(
        (code, out.lines().collect::<Vec<_>>()),
        (0, records.iter().map(String::as_str).collect())
    );
    let (code, out, err) = logs.report(&["--json", "--user", "alice", "@audit.jsonl"]);
    let of_alice = records
        .iter()
        .filter(|line| line.contains(&ids[0]) || line.contains(&ids[3]));
    assert_eq!(
        (code, out.lines().collect::<Vec<_>>()),
        (0, of_alice.map(String::as_str).collect())
    );
    assert_eq!(
        err,
        "8 records: 2 calls match, 0 of them open, 1 findings\n"
    );
}

/// Calls from before, within and after a day, and one whose outcome was found later.
fn log_of_several_days() -> ForgedLog {
    let mut log = ForgedLog::default();
    for (ts, event, id, outcome) in [
        ("2026-11-29T23:59:59.999Z", "outcome", "before", "denied"),
        ("2026-11-29T23:59:59.999Z", "intent", "into", ""),
        ("2026-11-30T00:00:00.000Z", "outcome", "into", "deleted"),
        ("2026-11-30T12:00:00.000Z", "intent", "lost", ""),
        ("2026-11-30T12:00:01.000Z", "outcome", "lost", "unknown"),
        ("2026-11-30T23:59:59.999Z", "intent", "out", ""),
        ("2026-12-01T00:00:00.000Z", "outcome", "out", "deleted"),
        ("2026-12-01T00:00:00.000Z", "outcome", "after", "denied"),
        ("2026-12-01T00:00:00.001Z", "intent", "open", ""),
        (
            "2026-12-02T00:00:00.000Z",
            "reconciled",
            "lost",
            "unreadable",
        ),
        ("2026-12-03T00:00:00.000Z", "reconciled", "lost", "absent"),
        ("not a time", "outcome", "never", "denied"),
    ] {
        log.with(record(ts, event, id, "SMITH", outcome));
    }
    log
}

#[test]
fn period_selects_calls_with_a_record_in_it() {
    let logs = Logs::of(&[log_of_several_days().text.as_bytes()]);
    let all = "before into lost out after lost lost never open";
    for (filters, expected) in [
        (&[][..], all),
        (
            &["--since", "2026-11-29", "--until", "2026-12-04T00:00:00Z"],
            all,
        ),
        // A time that cannot be read is in every period. The finding about a selected call is selected, too.
        (
            &["--since", "2026-11-30", "--until", "2026-12-01"],
            "into lost out lost lost never",
        ),
        (
            &[
                "--since",
                "2026-11-30T01:00:00+01:00",
                "--until",
                "2026-11-30T12:00:00Z",
            ],
            "into never",
        ),
        (&["--since", "2026-12-01"], "out after lost lost never open"),
        (&["--since", "2026-12-03"], "lost never"),
        (&["--until", "2026-11-30T00:00:00z"], "before into never"),
        (&["--until", "2026-12-01", "--caller", "spiffe://corp"], ""),
    ] {
        let (code, out, err) = logs.report(&[filters, &["@audit.jsonl.0"]].concat());
        let ids = out.lines().map(|line| line.split(' ').nth(1).unwrap());
        assert_eq!(
            (code, ids.collect::<Vec<_>>().join(" ").as_str()),
            (0, expected),
            "{filters:?}: {err}"
        );
    }
    let (_, out, err) = logs.report(&["--since", "2026-11-30", "@audit.jsonl.0"]);
    let common = "spiffe://corp/offboarding DeleteHmcUser hmc SMITH";
    let expected = [
        format!("2026-11-29T23:59:59.999Z into {common} deleted - -"),
        format!("2026-11-30T12:00:00.000Z lost {common} unknown - -"),
        format!("2026-11-30T23:59:59.999Z out {common} deleted - -"),
        format!("2026-12-01T00:00:00.000Z after {common} denied - -"),
        format!("2026-12-02T00:00:00.000Z lost {common} reconciled - unreadable"),
        format!("2026-12-03T00:00:00.000Z lost {common} reconciled - absent"),
        format!("not\\u{{20}}a\\u{{20}}time never {common} denied - -"),
        format!("2026-12-01T00:00:00.001Z open {common} open - -"),
    ];
    assert_eq!(out.lines().collect::<Vec<_>>(), expected);
    assert_eq!(
        err,
        "12 records: 6 calls match, 1 of them open, 2 findings\n"
    );
}

#[test]
fn invalid_arguments_are_usage_errors() {
    let logs = Logs::of(&[b""]);
    for (arguments, message) in [
        (
            &["--since", "yesterday"][..],
            "want a time stamp such as 2026-11-30T12:00:00Z",
        ),
        (&["--since", "2026-11-31"], "want a time stamp"),
        (&["--since", "2026-11-30T12:00:00"], "want a time stamp"),
        (&["--until", "24"], "want a time stamp"),
        (&["--until", "h"], "want a time stamp"),
        (&["--until", "1w"], "want a time stamp"),
        (&["--until", "+1h"], "want a time stamp"),
        (&["--until", "1h30m"], "want a time stamp"),
        (&["--until", "٣d"], "want a time stamp"),
        (&["--until", "9999999d"], "want a time stamp"),
        (&["--until", "9223372036854775807d"], "want a time stamp"),
        (&["--until", "99999999999999999999s"], "want a time stamp"),
        (&["--until", ""], "want a time stamp"),
        (
            &["--since", "1h", "--until", "1d"],
            "`--since` is not before `--until`",
        ),
        (
            &["--since", "2026-11-30", "--until", "2026-11-30"],
            "`--since` is not before `--until`",
        ),
        (&["--frobnicate"], "Usage:"),
    ] {
        let (code, out, err) = logs.report(&[arguments, &["@audit.jsonl.0"]].concat());
        assert_eq!((code, out.as_str()), (2, ""), "{arguments:?}");
        assert!(err.contains(message), "{arguments:?}: {err}");
    }
    let (code, _, err) = logs.report(&[]);
    assert!(code == 2 && err.contains("Usage:"), "{err}");
}
