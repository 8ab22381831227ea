//! Reconciliation by a server.

use std::{
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::Notify;
use useradmin::proto::DeleteOutcome;
use useradmin_testkit::{
    ForgedLog, Process, Reply, Step, Upstream, default_reply, delete_by_id, delete_by_name,
    hmc_section, records, values_of, verify, wait_until,
};

use super::{Setup, by_id, by_name, last_line, last_record, log_of_alice};

/// Outcomes, numbers of attempts, and whether such calls are reconciled.
const OUTCOMES: [(&str, u32, bool); 10] = [
    ("unknown", 1, true),
    ("unknown", 0, false),
    ("unknown_after_crash", 1, true),
    ("deleted", 1, false),
    ("already_absent", 1, false),
    ("absent_after_retry", 1, false),
    ("not_deleted", 1, false),
    ("not_sent", 1, false),
    ("denied", 1, false),
    ("validated", 1, false),
];

#[tokio::test(flavor = "multi_thread")]
async fn only_unknown_outcomes_are_reconciled() {
    let mut log = ForgedLog::default();
    for (outcome, attempts, _) in OUTCOMES {
        let mut record = last_line(&log_of_alice(outcome));
        let id = format!("{outcome}-{attempts}");
        record["request_id"] = id.as_str().into();
        record["attempts"] = attempts.into();
        log.hmc("intent", &id, &by_id("id-1"), "").with(record);
    }
    // Reading a user of a node is not possible.
    log.intent("batch", "bob")
        .outcome("batch", "bob", "unknown");
    // Calls are reconciled in the order of the file, so all others are read before this one.
    log.hmc_call("last", &by_id("id-1"), "unknown");
    let setup = Setup::with_alice(&log).await;
    setup.restart(3).await;
    let expected = [
        ["unknown-1", "present", ""],
        ["unknown_after_crash-1", "present", ""],
        ["last", "present", ""],
    ];
    assert_eq!(setup.found(), expected);
    let reads = setup.upstream.requests("GET", "/api/users").len();
    assert_eq!(reads, 3);
    setup.finish();
}

/// Calls are reconciled in the order of the file, so the finding of the last one shows that the first one was skipped.
#[tokio::test(flavor = "multi_thread")]
async fn settled_calls_are_not_read_again() {
    let mut log = log_of_alice("unknown");
    log.hmc("reconciled", "a", &by_id("id-1"), "unreadable")
        .hmc("reconciled", "a", &by_id("id-1"), "absent")
        .hmc_call("b", &by_id("id-2"), "unknown")
        .hmc("reconciled", "b", &by_id("id-2"), "unreadable");
    let setup = Setup::with_alice(&log).await;
    setup.restart(4).await;
    assert_eq!(setup.found()[3], ["b", "absent", ""]);
    assert!(setup.upstream.requests("GET", "/api/users/id-1").is_empty());
    setup.finish();
}

/// A failure of the target ends the reconciliation of its calls. At the next start, the other calls come first.
#[tokio::test(flavor = "multi_thread")]
async fn user_that_can_never_be_read_does_not_stop_the_others() {
    let mut log = log_of_alice("unknown");
    log.hmc("reconciled", "a", &by_id("id-1"), "unreadable")
        .hmc_call("b", &by_id("id-2"), "unknown");
    let setup = Setup::start(&log, |request| match request.target.as_str() {
        "/api/users/id-1" => Reply::Close,
        _ => default_reply(request, 1),
    })
    .await;
    setup.restart(2).await;
    assert_eq!(setup.found()[1], ["b", "absent", ""]);
    setup.finish();
}

/// The HMC has deleted the user, but the server was killed before it received the response.
#[tokio::test(flavor = "multi_thread")]
async fn killed_server_is_reconciled_by_next_one() {
    let mut deleted = false;
    let setup = Setup::start(&ForgedLog::default(), move |request| {
        match Step::of(request) {
            Step::Delete => {
                deleted = true;
                Reply::Hang
            }
            Step::List if deleted => Reply::json(200, r#"{"users":[]}"#),
            _ => default_reply(request, 1),
        }
    })
    .await;
    let process = setup.with_hanging_delete(delete_by_name("alice")).await;
    process.kill();
    setup.restart(1).await;
    let all = records(&setup.file);
    let events = values_of(&all, "event");
    assert_eq!(events, ["intent", "outcome", "reconciled"]);
    let outcomes = values_of(&all, "outcome");
    assert_eq!(outcomes, ["", "unknown_after_crash", "absent"]);
    assert_eq!(all[2]["request_id"], all[0]["request_id"]);
    assert_eq!(verify([&setup.file]).0, 0);
    fs::remove_dir_all(&setup.folder).unwrap();
}

/// The server is ready, serves calls and stops while the HMC does not respond to the read.
#[tokio::test(flavor = "multi_thread")]
async fn pending_read_delays_neither_readiness_nor_calls_nor_stop() {
    let mut reads = 0;
    let setup = Setup::start(&log_of_alice("unknown"), move |request| {
        reads += usize::from(Step::of(request) == Step::Read);
        match Step::of(request) {
            Step::Read if reads == 1 => Reply::Hang,
            _ => default_reply(request, 1),
        }
    })
    .await;
    let process = Process::start(&setup.folder);
    let upstream = &setup.upstream;
    upstream
        .wait_for_requests("GET", "/api/users/id-1", 1)
        .await;
    let mut client = process.client();
    let response = client.delete_hmc_user(delete_by_name("alice")).await;
    let response = response.unwrap().into_inner();
    assert_eq!(response.outcome(), DeleteOutcome::Deleted);
    let stop = Instant::now();
    process.stop();
    // The time limit of the read is longer.
    assert!(stop.elapsed() < Duration::from_secs(8));
    assert!(setup.found().is_empty());
    // The next server reads the user again.
    setup.restart(1).await;
    assert_eq!(setup.found(), [["a", "present", ""]]);
    assert_eq!(verify([&setup.file]).0, 0);
    fs::remove_dir_all(&setup.folder).unwrap();
}

/// Users of the same HMC are read one after the other.
#[tokio::test(flavor = "multi_thread")]
async fn one_user_of_a_target_is_read_at_a_time() {
    let mut log = ForgedLog::default();
    for number in 0..5 {
        log.hmc_call(
            &format!("call-{number}"),
            &by_name(&format!("user-{number}")),
            "unknown",
        );
    }
    let gate = Arc::new(Notify::new());
    let held = Arc::clone(&gate);
    let setup = Setup::start(&log, move |request| match Step::of(request) {
        Step::List => Reply::Gated(Arc::clone(&held), Box::new(default_reply(request, 1))),
        _ => default_reply(request, 1),
    })
    .await;
    let process = Process::start(&setup.folder);
    for number in 1..=5 {
        let target = "/api/console/users";
        setup
            .upstream
            .wait_for_requests("GET", target, number)
            .await;
        assert_eq!(setup.upstream.requests("GET", target).len(), number);
        gate.notify_one();
        wait_until("a finding", async || setup.found().len() == number).await;
    }
    process.stop();
    let ids = values_of(&setup.findings(), "request_id");
    assert_eq!(ids, ["call-0", "call-1", "call-2", "call-3", "call-4"]);
    setup.finish();
}

/// An HMC that does not respond delays the users of this HMC only.
#[tokio::test(flavor = "multi_thread")]
async fn targets_are_read_independently() {
    let hanging = Upstream::start(|_| Reply::Hang).await;
    let mut log = log_of_alice("unknown");
    for event in ["intent", "outcome"] {
        let mut record = last_line(&log);
        record["event"] = event.into();
        record["outcome"] = if event == "intent" { "" } else { "unknown" }.into();
        record["request_id"] = "b".into();
        // The first target in alphabetical order.
        record["target"] = "a-hanging".into();
        log.with(record);
    }
    log.hmc_call("c", &by_name("bob"), "unknown");
    let setup = Setup::with_alice(&log).await;
    let file = setup.folder.join("useradmin.toml");
    let section = hmc_section(&setup.folder, &hanging.url);
    let section = section.replace("[hmcs.hmc]", "[hmcs.a-hanging]");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("{text}{section}")).unwrap();
    setup.restart(2).await;
    assert_eq!(setup.found(), [["a", "present", ""], ["c", "absent", ""]]);
    setup.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn server_reads_thousand_newest_of_big_file() {
    let mut log = ForgedLog::default();
    for number in 0..1_003 {
        log.hmc_call(&format!("call-{number}"), &by_id("id-1"), "unknown");
        log.hmc_call(&format!("other-{number}"), &by_id("id-1"), "deleted");
    }
    let setup = Setup::with_alice(&log).await;
    setup.restart(1_000).await;
    let ids = values_of(&setup.findings(), "request_id");
    assert_eq!(ids.len(), 1_000);
    assert_eq!(
        (ids[0].as_str(), ids[999].as_str()),
        ("call-3", "call-1002")
    );
    let warnings = Process::log_records(&setup.folder, "older unknown outcomes not reconciled");
    assert_eq!(warnings.len(), 1);
    assert_eq!(warnings[0]["older"], 3);
    let (code, out, _) = setup.reconcile(&[]);
    assert_eq!((code, out.lines().count()), (0, 4), "{out}");
    setup.finish();
}

/// After a rotation while the server was stopped, the new file is empty, and the renamed one has the unknown outcome
/// and an open intent. The intent is carried to the new file before that is searched.
#[tokio::test(flavor = "multi_thread")]
async fn empty_file_is_reconciled_with_its_predecessor() {
    let mut log = log_of_alice("unknown");
    log.hmc("intent", "b", &by_name("bob"), "");
    let setup = Setup::with_alice(&log).await;
    let renamed = setup.folder.join("audit.jsonl.1");
    fs::rename(&setup.file, &renamed).unwrap();
    fs::write(&setup.file, "").unwrap();
    let (code, out, _) = setup.reconcile(&["--dry-run"]);
    let findings = "a hmc id-1 present\nb hmc bob absent\nFILE: 2 unknown outcomes";
    assert!(code == 0 && out.starts_with(findings), "{out}");
    setup.restart(2).await;
    assert_eq!(setup.found(), [["a", "present", ""], ["b", "absent", ""]]);
    assert_eq!(last_record(&setup.file)["seq"], 7);
    // The findings of the new file settle the calls of the renamed one.
    let (code, out, _) = setup.reconcile(&["--dry-run"]);
    assert!(code == 0 && out.starts_with("FILE: 0 "), "{out}");
    assert_eq!(verify([&renamed, &setup.file]).0, 0);
    let partial = [Path::new("--partial"), &setup.file];
    assert_eq!(verify(partial).0, 0);
    // Without the older file, the unknown outcome of the finding is missing.
    let (code, _, err) = verify([&setup.file]);
    let fault = "reconciled, but its outcome is not unknown, or settled before";
    assert!(code == 1 && err.contains(fault), "{err}");
    fs::remove_dir_all(&setup.folder).unwrap();
}

const NOT_OPENED: &str = "audit log not opened; deletions are refused";

/// The folder of the log is mounted after the start.
#[tokio::test(flavor = "multi_thread")]
async fn log_that_appears_late_is_reconciled() {
    let mut setup = Setup::with_alice(&log_of_alice("unknown")).await;
    let config = setup.folder.join("useradmin.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(
        &config,
        format!("{text}[audit]\nfile = \"late/audit.jsonl\"\n"),
    )
    .unwrap();
    let [early, late] = ["early", "late"].map(|name| setup.folder.join(name));
    fs::create_dir(&early).unwrap();
    fs::rename(&setup.file, early.join("audit.jsonl")).unwrap();
    let process = Process::start(&setup.folder);
    // The writer tries to open the file before the server is ready, and then every second.
    let failures = || Process::log_records(&setup.folder, NOT_OPENED);
    wait_until("a failure", async || failures().len() == 1).await;
    fs::rename(&early, &late).unwrap();
    setup.file = late.join("audit.jsonl");
    wait_until("a finding", async || setup.found().len() == 1).await;
    process.stop();
    assert_eq!(setup.found(), [["a", "present", ""]]);
    setup.finish();
}

/// An intent that is open before and after a rotation is reconciled in the new file.
#[tokio::test(flavor = "multi_thread")]
async fn carried_intent_is_reconciled_after_crash() {
    let setup = Setup::start(&ForgedLog::default(), |request| match Step::of(request) {
        Step::Delete => Reply::Hang,
        _ => default_reply(request, 1),
    })
    .await;
    let process = setup.with_hanging_delete(delete_by_id("id-1")).await;
    let renamed = setup.folder.join("audit.jsonl.1");
    fs::rename(&setup.file, &renamed).unwrap();
    // The new file is written with the next record.
    let mut client = process.client();
    assert!(client.delete_hmc_user(delete_by_id("id-2")).await.is_err());
    process.kill();
    setup.restart(1).await;
    let all = records(&setup.file);
    let events = values_of(&all, "event");
    assert_eq!(
        events,
        ["intent", "intent", "outcome", "outcome", "reconciled"]
    );
    assert_eq!(all[0]["carried"], true);
    assert_eq!(all[4]["request_id"], all[0]["request_id"]);
    assert!(all[4].get("carried").is_none());
    assert_eq!(all[4]["outcome"], "present");
    let (code, _, err) = verify([&renamed, &setup.file]);
    assert_eq!((code, err.as_str()), (0, ""));
    fs::remove_dir_all(&setup.folder).unwrap();
}
