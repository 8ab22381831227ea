//! Recovery of the audit log after a crash: no record is lost or duplicated, and unknown outcomes are recorded as
//! unknown.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{Read as _, Seek as _, SeekFrom},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use rand::RngExt as _;
use serde_json::Value;
use tokio::{sync::watch, task::JoinSet};
use tonic::Code;
use useradmin::proto::DeleteOutcome;
use useradmin_testkit::{
    App, CallFailure, ForgedLog, Process, Upstream, batch_deleted, batch_request, configure,
    records, token_reply_or, verify, wait_until,
};

use crate::authorization::upstream;

const INTERRUPTED_MESSAGE: &str = "interrupted calls recorded as unknown";

/// Returns a log with three calls, two of which have no outcome, and a rejected call.
fn log_with_open_intents() -> ForgedLog {
    let mut log = ForgedLog::default();
    log.intent("a", "bob").intent("b", "eve").intent("c", "zoe");
    log.outcome("b", "eve", "deleted")
        .outcome("d", "max", "denied");
    log
}

fn is_closed_after_crash(record: &Value) -> bool {
    record["outcome"] == "unknown_after_crash"
}

#[tokio::test(flavor = "multi_thread")]
async fn open_intents_are_closed_once_after_crash() {
    let upstream = upstream().await;
    let folder = App::folder();
    configure(&folder, &upstream.url, "");
    let file = folder.join("audit.jsonl");
    fs::write(&file, log_with_open_intents().text).unwrap();
    Process::start(&folder).stop();
    // The process may also be killed while it records these outcomes.
    let text = fs::read_to_string(&file).unwrap();
    for len in [text.len() - 20, text.len()] {
        fs::write(&file, &text[..len]).unwrap();
        Process::start(&folder).stop();
    }
    let records = records(&file);
    assert_eq!(records.len(), 7);
    for (record, (id, user)) in records[5..].iter().zip([("a", "bob"), ("c", "zoe")]) {
        let mut expected = records[0].as_object().unwrap().clone();
        expected.retain(|key, _| {
            !["attempts", "caller_gone", "ts", "seq", "prev", "v"].contains(&key.as_str())
        });
        for (key, value) in [
            ("event", "outcome"),
            ("request_id", id),
            ("user", user),
            ("outcome", "unknown_after_crash"),
            ("reason", "ERROR_REASON_OUTCOME_UNKNOWN"),
        ] {
            expected.insert(key.to_owned(), value.into());
        }
        expected.insert(
            "identifiers".to_owned(),
            serde_json::json!({ "user_name": user }),
        );
        let mut found = record.as_object().unwrap().clone();
        found.retain(|key, _| !["ts", "seq", "prev", "v"].contains(&key.as_str()));
        assert_eq!(found, expected);
    }
    let warnings = Process::log_records(&folder, INTERRUPTED_MESSAGE);
    let open: Vec<_> = warnings.iter().map(|line| line["open"].clone()).collect();
    assert_eq!(open, [2, 1]);
    assert_eq!(verify([&file]).0, 0);
    fs::remove_dir_all(folder).unwrap();
}

