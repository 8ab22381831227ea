//! Records that are written late: an outcome that cannot be written immediately, and an intent whose caller has already
//! received a failure.

use std::{
    fs::{self, File, OpenOptions},
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    process::Command,
    sync::Arc,
};

use rustix::fs::OFlags;
use serde_json::Value;
use tokio::sync::Notify;
use tonic::Code;
use useradmin::proto::{DeleteBatchNodeUserRequest, DeleteOutcome};
use useradmin_testkit::{
    App, CallFailure, Process, Reply, Upstream, batch_deleted, batch_request, batch_response,
    batch_section, configure, records, token_reply_or, verify, wait_until,
};

use crate::authorization::upstream;

/// Starts an upstream that holds every DELETE, and whose nodes can be read.
async fn gated_upstream() -> (Upstream, Arc<Notify>) {
    let gate = Arc::new(Notify::new());
    let gate_for_reply = Arc::clone(&gate);
    let upstream = Upstream::start(move |request| {
        token_reply_or(request, || match request.method.as_str() {
            // The log is limited, too, so no line must report that the pool was not read.
            "GET" if request.target.contains("/nodes/") => {
                batch_response(200, r#"{"state":"idle"}"#)
            }
            "GET" => batch_response(200, r#"{"id":"pool-1"}"#),
            _ => Reply::Gated(Arc::clone(&gate_for_reply), Box::new(batch_deleted())),
        })
    });
    (upstream.await, gate)
}

const FAILED: &str = "audit log write failed; deletions are refused";

/// The DELETE succeeds, but its record cannot be written. The caller receives the actual outcome, other calls are
/// rejected, and the record is written as soon as there is space.
#[tokio::test(flavor = "multi_thread")]
async fn outcome_that_cannot_be_written_is_reported_and_written_later() {
    let (upstream, gate) = gated_upstream().await;
    let folder = App::folder();
    configure(&folder, &upstream.url, "");
    let file = folder.join("audit.jsonl");
    let process = Process::start_with_file_size_limit(&folder, 8_192);
    let mut client = process.client();
    let gate_for_reply = {
        let mut client = client.clone();
        tokio::spawn(async move { client.delete_batch_node_user(batch_request("alice")).await })
    };
    upstream.wait_for_requests("DELETE", "/pools", 1).await;
    // Validation is also recorded, so it fills the file.
    let validation = DeleteBatchNodeUserRequest {
        validate_only: true,
        ..batch_request("bob")
    };
    wait_until("a full file", async || {
        client
            .delete_batch_node_user(validation.clone())
            .await
            .unwrap();
        !Process::log_records(&folder, FAILED).is_empty()
    })
    .await;

    gate.notify_one();
    let response = gate_for_reply.await.unwrap().unwrap();
    assert_eq!(response.get_ref().outcome(), DeleteOutcome::Deleted);
    assert!(
        records(&file)
            .iter()
            .all(|record| record["outcome"] != "deleted")
    );
    let refusal = client.delete_batch_node_user(batch_request("carol")).await;
    let refusal = CallFailure::from(refusal.unwrap_err());
    refusal.expect(Code::Unavailable, "AUDIT_UNAVAILABLE");
    assert_eq!(upstream.requests("DELETE", "/pools").len(), 1);

    let rotated_file = folder.join("audit.jsonl.1");
    fs::rename(&file, &rotated_file).unwrap();
    let is_alices = |record: &Value| record["outcome"] == "deleted" && record["user"] == "alice";
    wait_until("the outcome", async || {
        file.exists() && records(&file).iter().any(is_alices)
    })
    .await;
    process.stop();
    let (code, out, err) = verify([&rotated_file, &file]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.contains(" 0 open intents, "), "{out}");
    fs::remove_dir_all(folder).unwrap();
}

/// Fills the pipe completely. Returns the number of bytes written.
fn fill_pipe(pipe: &mut File) -> usize {
    let page = [b'\n'; 4_096];
    // Fill with whole pages, then single bytes: a pipe accepts a small write completely or not at all.
    let pieces = [&page[..], &page[..1]];
    let count = |piece: &[u8]| std::iter::from_fn(|| pipe.write(piece).ok()).sum::<usize>();
    pieces.map(count).into_iter().sum()
}

/// The sink blocks in the middle of an intent for longer than its caller waits, and then continues. Nothing was sent,
/// and the records show this. Records that were only queued behind it are not written at all.
#[tokio::test(flavor = "multi_thread")]
async fn late_intent_is_closed_as_not_sent() {
    let upstream = upstream().await;
    let folder = App::folder();
    let path = folder.join("audit.jsonl");
    let mkfifo_status = Command::new("mkfifo").arg(&path).status();
    assert!(mkfifo_status.unwrap().success());
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).unwrap();
    let mut pipe = OpenOptions::new();
    let pipe = pipe.read(true).write(true).custom_flags(flags).open(&path);
    let mut pipe = pipe.unwrap();
    let section = batch_section(&folder, &upstream.url);
    let app = App::start_in(folder, &section).await;
    let filled = fill_pipe(&mut pipe);
    for user in ["alice", "bob"] {
        let failure = app.delete_batch_node_user(batch_request(user)).await;
        let failure = failure.unwrap_err();
        failure.expect(Code::Unavailable, "AUDIT_UNAVAILABLE");
        let actual = (
            failure.metadata_value("attempts"),
            failure.metadata_value("outcome"),
        );
        assert_eq!(actual, ("0", "not_sent"));
    }
    assert!(upstream.received().is_empty());

    let mut reader = File::open(&path).unwrap();
    drop(pipe);
    let mut carol = app.client();
    let read_records = tokio::task::spawn_blocking(move || {
        reader.read_exact(&mut vec![0; filled]).unwrap();
        let lines = BufReader::new(reader).lines();
        let records = lines.map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
        let mut actual = Vec::new();
        for record in records {
            let text = |key: &str| record[key].as_str().unwrap().to_owned();
            actual.push([text("user"), text("event"), text("outcome"), text("reason")]);
            if record["outcome"] == "deleted" {
                break;
            }
        }
        actual
    });
    wait_until("it works again", async || {
        carol
            .delete_batch_node_user(batch_request("carol"))
            .await
            .is_ok()
    })
    .await;
    let mut actual = read_records.await.unwrap();
    // The calls of carol before the recovery have no record.
    let from_carol = actual.split_off(2);
    assert!(
        from_carol.iter().all(|[user, ..]| user == "carol"),
        "{from_carol:?}"
    );
    let audit_unavailable = "ERROR_REASON_AUDIT_UNAVAILABLE";
    let expected = [
        ["alice", "intent", "", ""],
        ["alice", "outcome", "not_sent", audit_unavailable],
    ];
    assert_eq!(actual, expected);
    assert_eq!(upstream.requests("DELETE", "/pools").len(), 1);
}
