//! `useradmin audit reconcile`.

use std::{
    fs,
    process::{Command, Stdio},
};

use serde_json::{Value, json};
use useradmin_testkit::{
    ForgedLog, Process, Reply, Step, default_reply, delete_by_id, program, records, values_of,
    verify, wait_until,
};

use super::{Setup, by_id, by_name, last_record, log_of_alice};

/// A log with one case of each kind.
fn mixed_log() -> ForgedLog {
    let mut log = ForgedLog::default();
    log.hmc_call("a", &by_id("id-1"), "unknown")
        .hmc_call("b", &by_name("SMITH"), "unknown_after_crash")
        .hmc_call("c", &by_name("deleted"), "deleted")
        .hmc("intent", "d", &by_name("JONES"), "");
    let mut node_user =
        json!({"account": "batch", "pool_id": "pool-1", "node_id": "node-1", "user_name": "bob"});
    batch_call(&mut log, "e", &node_user, "unknown");
    node_user["user_name"] = "eve".into();
    batch_call(&mut log, "f", &node_user, "unknown");
    log
}

/// Appends the records of a deletion on a node. The caller has chosen the `client_request_id`.
fn batch_call(log: &mut ForgedLog, id: &str, identifiers: &Value, outcome: &str) {
    let mut identifiers = identifiers.clone();
    identifiers["client_request_id"] = id.into();
    let mut record = json!({
        "ts": "2026-01-02T03:04:05.006Z", "event": "intent", "request_id": id, "caller": "anonymous",
        "peer": "127.0.0.1:4", "rpc": "DeleteBatchNodeUser", "target": "batch",
        "user": identifiers["user_name"], "identifiers": identifiers, "outcome": "", "reason": "", "attempts": 0,
        "caller_gone": false,
    });
    log.with(record.clone());
    record["event"] = "outcome".into();
    record["outcome"] = outcome.into();
    record["attempts"] = 1.into();
    log.with(record);
}

const FOUND: &str = "a hmc id-1 present\nb hmc SMITH absent\nd hmc JONES absent\n";
const LISTED: &str = "\
    e batch bob not_readable pool_id=pool-1 node_id=node-1\n\
    f batch eve not_readable pool_id=pool-1 node_id=node-1\n\
    not_readable: repeat the deletion with allow_missing: DELETED and ALREADY_ABSENT both mean that the user no longer exists\n";

#[tokio::test(flavor = "multi_thread")]
async fn findings_are_printed_and_recorded_once() {
    let setup = Setup::with_alice(&mixed_log()).await;
    let before = fs::read(&setup.file).unwrap();
    let counts = "1 present, 0 unreadable, 2 not_readable";
    let summary = format!("FILE: 5 unknown outcomes: 2 absent, {counts}");
    for _ in 0..2 {
        let (code, out, err) = setup.reconcile(&["--dry-run"]);
        let expected = format!("{FOUND}{LISTED}{summary}; nothing was written\n");
        assert_eq!((code, out, err.as_str()), (1, expected, ""));
        assert_eq!(fs::read(&setup.file).unwrap(), before);
    }
    let (code, out, err) = setup.reconcile(&[]);
    assert_eq!(
        (code, out, err.as_str()),
        (1, format!("{FOUND}{LISTED}{summary}\n"), "")
    );
    let expected = [
        ["a", "present", ""],
        ["b", "absent", ""],
        ["d", "absent", ""],
    ];
    assert_eq!(setup.found(), expected);
    // The intent without an outcome was recorded as unknown first.
    let outcomes = values_of(&records(&setup.file)[11..], "outcome");
    assert_eq!(
        outcomes,
        ["unknown_after_crash", "present", "absent", "absent"]
    );

    let after = fs::read(&setup.file).unwrap();
    assert!(after.starts_with(&before));
    let (code, out, _) = setup.reconcile(&[]);
    let summary = "FILE: 2 unknown outcomes: 0 absent, 0 present, 0 unreadable, 2 not_readable\n";
    assert_eq!((code, out), (1, format!("{LISTED}{summary}")));
    assert_eq!(fs::read(&setup.file).unwrap(), after);
    setup.finish();
}

/// Outcomes and reasons of a later deletion of the same user, and whether they show that the user no longer exists.
const LATER: [(&str, &str, bool); 8] = [
    ("deleted", "", true),
    ("already_absent", "", true),
    ("absent_after_retry", "", true),
    ("not_deleted", "ERROR_REASON_USER_NOT_FOUND", true),
    ("not_deleted", "ERROR_REASON_NODE_NOT_FOUND", true),
    ("not_deleted", "ERROR_REASON_POOL_NOT_FOUND", true),
    ("not_deleted", "ERROR_REASON_NODE_NOT_READY", false),
    ("unknown", "", false),
];

