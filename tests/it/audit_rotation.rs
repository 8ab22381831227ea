//! Renaming of the audit log while the server runs: the chain continues across the files, and no record is lost.

use std::{
    collections::BTreeSet,
    fs,
    io::Write as _,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde_json::Value;
use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
};
use tonic::transport::Channel;
use useradmin::proto::user_admin_client::UserAdminClient;
use useradmin_testkit::{
    App, Process, Reply, Upstream, batch_deleted, batch_request, configure, lines, records, sha256,
    token_reply_or, values_of, verify, wait_until,
};

use crate::authorization::upstream;

const REOPENED_MESSAGE: &str = "audit log reopened";

/// Starts a server. Returns its folder, the path of the audit log, and the process.
fn start_server(upstream: &Upstream) -> (PathBuf, PathBuf, Process) {
    let folder = App::folder();
    configure(&folder, &upstream.url, "");
    let process = Process::start(&folder);
    let file = folder.join("audit.jsonl");
    (folder, file, process)
}

async fn delete(client: &mut UserAdminClient<Channel>, user: &str) {
    client
        .delete_batch_node_user(batch_request(user))
        .await
        .unwrap();
}

fn file_size(file: &Path) -> u64 {
    fs::metadata(file).map_or(0, |found| found.len())
}

/// Atomically renames the file and replaces it with a new one that has this content.
fn rename_and_replace(file: &Path, rotated_file: &Path, text: &str) {
    let new = file.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::hard_link(file, rotated_file).unwrap();
    fs::rename(new, file).unwrap();
}

/// Starts an upstream that holds the DELETEs of users named `held-...` and counts the others.
async fn gated_upstream(gate: &Arc<Notify>) -> (Upstream, watch::Receiver<usize>) {
    let (notify, arrived) = watch::channel(0);
    let gate = Arc::clone(gate);
    let upstream = Upstream::start(move |request| {
        token_reply_or(request, || {
            if request.target.contains("/held-") {
                return Reply::Gated(Arc::clone(&gate), Box::new(batch_deleted()));
            }
            notify.send_modify(|count| *count += usize::from(request.method == "DELETE"));
            batch_deleted()
        })
    });
    (upstream.await, arrived)
}

/// Starts calls that do not end, and waits until the upstream has received them.
async fn start_hanging_calls(
    client: &UserAdminClient<Channel>,
    upstream: &Upstream,
    users: &[&str],
) {
    for user in users {
        let (mut client, request) = (client.clone(), batch_request(user));
        tokio::spawn(async move { client.delete_batch_node_user(request).await });
    }
    for user in users {
        let target = format!("/pools/pool-1/nodes/node-1/users/{user}");
        upstream.wait_for_requests("DELETE", &target, 1).await;
    }
}

