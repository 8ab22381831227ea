//! The log when the reader of standard error stalls: neither calls nor the shutdown wait for it, and dropped lines are
//! counted.

use std::{
    fs,
    io::{self, BufRead as _, BufReader},
    path::Path,
    time::{Duration, Instant},
};

use rustix::{
    fs::{OFlags, fcntl_setfl},
    process::{Pid, Signal, kill_process},
};
use serde_json::Value;
use useradmin_testkit::{App, Process, batch_request, configure, configure_with_admin, http_get};

use crate::authorization;

/// Far more calls than the number whose log lines at level `trace` fill the queue of 8 MiB and the buffer of a pipe.
const MAX_CALLS: usize = 5_000;
/// Number of calls between two counts of the dropped lines.
const CALLS_PER_COUNT: usize = 100;
/// Far below the limit of a drain, because no call is in progress when the server stops.
const LONGEST_STOP: Duration = Duration::from_secs(10);

/// Starts a server that writes its log to a pipe with these flags, at a level with many lines for each call.
fn start(folder: &Path, flags: OFlags) -> (Process, io::PipeReader) {
    let (reader, writer) = io::pipe().unwrap();
    fcntl_setfl(&writer, flags).unwrap();
    let file = folder.join("useradmin.toml");
    let arguments = ["serve", "--config", file.to_str().unwrap()];
    (Process::start_with_log(&arguments, writer, "trace"), reader)
}

/// Makes calls until log lines are dropped.
async fn call_until_lines_are_dropped(process: &Process, admin: &str) {
    let mut client = process.client();
    for number in 0..MAX_CALLS {
        let response = client.delete_batch_node_user(batch_request("alice")).await;
        assert!(response.is_ok(), "call {number}: {response:?}");
        if number % CALLS_PER_COUNT == 0 && dropped_lines(admin).await > 0 {
            return;
        }
    }
    panic!("no lines were dropped");
}

/// Returns the number of dropped lines in `/metrics`.
async fn dropped_lines(admin: &str) -> u64 {
    let text = http_get(admin, "/metrics").await;
    let mut lines = text.lines();
    let value = lines.find_map(|line| line.strip_prefix("useradmin_log_lines_dropped_total "));
    value.unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn stalled_log_reader_does_not_block_calls_or_stop() {
    let upstream = authorization::upstream().await;
    let folder = App::folder();
    let admin = configure_with_admin(&folder, &upstream.url);
    let (process, reader) = start(&folder, OFlags::empty());
    call_until_lines_are_dropped(&process, &admin).await;
    let started = Instant::now();
    process.stop();
    assert!(started.elapsed() < LONGEST_STOP);
    drop(reader);
    fs::remove_dir_all(folder).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn dropped_log_lines_are_reported_when_reader_resumes() {
    let upstream = authorization::upstream().await;
    let folder = App::folder();
    let admin = configure_with_admin(&folder, &upstream.url);
    let (process, reader) = start(&folder, OFlags::empty());
    call_until_lines_are_dropped(&process, &admin).await;
    let mut resumed = None;
    for line in BufReader::new(reader).lines() {
        let line: Value = serde_json::from_str(&line.unwrap()).unwrap();
        if line["message"] == "log output resumed" {
            resumed = line["dropped"].as_u64();
            break;
        }
    }
    assert!(resumed.is_some_and(|lines| lines > 0));
    process.stop();
    fs::remove_dir_all(folder).unwrap();
}

/// Standard error may be shared with a process that made it non-blocking, and signals interrupt the wait for it.
#[tokio::test(flavor = "multi_thread")]
async fn signals_do_not_stop_stalled_log() {
    let upstream = authorization::upstream().await;
    let folder = App::folder();
    let admin = configure_with_admin(&folder, &upstream.url);
    let (process, reader) = start(&folder, OFlags::NONBLOCK);
    call_until_lines_are_dropped(&process, &admin).await;
    let id = Pid::from_raw(process.id().try_into().unwrap()).unwrap();
    for _ in 0..2_000 {
        // Several signals at a time, so that not all of them are delivered to the main thread.
        for signal in [Signal::HUP, Signal::USR1, Signal::USR2, Signal::ALARM] {
            kill_process(id, signal).unwrap();
        }
    }
    let mut lines = BufReader::new(reader).lines();
    let is_resumed = |line: io::Result<String>| line.unwrap().contains("log output resumed");
    assert!(lines.any(is_resumed));
    let dropped_before = dropped_lines(&admin).await;
    assert!(dropped_before > 0);
    let mut client = process.client();
    client
        .delete_batch_node_user(batch_request("alice"))
        .await
        .unwrap();
    assert_eq!(dropped_lines(&admin).await, dropped_before);
    process.stop();
    fs::remove_dir_all(folder).unwrap();
}

/// Signals that the server does not use, and whose default action would end the process without a drain.
#[tokio::test(flavor = "multi_thread")]
async fn unused_signals_do_not_end_process() {
    let upstream = authorization::upstream().await;
    let folder = App::folder();
    configure(&folder, &upstream.url, "");
    let process = Process::start(&folder);
    let mut client = process.client();
    for signal in ["HUP", "USR1", "USR2", "ALRM", "VTALRM", "PROF", "IO", "PWR"] {
        process.signal(signal);
        let response = client.delete_batch_node_user(batch_request("alice")).await;
        assert!(response.is_ok(), "{signal}: {response:?}");
    }
    process.stop();
    fs::remove_dir_all(folder).unwrap();
}