#[tokio::test(flavor = "multi_thread")]
async fn later_deletion_settles_user_of_a_node() {
    let user =
        json!({"account": "batch", "pool_id": "pool-1", "node_id": "node-1", "user_name": "bob"});
    for (outcome, reason, absent) in LATER {
        let mut log = ForgedLog::default();
        batch_call(&mut log, "a", &user, "unknown");
        let mut other = user.clone();
        other["node_id"] = "node-2".into();
        batch_call(&mut log, "other", &other, "deleted");
        batch_call(&mut log, "b", &user, outcome);
        let last = log.text.lines().last().unwrap();
        let mut last: Value = serde_json::from_str(last).unwrap();
        last["reason"] = reason.into();
        let lines: Vec<_> = log.text.lines().collect();
        let text = format!("{}\n{last}\n", lines[..5].join("\n"));
        let setup = Setup::with_alice(&log).await;
        fs::write(&setup.file, text).unwrap();
        let (code, out, _) = setup.reconcile(&["--dry-run"]);
        assert_eq!(code, i32::from(!absent), "{outcome} {reason}: {out}");
        assert_eq!(out.contains("a batch bob not_readable"), !absent, "{out}");
        fs::remove_dir_all(&setup.folder).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_to_do_succeeds_without_request() {
    for log in [log_of_alice("deleted"), ForgedLog::default()] {
        let setup = Setup::with_alice(&log).await;
        let before = fs::read(&setup.file).unwrap();
        for arguments in [&["--dry-run"][..], &[]] {
            let (code, out, err) = setup.reconcile(arguments);
            assert_eq!((code, err.as_str()), (0, ""));
            let summary =
                "FILE: 0 unknown outcomes: 0 absent, 0 present, 0 unreadable, 0 not_readable";
            assert!(
                out.starts_with(summary) && out.lines().count() == 1,
                "{out}"
            );
        }
        assert_eq!(fs::read(&setup.file).unwrap(), before);
        assert!(setup.upstream.received().is_empty());
        setup.finish();
    }
}

/// While a server runs, its intents without an outcome are calls in progress.
#[tokio::test(flavor = "multi_thread")]
async fn file_of_running_server_is_only_read() {
    let setup = Setup::start(&ForgedLog::default(), |request| match Step::of(request) {
        Step::Delete => Reply::Hang,
        _ => default_reply(request, 1),
    })
    .await;
    let process = setup.with_hanging_delete(delete_by_id("id-1")).await;
    let before = fs::read(&setup.file).unwrap();
    let (code, out, err) = setup.reconcile(&[]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(
        err.contains("audit.jsonl: a server writes to this file; use --dry-run, or stop"),
        "{err}"
    );
    let (code, out, err) = setup.reconcile(&["--dry-run"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.starts_with("FILE: 0 unknown outcomes: "), "{out}");
    assert_eq!(fs::read(&setup.file).unwrap(), before);
    process.kill();
    // The lock ended with the server.
    let (code, out, _) = setup.reconcile(&["--dry-run"]);
    assert_eq!((code, out.lines().count()), (0, 2), "{out}");
    assert_eq!(setup.reconcile(&[]).0, 0);
    assert_eq!(last_record(&setup.file)["outcome"], "present");
    assert_eq!(verify([&setup.file]).0, 0);
    fs::remove_dir_all(&setup.folder).unwrap();
}

/// A server that starts while the command runs waits for the file.
#[tokio::test(flavor = "multi_thread")]
async fn signal_ends_command_with_complete_chain() {
    for signal in ["INT", "TERM"] {
        let mut log = log_of_alice("unknown");
        log.hmc_call("b", &by_name("held"), "unknown");
        log.hmc_call("c", &by_id("id-1"), "unknown");
        let mut lists = 0;
        let setup = Setup::start(&log, move |request| {
            lists += usize::from(Step::of(request) == Step::List);
            match Step::of(request) {
                Step::List if lists == 1 => Reply::Hang,
                _ => default_reply(request, 1),
            }
        })
        .await;
        let mut command = Command::new(program());
        command.args(["audit", "reconcile", "--config"]);
        command.arg(setup.folder.join("useradmin.toml"));
        let child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        setup
            .upstream
            .wait_for_requests("GET", "/api/console", 1)
            .await;
        assert_eq!(setup.reconcile(&[]).0, 1, "two commands");
        let server = Process::start(&setup.folder);
        let id = child.id().to_string();
        // The first signal is ignored.
        for signal in ["HUP", signal] {
            let sent = Command::new("kill").args(["-s", signal, &id]).status();
            assert!(sent.unwrap().success());
        }
        let output = child.wait_with_output().unwrap();
        let out = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(1), "{out}");
        assert!(out.starts_with("a hmc id-1 present\n"), "{out}");
        assert!(
            out.ends_with("0 not_readable; 2 not read because of a signal\n"),
            "{out}"
        );
        assert_eq!(setup.upstream.requests("DELETE", "/api/sessions").len(), 1);
        // The server continues.
        wait_until("findings", async || setup.found().len() == 3).await;
        server.stop();
        let expected = [
            ["a", "present", ""],
            ["b", "absent", ""],
            ["c", "present", ""],
        ];
        assert_eq!(setup.found(), expected);
        setup.finish();
    }
}

/// After a rotation while no server runs, there is no new file yet.
#[tokio::test(flavor = "multi_thread")]
async fn renamed_file_is_reconciled_without_new_file() {
    let setup = Setup::with_alice(&log_of_alice("unknown")).await;
    let renamed = setup.folder.join("audit.jsonl.1");
    fs::rename(&setup.file, &renamed).unwrap();
    let finding = "a hmc id-1 present\nFILE: 1 unknown outcomes";
    let (code, out, err) = setup.reconcile(&["--dry-run"]);
    assert!(code == 0 && out.starts_with(finding), "{out}{err}");
    assert!(!setup.file.exists());
    let (code, out, err) = setup.reconcile(&[]);
    assert!(code == 0 && out.starts_with(finding), "{out}{err}");
    assert_eq!(setup.found(), [["a", "present", ""]]);
    assert_eq!(verify([&renamed, &setup.file]).0, 0);
    fs::remove_dir_all(&setup.folder).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn misleading_names_are_escaped() {
    let mut log = ForgedLog::default();
    log.hmc_call("a", &by_name("x absent\u{1b}[31m\u{202e}"), "unknown");
    let setup = Setup::with_alice(&log).await;
    let (code, out, _) = setup.reconcile(&["--dry-run"]);
    assert_eq!(code, 0);
    let line = "a hmc x\\u{20}absent\\u{1b}[31m\\u{202e} absent\n";
    assert!(out.starts_with(line), "{out}");
    setup.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn unusable_configuration_or_file_is_reported() {
    let setup = Setup::with_alice(&ForgedLog::default()).await;
    let config = setup.folder.join("useradmin.toml");
    let text = fs::read_to_string(&config).unwrap();
    let reconcile = |sections: &str| {
        fs::write(&config, format!("{text}{sections}")).unwrap();
        setup.reconcile(&[])
    };
    for (sections, expected) in [
        (
            "[audit]\nfile = \"stdout\"\n",
            "`file` in [audit] is not a file",
        ),
        (
            "[audit]\nfile = \"missing\"\n",
            "missing: No such file or directory",
        ),
        (
            "[audit]\nfile = \"/dev/null\"\n",
            "/dev/null: not a regular file",
        ),
        ("[audit]\nfile = \".\"\n", "not a regular file"),
        ("[audit]\nfiles = \"x\"\n", "unknown key"),
    ] {
        let (code, out, err) = reconcile(sections);
        assert_eq!((code, out.as_str()), (2, ""), "{sections}");
        assert!(err.contains(expected), "{err}");
    }
    assert!(!setup.folder.join("missing").exists());
    setup.finish();
}

/// Nothing is read if the findings cannot be recorded.
#[tokio::test(flavor = "multi_thread")]
async fn full_disk_ends_command_before_any_request() {
    let setup = Setup::with_alice(&log_of_alice("unknown")).await;
    let before = fs::read(&setup.file).unwrap();
    // The limit of the file size acts like a full disk.
    let mut shell = Command::new("sh");
    shell
        .args(["-c", "ulimit -f 2; exec \"$@\"", "sh"])
        .arg(program());
    shell.args(["audit", "reconcile", "--config"]);
    let output = shell
        .arg(setup.folder.join("useradmin.toml"))
        .output()
        .unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{err}");
    assert!(
        err.ends_with("audit.jsonl: the audit log cannot be written\n"),
        "{err}"
    );
    assert_eq!(fs::read(&setup.file).unwrap(), before);
    assert!(setup.upstream.received().is_empty());
    setup.finish();
}