/// Asserts that the files form one chain, that every deletion is recorded once, and that each file begins with the open
/// intents.
fn verify_files(files: &[PathBuf], open: &str) {
    let (code, out, err) = verify(files);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.contains(open), "{out}");
    let all_records: Vec<_> = files.iter().flat_map(|file| records(file)).collect();
    let actual: Vec<_> = all_records
        .iter()
        .filter(|record| record["outcome"] == "deleted")
        .collect();
    assert_eq!(actual.len(), 320);
    let users: BTreeSet<_> = actual
        .iter()
        .map(|record| record["user"].to_string())
        .collect();
    assert_eq!(users.len(), 320);
    for file in &files[1..] {
        let records = records(file);
        assert_eq!(records[0]["carried"], true);
        let carried = records.iter().filter(|record| record["carried"] == true);
        let carried: BTreeSet<_> = carried
            .map(|record| record["user"].as_str().unwrap())
            .collect();
        assert!(carried.is_superset(&BTreeSet::from(["held-1", "held-2"])));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rotation_under_load_keeps_chain_and_open_intents() {
    let gate = Arc::new(Notify::new());
    let (upstream, mut arrived) = gated_upstream(&gate).await;
    let (folder, file, process) = start_server(&upstream);
    let client = process.client();
    start_hanging_calls(&client, &upstream, &["held-1", "held-2"]).await;
    let mut load = JoinSet::new();
    for worker in 0..16 {
        let mut client = client.clone();
        load.spawn(async move {
            for number in 0..20 {
                delete(&mut client, &format!("user-{worker}-{number}")).await;
            }
        });
    }
    let mut files = Vec::new();
    for number in 1..=5_usize {
        arrived
            .wait_for(|count| *count >= number * 50)
            .await
            .unwrap();
        let rotated_file = folder.join(format!("audit.jsonl.{number}"));
        fs::rename(&file, &rotated_file).unwrap();
        files.push(rotated_file);
        wait_until("a new file", async || file_size(&file) > 0).await;
    }
    load.join_all().await;
    let reopened = || Process::log_records(&folder, REOPENED_MESSAGE).len();
    wait_until("the log lines", async || reopened() == 5).await;
    process.kill();
    files.push(file.clone());

    verify_files(&files, "2 open intents");
    assert_eq!(reopened(), 5);

    Process::start(&folder).stop();
    let closed_intents: Vec<Value> = records(&file);
    let closed_intents: Vec<_> = closed_intents
        .into_iter()
        .filter(|record| record["outcome"] == "unknown_after_crash")
        .collect();
    let users: BTreeSet<_> = values_of(&closed_intents, "user").into_iter().collect();
    assert_eq!(users, ["held-1", "held-2"].map(String::from).into());
    assert_eq!(closed_intents.len(), 2);
    verify_files(&files, "0 open intents");
    assert_eq!(verify([Path::new("--partial"), &file]).0, 0);
    // Verification fails without the previous file, and with the files in another order.
    assert_eq!(verify([&file]).0, 1);
    files.reverse();
    assert_eq!(verify(&files).0, 1);
    fs::remove_dir_all(folder).unwrap();
}

/// If no call is in progress, the next record continues the chain.
#[tokio::test(flavor = "multi_thread")]
async fn idle_server_continues_chain_in_new_file() {
    let upstream = upstream().await;
    let (folder, file, process) = start_server(&upstream);
    let mut client = process.client();
    delete(&mut client, "alice").await;
    let rotated_file = folder.join("audit.jsonl.1");
    // Like `create` of logrotate.
    rename_and_replace(&file, &rotated_file, "");
    delete(&mut client, "bob").await;
    let (code, out, err) = verify([&rotated_file, &file]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.contains(": 4 records, seq 1 to 4, "), "{out}");
    // If the file is deleted instead of renamed, the chain also continues.
    fs::remove_file(&file).unwrap();
    delete(&mut client, "eve").await;
    process.stop();
    assert_eq!(values_of(&records(&file), "event"), ["intent", "outcome"]);
    assert_eq!(records(&file)[0]["seq"], 5);
    assert_eq!(verify([Path::new("--partial"), &file]).0, 0);
    let (code, _, err) = verify([&rotated_file, &file]);
    assert_eq!(code, 1);
    let prefix = format!("{}:1: ", file.display());
    let errors = format!(
        "{prefix}`seq` is 5, where 3 is due\n{prefix}`prev` is not the hash of the line before\n"
    );
    assert_eq!(err, errors);
    fs::remove_dir_all(folder).unwrap();
}

/// The next server finds the renamed file, regardless of the state of the new one, and closes the open intents.
#[tokio::test(flavor = "multi_thread")]
async fn rotation_while_stopped_is_continued_at_start() {
    let gate = Arc::new(Notify::new());
    // The new file is missing, empty, truncated in the first record, or never written.
    for new_content in [None, Some(""), Some("{\"v\":1,\"ts"), Some("\0\0\0\0")] {
        let (upstream, _arrived) = gated_upstream(&gate).await;
        let (folder, file, process) = start_server(&upstream);
        let mut client = process.client();
        delete(&mut client, "alice").await;
        let mut hanging = client.clone();
        tokio::spawn(async move {
            hanging
                .delete_batch_node_user(batch_request("held-1"))
                .await
        });
        upstream.wait_for_requests("DELETE", "/pools", 2).await;
        process.kill();
        let rotated_file = folder.join("audit.jsonl.1");
        fs::rename(&file, &rotated_file).unwrap();
        // Other files with the same prefix that are not logs.
        fs::write(folder.join("audit.jsonl.2.gz"), "compressed").unwrap();
        if let Some(text) = new_content {
            fs::write(&file, text).unwrap();
        }
        let process = Process::start(&folder);
        let mut client = process.client();
        delete(&mut client, "bob").await;
        process.stop();
        let (code, out, err) = verify([&rotated_file, &file]);
        assert_eq!((code, err.as_str()), (0, ""), "{new_content:?}");
        assert!(out.contains("seq 1 to 7, 0 open intents"), "{out}");
        let outcomes = values_of(&records(&file), "outcome");
        assert_eq!(outcomes, ["", "unknown_after_crash", "", "deleted"]);
        assert_eq!(verify([&file]).0, 1);
        assert_eq!(verify([Path::new("--partial"), &file]).0, 0);
        fs::remove_dir_all(folder).unwrap();
    }
}

/// A server that waits for the lock of the log must not take over the file during a rotation.
#[tokio::test(flavor = "multi_thread")]
async fn rotation_does_not_release_lock_to_second_server() {
    let upstream = upstream().await;
    let (folder, file, process) = start_server(&upstream);
    let mut client = process.client();
    delete(&mut client, "alice").await;
    let second_server = Process::start(&folder);
    let rotated_file = folder.join("audit.jsonl.1");
    fs::rename(&file, &rotated_file).unwrap();
    // The call makes the waiting server check the file as well.
    let mut refusal = second_server.client();
    let refusal = refusal.delete_batch_node_user(batch_request("eve")).await;
    assert!(refusal.is_err());
    delete(&mut client, "bob").await;
    process.stop();
    let delete_carol = async || {
        let mut client = second_server.client();
        let response = client.delete_batch_node_user(batch_request("carol")).await;
        response.is_ok()
    };
    wait_until("the second server has the log", delete_carol).await;
    second_server.stop();
    let (code, out, err) = verify([&rotated_file, &file]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.contains("seq 1 to 6, 0 open intents"), "{out}");
    fs::remove_dir_all(folder).unwrap();
}

/// A modification of the file by another process. Arguments: the path and the current content.
type Modification = fn(&Path, &[u8]);

/// The modifications, and whether the result may pass as a file whose older files are missing.
const MODIFICATIONS: [(Modification, bool); 6] = [
    (|file, _| truncate(file, 0), true),
    (|file, text| truncate(file, text.len() - 9), false),
    (|file, text| append(file, &text[..text.len() / 2]), false),
    (|file, _| append(file, b"a line\n"), false),
    (|file, _| append(file, b"no line"), false),
    (|file, _| forge(file), false),
];

fn truncate(file: &Path, len: usize) {
    let file = fs::OpenOptions::new().write(true).open(file).unwrap();
    file.set_len(len as u64).unwrap();
}

fn append(file: &Path, bytes: &[u8]) {
    let file = fs::OpenOptions::new().append(true).open(file);
    file.unwrap().write_all(bytes).unwrap();
}

/// Appends a record that fits into the chain.
fn forge(file: &Path) {
    let mut forged = records(file)[1].clone();
    let prev = sha256(lines(file)[1].as_bytes());
    forged["seq"] = 3.into();
    forged["request_id"] = "forged".into();
    forged["outcome"] = "denied".into();
    forged["prev"] = prev.into();
    append(file, format!("{forged}\n").as_bytes());
    assert_eq!(verify([file]).0, 0);
}

/// Modifications by other processes cannot be undone, but they are detected.
#[tokio::test(flavor = "multi_thread")]
async fn truncation_and_foreign_lines_are_detected() {
    let upstream = upstream().await;
    for (number, (modify, is_valid_part)) in MODIFICATIONS.into_iter().enumerate() {
        let (folder, file, process) = start_server(&upstream);
        let mut client = process.client();
        delete(&mut client, "alice").await;
        let inode = fs::metadata(&file).unwrap().ino();
        modify(&file, &fs::read(&file).unwrap());
        delete(&mut client, "bob").await;
        process.stop();
        assert_eq!(fs::metadata(&file).unwrap().ino(), inode);
        let message = "audit log changed by another process";
        assert_eq!(Process::log_records(&folder, message).len(), 1, "{number}");
        let (code, _, err) = verify([&file]);
        assert_eq!(code, 1, "{number}: {err}");
        assert_eq!(
            verify([Path::new("--partial"), &file]).0,
            i32::from(!is_valid_part),
            "{number}"
        );
        // No record is appended to an incomplete line of another process.
        let text = fs::read_to_string(&file).unwrap();
        let last = text
            .lines()
            .rev()
            .take(2)
            .map(serde_json::from_str::<Value>);
        assert!(
            last.into_iter().all(|line| line.unwrap()["user"] == "bob"),
            "{number}"
        );
        fs::remove_dir_all(folder).unwrap();
    }
}

/// The chain belongs to the process. Existing content of the new file is not part of it.
#[tokio::test(flavor = "multi_thread")]
async fn non_empty_file_after_rotation_is_reported() {
    let upstream = upstream().await;
    let (folder, file, process) = start_server(&upstream);
    let mut client = process.client();
    delete(&mut client, "alice").await;
    let rotated_file = folder.join("audit.jsonl.1");
    rename_and_replace(&file, &rotated_file, "somebody else");
    delete(&mut client, "bob").await;
    process.stop();
    let text = fs::read_to_string(&file).unwrap();
    assert_eq!(text.lines().next(), Some("somebody else"));
    let (code, _, err) = verify([&rotated_file, &file]);
    let prefix = file.display();
    let expected = format!(
        "{prefix}:1: no record: not a JSON object\n{prefix}:2: `prev` is not the hash of the line before\n"
    );
    assert_eq!((code, err), (1, expected));
    fs::remove_dir_all(folder).unwrap();
}
