//! Order of system calls: the intent is on the disk before the first byte is sent to an upstream.

use std::{
    fs,
    io::{self, Write as _},
    path::Path,
    process::{Command, Stdio},
};

use futures_util::future::join_all;
use useradmin_testkit::{App, Process, batch_request, configure, wait_until};

use crate::authorization::upstream;

/// Returns whether this process may trace another one.
pub fn strace_works() -> bool {
    let mut command = Command::new("strace");
    command.args(["-o", "/dev/null", "true"]);
    command.stdin(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Returns the system calls of a server that deletes one user, starting with the intent.
async fn traced_calls(sections: &str) -> Vec<String> {
    let upstream = upstream().await;
    let folder = App::folder();
    configure(&folder, &upstream.url, sections);
    let file = folder.join("trace");
    let process = Process::start_traced(&folder, &file);
    let mut client = process.client();
    let response = client.delete_batch_node_user(batch_request("alice")).await;
    response.unwrap();
    process.stop();
    // strace may still be writing.
    wait_until("the end of the trace", async || {
        read_text(&file).contains("+++ exited with 0 +++\n")
    })
    .await;
    let port = upstream.url.rsplit(':').next().unwrap();
    let calls = read_text(&file).replace(&format!("htons({port})"), "UPSTREAM");
    let calls: Vec<_> = calls.lines().map(ToOwned::to_owned).collect();
    assert_eq!(upstream.requests("DELETE", "/pools").len(), 1);
    fs::remove_dir_all(folder).unwrap();
    calls
}

fn read_text(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_default()
}

/// Returns the index of the only line that contains all of these words.
#[track_caller]
fn line_index(trace: &[String], words: &[&str]) -> usize {
    let is_match = |line: &String| words.iter().all(|word| line.contains(word));
    let mut indices = (0..trace.len()).filter(|at| is_match(&trace[*at]));
    let index = indices.next();
    let trace = trace.join("\n");
    assert!(
        index.is_some() && indices.next().is_none(),
        "{words:?} in\n{trace}"
    );
    index.unwrap()
}

/// Returns the index of the line where this system call returns. Lines of other threads may come in between.
fn return_index(trace: &[String], begin: usize) -> usize {
    let thread = trace[begin].split(' ').next().unwrap();
    let is_end = |line: &&String| !line.contains("<unfinished ...>");
    let of_thread = |line: &&String| line.split(' ').next() == Some(thread);
    let mut returns = trace[begin..].iter().filter(of_thread).filter(is_end);
    let line = returns.next().unwrap();
    assert!(!line.contains(" = -1 "), "{line}");
    trace
        .iter()
        .position(|other| std::ptr::eq(other, line))
        .unwrap()
}

const INTENT: [&str; 3] = [" write(", "/audit.jsonl>, ", r#"\"event\":\"intent\""#];
const DELETE: [&str; 2] = ["DELETE /pools/pool-1/", "<TCP:["];

#[tokio::test(flavor = "multi_thread")]
async fn intent_is_synced_before_request_is_sent() {
    if !strace_works() {
        // Written directly to standard error, because the test harness prints captured output only for failed tests.
        let _ = writeln!(
            io::stderr(),
            "SKIPPED: the test of fdatasync, for there is no strace that works"
        );
        return;
    }
    let calls = traced_calls("").await;
    let intent_written = return_index(&calls, line_index(&calls, &INTENT));
    // The first sync; the end of the log is synced when the server stops.
    let is_sync = |line: &String| line.contains(" fdatasync(") && line.contains("/audit.jsonl>");
    let syncs: Vec<_> = (0..calls.len()).filter(|at| is_sync(&calls[*at])).collect();
    let synced = return_index(&calls, syncs[0]);
    assert_eq!(syncs.len(), 2);
    let connecting = calls
        .iter()
        .position(|line| line.contains(" connect(") && line.contains("UPSTREAM"));
    let (connecting, sent) = (connecting.unwrap(), line_index(&calls, &DELETE));
    let order = [intent_written, synced, connecting, sent];
    assert!(order.is_sorted(), "{order:?}\n{}", calls.join("\n"));
    // With `sync = false`, there is no sync.
    let calls = traced_calls("[audit]\nsync = false\n").await;
    assert!(line_index(&calls, &INTENT) < line_index(&calls, &DELETE));
    assert!(!calls.iter().any(|line| line.contains("fdatasync(")));
}

/// If a sync is slow, calls that are repeated without a pause share one sync. Otherwise there would be two groups, each
/// waiting for the sync of the other.
#[tokio::test(flavor = "multi_thread")]
async fn concurrent_calls_share_one_sync() {
    const CALLERS: usize = 8;
    const CALLS: usize = 6;
    if !strace_works() {
        let _ = writeln!(
            io::stderr(),
            "SKIPPED: the test of slow syncs, for there is no strace that works"
        );
        return;
    }
    let upstream = upstream().await;
    let folder = App::folder();
    configure(&folder, &upstream.url, "");
    let file = folder.join("trace");
    let process = Process::start_with_slow_sync(&folder, &file);
    let callers = (0..CALLERS).map(|_| async {
        let mut client = process.client();
        for _ in 0..CALLS {
            let response = client.delete_batch_node_user(batch_request("alice")).await;
            response.unwrap();
        }
    });
    join_all(callers).await;
    process.stop();
    let syncs = read_text(&file).matches("fdatasync(").count();
    // One sync for each round of calls if all calls arrive at the same time; there may be more on a busy machine.
    assert!((CALLS..CALLERS * CALLS / 2).contains(&syncs), "{syncs}");
    assert_eq!(upstream.requests("DELETE", "/pools").len(), CALLERS * CALLS);
    fs::remove_dir_all(folder).unwrap();
}