/// The outcomes stay pending until they can be written, and calls are rejected until then.
#[tokio::test(flavor = "multi_thread")]
async fn file_size_limit_delays_outcomes_without_loss() {
    let upstream = upstream().await;
    let folder = App::folder();
    configure(&folder, &upstream.url, "");
    let file = folder.join("audit.jsonl");
    let mut log = log_with_open_intents();
    for number in 0..20 {
        let id = format!("call-{number}");
        log.intent(&id, "tom").outcome(&id, "tom", "deleted");
    }
    let text = log.text;
    fs::write(&file, &text).unwrap();
    // The limit allows only a few more bytes, like a full disk: only a part of the first record can be written. The
    // limit also applies to root.
    let process = Process::start_with_file_size_limit(&folder, text.len());
    let mut client = process.client();
    let refusal = client.delete_batch_node_user(batch_request("alice")).await;
    let refusal = CallFailure::from(refusal.unwrap_err());
    refusal.expect(Code::Unavailable, "AUDIT_UNAVAILABLE");
    assert!(upstream.requests("DELETE", "/pools").is_empty());
    assert_eq!(fs::read_to_string(&file).unwrap(), text);
    // After a rotation, the open intents and their outcomes are written to the new file, which is below the limit.
    let rotated_file = folder.join("audit.jsonl.1");
    fs::rename(&file, &rotated_file).unwrap();
    wait_until("a new file", async || {
        fs::metadata(&file).is_ok_and(|found| found.len() > 0)
    })
    .await;
    client
        .delete_batch_node_user(batch_request("alice"))
        .await
        .unwrap();
    process.stop();
    let new = records(&file);
    let events: Vec<_> = new
        .iter()
        .map(|record| record["event"].as_str().unwrap())
        .collect();
    let expected = [
        "intent", "intent", "outcome", "outcome", "intent", "outcome",
    ];
    assert_eq!(events, expected);
    assert_eq!(
        new.iter()
            .filter(|record| is_closed_after_crash(record))
            .count(),
        2
    );
    assert_eq!(verify([&rotated_file, &file]).0, 0);
    assert_eq!(verify([Path::new("--partial"), &file]).0, 0);
    fs::remove_dir_all(folder).unwrap();
}

/// Incremental reader of the intents in a growing file.
struct Reader {
    file: PathBuf,
    read: u64,
    users: BTreeSet<String>,
}

impl Reader {
    fn has_record(&mut self, user: &str) -> bool {
        if !self.users.contains(user) {
            let mut file = File::open(&self.file).unwrap();
            file.seek(SeekFrom::Start(self.read)).unwrap();
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes).unwrap();
            let complete = bytes
                .iter()
                .rposition(|byte| *byte == b'\n')
                .map_or(0, |at| at + 1);
            self.read += complete as u64;
            for line in bytes[..complete].split(|byte| *byte == b'\n') {
                let record: Value = serde_json::from_slice(line).unwrap_or_default();
                if record["event"] == "intent" {
                    self.users
                        .insert(record["user"].as_str().unwrap().to_owned());
                }
            }
        }
        self.users.contains(user)
    }
}

/// A sequence of servers on the same file, each killed at a random time under load.
struct CallerLoop {
    folder: PathBuf,
    upstream: Upstream,
    /// Number of DELETEs that the upstream has received.
    arrived: watch::Receiver<usize>,
    /// Users whose DELETE arrived before the intent was recorded.
    unrecorded: Arc<Mutex<Vec<String>>>,
    /// Users whose deletion was acknowledged.
    deleted: BTreeSet<String>,
}

impl CallerLoop {
    async fn new() -> Self {
        let folder = App::folder();
        let mut reader = Reader {
            file: folder.join("audit.jsonl"),
            read: 0,
            users: BTreeSet::new(),
        };
        let (notify, arrived) = watch::channel(0);
        let unrecorded = Arc::new(Mutex::new(Vec::new()));
        let missing = Arc::clone(&unrecorded);
        let upstream = Upstream::start(move |request| {
            token_reply_or(request, || {
                let user = request.user();
                if request.method == "DELETE" && !reader.has_record(&user) {
                    missing.lock().unwrap().push(user);
                }
                notify.send_modify(|count| *count += usize::from(request.method == "DELETE"));
                batch_deleted()
            })
        })
        .await;
        configure(&folder, &upstream.url, "");
        Self {
            folder,
            upstream,
            arrived,
            unrecorded,
            deleted: BTreeSet::new(),
        }
    }

