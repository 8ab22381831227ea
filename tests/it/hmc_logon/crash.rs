//! A logon counts as refused from before it is sent until its outcome is known, because the process may be killed
//! meanwhile.

use std::{fs, path::Path, sync::Arc};

use futures_util::future::join_all;
use serde_json::Value;
use tokio::sync::Notify;
use tonic::Code;
use useradmin_testkit::{
    App, COMMON, CallFailure, Process, ReceivedRequest, Reply, Step, Upstream, canary::PASSWORD,
    configure, default_reply, delete_by_id, error_reply, hmc_section, wait_until,
};

use super::restart::{
    FILE, hmc_with_password, logon_file_after_refusals, logons, parse_entry, start_app,
    unix_seconds,
};

const NOT_RECORDED: &str = "logon guard file not written";

fn configure_hmc(folder: &Path, upstream: &Upstream) {
    let text = format!("{COMMON}{}", hmc_section(folder, &upstream.url));
    fs::write(folder.join("useradmin.toml"), text).unwrap();
}

async fn wait_for_logons(upstream: &Upstream, count: usize) {
    wait_until("a logon", async || logons(upstream) == count).await;
}

#[tokio::test]
async fn logons_interrupted_by_crash_count_as_refused() {
    let upstream = Upstream::start(|request: &ReceivedRequest| match Step::of(request) {
        Step::Logon => Reply::Hang,
        _ => default_reply(request, 1),
    })
    .await;
    let folder = App::folder();
    configure_hmc(&folder, &upstream);
    for count in 1..=2 {
        let process = Process::start(&folder);
        let mut client = process.client();
        let call = tokio::spawn(async move { client.delete_hmc_user(delete_by_id("id-1")).await });
        wait_for_logons(&upstream, count).await;
        process.kill();
        call.await.unwrap().unwrap_err();
        let state = fs::read(folder.join(FILE)).unwrap();
        assert_eq!(parse_entry(&state)["refused"], count);
    }
    for _ in 0..3 {
        let process = Process::start(&folder);
        let failure = process.client().delete_hmc_user(delete_by_id("id-1")).await;
        let failure = CallFailure::from(failure.unwrap_err());
        failure.expect(Code::Internal, "UPSTREAM_CREDENTIALS_REJECTED");
        process.kill();
    }
    assert_eq!(logons(&upstream), 2);
}

type Answer = fn(&ReceivedRequest) -> Reply;

/// Runs a logon with this response, after `refused` refused logons of an earlier process.
async fn run_case(answer: Answer, success: bool, refusal: usize) {
    let gate = Arc::new(Notify::new());
    let gate_for_reply = Arc::clone(&gate);
    let mut number = 0;
    let upstream = Upstream::start(move |request: &ReceivedRequest| {
        if Step::of(request) != Step::Logon {
            return default_reply(request, 1);
        }
        number += 1;
        match number - 1 {
            refusals_before if refusals_before < refusal => error_reply(request, 403, 0),
            refusals_before if refusals_before == refusal => {
                Reply::Gated(Arc::clone(&gate_for_reply), Box::new(answer(request)))
            }
            _ => answer(request),
        }
    })
    .await;
    let refusals_before = match refusal {
        0 => None,
        refusal => Some(logon_file_after_refusals(&upstream, refusal).await),
    };
    let app = start_app(&upstream, refusals_before.as_deref()).await;
    let file = app.folder.join(FILE);
    let call = app.delete_hmc_user(delete_by_id("id-1"));
    let wait_for_logon = async {
        wait_for_logons(&upstream, refusal + 1).await;
        let during = parse_entry(&fs::read(&file).unwrap());
        gate.notify_one();
        during
    };
    let (called, during) = tokio::join!(call, wait_for_logon);
    assert_eq!(called.is_ok(), success);
    assert_eq!(during["refused"], refusal + 1);
    assert!(during["until"].as_u64().unwrap() >= unix_seconds() + 290);
    match refusals_before {
        Some(refusals_before) if !success => {
            let (refusals_before, after) = (
                parse_entry(&refusals_before),
                parse_entry(&fs::read(&file).unwrap()),
            );
            assert_eq!(after["refused"], refusals_before["refused"]);
            let until = |entry: &Value| entry["until"].as_u64().unwrap();
            assert!(until(&after).abs_diff(until(&refusals_before)) <= 2);
        }
        _ => assert!(!file.exists()),
    }
}

/// A successful logon removes the record; a logon that fails for another reason restores the previous record.
#[tokio::test]
async fn logon_outcome_corrects_the_record() {
    let responses: [(Answer, bool); 6] = [
        (|request| default_reply(request, 1), true),
        (|request| error_reply(request, 500, 12), false),
        (|request| error_reply(request, 400, 7), false),
        (|_| Reply::html(503), false),
        (|_| Reply::empty(404), false),
        (|_| Reply::Close, false),
    ];
    let played = responses.map(|(response, success)| async move {
        run_case(response, success, 0).await;
        run_case(response, success, 1).await;
    });
    join_all(played).await;
}

/// A folder that is not writable is reported once, at startup, and prevents no logon.
#[tokio::test]
async fn unwritable_logon_file_is_reported_at_start() {
    for (blocked, hmcs) in [(false, true), (true, true), (true, false)] {
        let upstream = hmc_with_password(PASSWORD).await;
        let folder = App::folder();
        if blocked {
            // A file cannot replace a folder, even for the superuser.
            fs::create_dir(folder.join(format!("{FILE}.new"))).unwrap();
        }
        if hmcs {
            configure_hmc(&folder, &upstream);
        } else {
            configure(&folder, &upstream.url, "");
        }
        let process = Process::start(&folder);
        let warnings = || Process::log_records(&folder, NOT_RECORDED);
        wait_until("the warning", async || {
            warnings().len() == usize::from(blocked && hmcs)
        })
        .await;
        if hmcs {
            let mut client = process.client();
            client.delete_hmc_user(delete_by_id("id-1")).await.unwrap();
            assert_eq!(logons(&upstream), 1);
        }
        process.stop();
        let warnings = warnings();
        assert_eq!(warnings.len(), usize::from(blocked && hmcs));
        assert!(warnings.iter().all(|line| line["level"] == "WARN"));
    }
    assert!(include_str!("../../../docs/operations.md").contains(NOT_RECORDED));
}
