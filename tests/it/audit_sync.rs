//! The order of things as the system sees it: the intent is on the disk before the first byte goes to an upstream.

use std::{
    fs,
    io::{self, Write as _},
    path::Path,
    process::{Command, Stdio},
};

use futures_util::future::join_all;
use useradmin_testkit::{App, Process, batch_request, configure, until};

use crate::access::upstream;

/// May this process trace another one?
pub fn strace_works() -> bool {
    let mut command = Command::new("strace");
    command.args(["-o", "/dev/null", "true"]);
    command.stdin(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// The system calls of a server that deletes one user, from the intent on.
async fn trace(sections: &str) -> Vec<String> {
    let upstream = upstream().await;
    let folder = App::folder();
    configure(&folder, &upstream.url, sections);
    let file = folder.join("trace");
    let process = Process::traced(&folder, &file);
    let mut client = process.client();
    let done = client.delete_batch_node_user(batch_request("alice")).await;
    done.unwrap();
    process.stop();
    // strace goes on for a moment.
    until("the end of the trace", async || {
        text(&file).contains("+++ exited with 0 +++\n")
    })
    .await;
    let port = upstream.url.rsplit(':').next().unwrap();
    let calls = text(&file).replace(&format!("htons({port})"), "UPSTREAM");
    let calls: Vec<_> = calls.lines().map(ToOwned::to_owned).collect();
    assert_eq!(upstream.requests("DELETE", "/pools").len(), 1);
    fs::remove_dir_all(folder).unwrap();
    calls
}

fn text(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_default()
}

/// The only line with all of these words.
#[track_caller]
fn place(trace: &[String], words: &[&str]) -> usize {
    let fits = |line: &String| words.iter().all(|word| line.contains(word));
    let mut places = (0..trace.len()).filter(|at| fits(&trace[*at]));
    let place = places.next();
    let trace = trace.join("\n");
    assert!(
        place.is_some() && places.next().is_none(),
        "{words:?} in\n{trace}"
    );
    place.unwrap()
}

/// Where the call that begins here has succeeded: other threads may come between.
fn end(trace: &[String], begin: usize) -> usize {
    let thread = trace[begin].split(' ').next().unwrap();
    let is_end = |line: &&String| !line.contains("<unfinished ...>");
    let of_thread = |line: &&String| line.split(' ').next() == Some(thread);
    let mut rest = trace[begin..].iter().filter(of_thread).filter(is_end);
    let line = rest.next().unwrap();
    assert!(!line.contains(" = -1 "), "{line}");
    trace
        .iter()
        .position(|other| std::ptr::eq(other, line))
        .unwrap()
}

const INTENT: [&str; 3] = [" write(", "/audit.jsonl>, ", r#"\"event\":\"intent\""#];
const DELETE: [&str; 2] = ["DELETE /pools/pool-1/", "<TCP:["];

#[tokio::test(flavor = "multi_thread")]
async fn the_intent_is_on_the_disk_before_anything_is_sent() {
    if !strace_works() {
        // Not with a macro: what those print is shown of failed tests alone.
        let _ = writeln!(
            io::stderr(),
            "SKIPPED: the test of fdatasync, for there is no strace that works"
        );
        return;
    }
    let calls = trace("").await;
    let written = end(&calls, place(&calls, &INTENT));
    // The first one; the end of the log is synced when the server stops.
    let is_sync = |line: &String| line.contains(" fdatasync(") && line.contains("/audit.jsonl>");
    let syncs: Vec<_> = (0..calls.len()).filter(|at| is_sync(&calls[*at])).collect();
    let synced = end(&calls, syncs[0]);
    assert_eq!(syncs.len(), 2);
    let connecting = calls
        .iter()
        .position(|line| line.contains(" connect(") && line.contains("UPSTREAM"));
    let (connecting, sent) = (connecting.unwrap(), place(&calls, &DELETE));
    let order = [written, synced, connecting, sent];
    assert!(order.is_sorted(), "{order:?}\n{}", calls.join("\n"));
    // Where no sync is asked for, there is none to be seen.
    let calls = trace("[audit]\nsync = false\n").await;
    assert!(place(&calls, &INTENT) < place(&calls, &DELETE));
    assert!(!calls.iter().any(|line| line.contains("fdatasync(")));
}

/// Where a sync takes its time, calls that come again and again get into one: else there would be two groups, each of
/// which waits for the other's sync.
#[tokio::test(flavor = "multi_thread")]
async fn calls_that_wait_at_the_same_time_share_a_sync() {
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
    let process = Process::slow_to_sync(&folder, &file);
    let callers = (0..CALLERS).map(|_| async {
        let mut client = process.client();
        for _ in 0..CALLS {
            let done = client.delete_batch_node_user(batch_request("alice")).await;
            done.unwrap();
        }
    });
    join_all(callers).await;
    process.stop();
    let syncs = text(&file).matches("fdatasync(").count();
    // One for each round of calls, if all of them come at the same time; a busy machine spreads them.
    assert!((CALLS..CALLERS * CALLS / 2).contains(&syncs), "{syncs}");
    assert_eq!(upstream.requests("DELETE", "/pools").len(), CALLERS * CALLS);
    fs::remove_dir_all(folder).unwrap();
}