    async fn round(&mut self, name: &str) {
        let process = Process::start(&self.folder);
        let client = process.client();
        let mut load = JoinSet::new();
        for worker in 0..8 {
            let (mut client, name) = (client.clone(), format!("{name}-{worker}"));
            load.spawn(async move {
                let mut deleted = Vec::new();
                loop {
                    let user = format!("{name}-{}", deleted.len());
                    let Ok(response) = client.delete_batch_node_user(batch_request(&user)).await
                    else {
                        return deleted;
                    };
                    assert_eq!(response.get_ref().outcome(), DeleteOutcome::Deleted);
                    deleted.push(user);
                }
            });
        }
        let enough = *self.arrived.borrow() + rand::rng().random_range(1..40);
        self.arrived
            .wait_for(|count| *count >= enough)
            .await
            .unwrap();
        process.kill();
        for deleted in load.join_all().await {
            self.deleted.extend(deleted);
        }
    }

    /// Checks the audit log after the last server.
    fn check(&self) {
        let file = self.folder.join("audit.jsonl");
        assert_eq!(*self.unrecorded.lock().unwrap(), Vec::<String>::new());
        let mut outcomes: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for record in records(&file) {
            let text = |key: &str| record[key].as_str().unwrap().to_owned();
            let of_user = outcomes.entry(text("user"));
            if record["event"] == "intent" {
                assert!(of_user.or_default().is_empty());
            } else {
                of_user.or_default().push(text("outcome"));
            }
        }
        for request in self.upstream.requests("DELETE", "/pools") {
            assert!(outcomes.contains_key(&request.user()));
        }
        for (user, outcomes) in &outcomes {
            let [outcome] = &outcomes[..] else {
                panic!("{user}: {outcomes:?}");
            };
            let expected_outcomes: &[&str] = if self.deleted.contains(user) {
                // The response is sent after its record is written, and SIGKILL does not undo writes.
                &["deleted"]
            } else {
                &["deleted", "unknown_after_crash"]
            };
            assert!(
                expected_outcomes.contains(&outcome.as_str()),
                "{user}: {outcome}"
            );
        }
        let (code, out, err) = verify([&file]);
        assert_eq!((code, err.as_str()), (0, ""));
        assert!(out.contains(" 0 open intents, "), "{out}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hundred_kills_lose_no_record() {
    let mut loops = JoinSet::new();
    for caller_loop in 0..4 {
        loops.spawn(async move {
            let mut work = CallerLoop::new().await;
            for round in 0..25 {
                work.round(&format!("user-{caller_loop}-{round}")).await;
            }
            Process::start(&work.folder).stop();
            work.check();
            let crashed = Process::log_records(&work.folder, INTERRUPTED_MESSAGE).len();
            fs::remove_dir_all(&work.folder).unwrap();
            crashed
        });
    }
    // If the sum is 0, no server was killed during a call, and the test proved nothing.
    assert!(loops.join_all().await.iter().sum::<usize>() > 0);
}

/// Root ignores permission bits, so the test uses paths that even root cannot open.
#[tokio::test(flavor = "multi_thread")]
async fn unusable_audit_path_blocks_deletions() {
    let upstream = upstream().await;
    for name in ["below a file", "endless links"] {
        let folder = App::folder();
        configure(
            &folder,
            &upstream.url,
            "[audit]\nfile = \"logs/audit.jsonl\"\n",
        );
        if name == "below a file" {
            fs::write(folder.join("logs"), "").unwrap();
        } else {
            symlink("logs", folder.join("logs")).unwrap();
        }
        let process = Process::start(&folder);
        let mut client = process.client();
        let refusal = client.delete_batch_node_user(batch_request("alice")).await;
        let refusal = CallFailure::from(refusal.unwrap_err());
        refusal.expect(Code::Unavailable, "AUDIT_UNAVAILABLE");
        // The service recovers automatically.
        fs::remove_file(folder.join("logs")).unwrap();
        fs::create_dir(folder.join("logs")).unwrap();
        wait_until("a file", async || folder.join("logs/audit.jsonl").exists()).await;
        client
            .delete_batch_node_user(batch_request("alice"))
            .await
            .unwrap();
        process.stop();
        fs::remove_dir_all(folder).unwrap();
    }
    assert_eq!(upstream.requests("DELETE", "/pools").len(), 2);
}
