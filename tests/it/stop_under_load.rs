//! Shutdown under load, with silent peers: each shutdown is fast, and every call either receives its response or was
//! never accepted.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    time::{Duration, Instant},
};

use rand::RngExt as _;
use tokio::{io::AsyncWriteExt as _, net::TcpStream, sync::watch, task::JoinSet};
use tonic::Status;
use tonic_types::StatusExt as _;
use useradmin_testkit::{
    App, Process, Upstream, batch_deleted, batch_request, configure, records, token_reply_or,
    verify,
};

use crate::{abuse::frames::fields, connection_limit::HTTP2_START};

/// The documented limit of a shutdown is 30 seconds; nothing in this test takes nearly that long.
const LONGEST: Duration = Duration::from_secs(10);
const SILENT: usize = 100;
const CALLERS: usize = 8;

/// Opens connections that stay silent after connecting, after a part of the HTTP/2 preface, or after opening a stream.
async fn silent_peers(address: &str) -> Vec<TcpStream> {
    let beginnings = [Vec::new(), HTTP2_START[..20].to_vec(), HTTP2_START.to_vec()];
    // A call whose message is never sent.
    let opened = [HTTP2_START, &fields().headers(1, 0)].concat();
    let mut peers = Vec::new();
    for beginning in beginnings.iter().chain([&opened]).cycle().take(SILENT) {
        let mut peer = TcpStream::connect(address).await.unwrap();
        peer.write_all(beginning).await.unwrap();
        peers.push(peer);
    }
    peers
}

/// The results of the callers by user: an outcome, or the reason of a refusal; `None` if no server responded.
type ReportedOutcomes = BTreeMap<String, Option<String>>;

fn reported_outcome(response: Result<(), Status>) -> Option<String> {
    match response {
        Ok(()) => Some("deleted".to_owned()),
        Err(status) => status.get_details_error_info().map(|info| info.reason),
    }
}

/// Makes calls until the server accepts no more.
fn start_load(process: &Process, round: &str) -> JoinSet<ReportedOutcomes> {
    let mut load = JoinSet::new();
    for caller in 0..CALLERS {
        let (mut client, round) = (process.client(), format!("{round}-{caller}"));
        load.spawn(async move {
            let mut all = ReportedOutcomes::new();
            loop {
                let user = format!("user-{round}-{}", all.len());
                let response = client.delete_batch_node_user(batch_request(&user)).await;
                let reported_outcome = reported_outcome(response.map(drop));
                let over = reported_outcome.as_deref() != Some("deleted");
                all.insert(user, reported_outcome);
                if over {
                    return all;
                }
            }
        });
    }
    load
}

async fn run_round(
    folder: &Path,
    arrived: &mut watch::Receiver<usize>,
    name: &str,
) -> ReportedOutcomes {
    let process = Process::start(folder);
    let _silent = silent_peers(&process.address).await;
    let load = start_load(&process, name);
    let enough = *arrived.borrow() + rand::rng().random_range(1..60);
    arrived.wait_for(|count| *count >= enough).await.unwrap();
    let started = Instant::now();
    let stop_task = tokio::task::spawn_blocking(|| process.stop());
    stop_task.await.unwrap();
    assert!(started.elapsed() < LONGEST, "{:?}", started.elapsed());
    load.join_all().await.into_iter().flatten().collect()
}

/// Checks that the audit log agrees with the results of the callers and with the requests of the upstream.
fn check(reported_outcome: &ReportedOutcomes, upstream: &Upstream, folder: &Path) {
    let mut on_record: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let file = folder.join("audit.jsonl");
    for record in records(&file) {
        let user = record["user"].as_str().unwrap_or_default().to_owned();
        let outcome = match record["event"].as_str() {
            Some("intent") => "intent",
            _ => record["outcome"].as_str().unwrap_or_default(),
        };
        let outcome = outcome.to_owned();
        on_record.entry(user).or_default().push(outcome);
    }
    for (user, reported_outcome) in reported_outcome {
        let found = on_record.get(user).map(Vec::as_slice).unwrap_or_default();
        let found: Vec<&str> = found.iter().map(String::as_str).collect();
        let expected: &[&str] = match reported_outcome.as_deref() {
            Some("deleted") => &["intent", "deleted"],
            // The call was not started.
            Some("ERROR_REASON_SHUTTING_DOWN") | None => &[],
            Some(other) => panic!("{user}: {other}"),
        };
        assert_eq!(found, expected, "{user}: {reported_outcome:?}");
    }
    let sent = upstream.requests("DELETE", "/pools");
    for request in &sent {
        let user = request.user();
        assert_eq!(
            reported_outcome[&user].as_deref(),
            Some("deleted"),
            "{user}"
        );
    }
    let (code, out, _) = verify([&file]);
    assert_eq!(code, 0);
    assert!(out.contains(" 0 open intents, "), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_stops_under_load_are_fast_and_lose_nothing() {
    let mut lanes = JoinSet::new();
    for lane in 0..5 {
        lanes.spawn(async move {
            let folder = App::folder();
            let (notify, mut arrived) = watch::channel(0);
            let upstream = Upstream::start(move |request| {
                token_reply_or(request, || {
                    notify.send_modify(|count| *count += usize::from(request.method == "DELETE"));
                    batch_deleted()
                })
            })
            .await;
            configure(&folder, &upstream.url, "");
            let mut reported_outcome = ReportedOutcomes::new();
            for number in 0..10 {
                let name = format!("{lane}-{number}");
                reported_outcome.append(&mut run_round(&folder, &mut arrived, &name).await);
            }
            check(&reported_outcome, &upstream, &folder);
            fs::remove_dir_all(&folder).unwrap();
            reported_outcome
                .into_values()
                .flatten()
                .filter(|reported_outcome| reported_outcome == "deleted")
                .count()
        });
    }
    assert!(lanes.join_all().await.into_iter().sum::<usize>() > 50 * CALLERS);
}
