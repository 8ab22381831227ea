//! Refused logons are counted across restarts, so that a process in a restart loop does not lock out the user.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    time::{SystemTime, UNIX_EPOCH},
};

use futures_util::future::join_all;
use serde_json::{Value, json};
use tonic::Code::Internal;
use useradmin_testkit::{
    App, ReceivedRequest, Step, Upstream,
    canary::{self, PASSWORD},
    default_reply, delete_by_id, error_reply, hmc_section,
};

pub const FILE: &str = ".audit.jsonl.logons";

/// Starts an HMC that refuses every password but this one.
pub async fn hmc(accepted: &'static str) -> Upstream {
    Upstream::start(move |seen: &ReceivedRequest| {
        if Step::of(seen) == Step::Logon && !seen.body.contains(accepted) {
            return error_reply(seen, 403, 0);
        }
        default_reply(seen, 1)
    })
    .await
}

pub fn logons(upstream: &Upstream) -> usize {
    upstream.requests("POST", "/api/sessions").len()
}

pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap().as_secs()
}

/// Starts a process with the state file of an earlier one.
pub async fn started(upstream: &Upstream, state: Option<&[u8]>) -> App {
    let folder = App::folder();
    if let Some(state) = state {
        fs::write(folder.join(FILE), state).unwrap();
    }
    let section = hmc_section(&folder, &upstream.url);
    App::start_in(folder, &section).await
}

async fn expect_refused(app: &App) {
    let failed = app.delete_hmc_user(delete_by_id("id-1")).await.unwrap_err();
    failed.expect(Internal, "UPSTREAM_CREDENTIALS_REJECTED");
}

/// Returns the state file of a process after this number of refused logons.
pub async fn file_left_by(upstream: &Upstream, refused: usize) -> Vec<u8> {
    let app = started(upstream, None).await;
    let before = logons(upstream);
    for _ in 0..refused {
        expect_refused(&app).await;
    }
    assert_eq!(logons(upstream) - before, refused);
    // A SIGKILL would leave the same file: it is written before the caller receives the response.
    fs::read(app.folder.join(FILE)).unwrap()
}

/// Returns the only entry of the file.
pub fn entry(state: &[u8]) -> Value {
    let mut state: Value = serde_json::from_slice(state).unwrap();
    only_entry(&mut state).clone()
}

fn only_entry(state: &mut Value) -> &mut Value {
    let entries = state["hmcs"].as_object_mut().unwrap();
    assert_eq!(entries.len(), 1);
    entries.values_mut().next().unwrap()
}

#[tokio::test]
async fn refused_logons_are_counted_across_restarts() {
    let upstream = hmc("another password").await;
    let first = file_left_by(&upstream, 1).await;
    assert_eq!(entry(&first)["refused"], 1);
    // One more logon is sent, and then none, regardless of the number of restarts.
    let app = started(&upstream, Some(&first)).await;
    for _ in 0..3 {
        expect_refused(&app).await;
    }
    assert_eq!(logons(&upstream), 2);
    let second = fs::read(app.folder.join(FILE)).unwrap();
    for _ in 0..3 {
        let app = started(&upstream, Some(&second)).await;
        join_all((0..5).map(|_| expect_refused(&app))).await;
    }
    assert_eq!(logons(&upstream), 2);
}

#[tokio::test]
async fn logon_file_is_private_and_contains_no_password() {
    let upstream = hmc("another password").await;
    let app = started(&upstream, None).await;
    expect_refused(&app).await;
    let file = app.folder.join(FILE);
    let mode = fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    canary::check_file(&file);
    let text = fs::read_to_string(&file).unwrap();
    assert!(!text.contains(PASSWORD), "{text}");
    let left = entry(text.as_bytes())["until"].as_u64().unwrap() - now();
    assert!((290..=301).contains(&left), "{left}");
    let names = fs::read_dir(&app.folder).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let logons: Vec<_> = names.filter(|name| name.contains("logons")).collect();
    assert_eq!(logons, [FILE]);
}

#[tokio::test]
async fn changed_password_is_tried_immediately_after_restart() {
    let upstream = hmc("kanari-password-2").await;
    let state = file_left_by(&upstream, 2).await;
    let app = started(&upstream, Some(&state)).await;
    fs::write(app.folder.join("hmc.password"), "kanari-password-2").unwrap();
    app.delete_hmc_user(delete_by_id("id-1")).await.unwrap();
    assert_eq!(logons(&upstream), 3);
    // Success removes the last entry, and the file with it.
    assert!(!app.folder.join(FILE).exists());
}

/// The count belongs to the user and the HMC, not to the alias.
#[tokio::test]
async fn other_users_and_hmcs_are_not_suspended() {
    let (refusing, accepting) = (hmc("another password").await, hmc(PASSWORD).await);
    let state = file_left_by(&refusing, 2).await;
    let app = started(&accepting, Some(&state)).await;
    app.delete_hmc_user(delete_by_id("id-1")).await.unwrap();
    let folder = App::folder();
    fs::write(folder.join(FILE), &state).unwrap();
    let section = hmc_section(&folder, &refusing.url).replace("svc-useradmin", "svc-other");
    let app = App::start_in(folder, &section).await;
    expect_refused(&app).await;
    assert_eq!(logons(&refusing), 3);
}

#[tokio::test]
async fn suspension_uses_wall_clock_and_is_at_most_five_minutes() {
    let upstream = hmc("another password").await;
    let state = file_left_by(&upstream, 2).await;
    let with = |until: u64| {
        let mut state: Value = serde_json::from_slice(&state).unwrap();
        only_entry(&mut state)["until"] = json!(until);
        state.to_string().into_bytes()
    };
    // The suspension has ended: one logon is sent, and a suspension of five minutes starts again.
    let app = started(&upstream, Some(&with(now() - 1))).await;
    for _ in 0..3 {
        expect_refused(&app).await;
    }
    assert_eq!(logons(&upstream), 3);
    assert_eq!(
        entry(&fs::read(app.folder.join(FILE)).unwrap())["refused"],
        3
    );
    // The clock was set back by a year: logons are suspended for five minutes from now, which the next restart does not
    // extend.
    for until in [now() + 31_536_000, u64::MAX] {
        let app = started(&upstream, Some(&with(until))).await;
        expect_refused(&app).await;
        let left = entry(&fs::read(app.folder.join(FILE)).unwrap())["until"].as_u64();
        assert!(left.unwrap() <= now() + 301);
    }
    assert_eq!(logons(&upstream), 3);
}

/// A file that cannot be parsed may have contained refused logons: logons are suspended for five minutes, unless the
/// password changes.
#[tokio::test]
async fn unreadable_logon_file_suspends_logons_for_five_minutes() {
    let upstream = hmc("kanari-password-2").await;
    let good = file_left_by(&upstream, 1).await;
    let before = logons(&upstream);
    let mut future: Value = serde_json::from_slice(&good).unwrap();
    future["version"] = json!(2);
    let mut foreign: Value = serde_json::from_slice(&good).unwrap();
    only_entry(&mut foreign)["refused"] = json!("many");
    let states = [
        Vec::new(),
        b"\0\0\0\0\0\0\0\0".to_vec(),
        b"{}".to_vec(),
        b"[]".to_vec(),
        good[..good.len() - 2].to_vec(),
        [good.clone(), b"}".to_vec()].concat(),
        future.to_string().into_bytes(),
        foreign.to_string().into_bytes(),
        vec![b' '; 2 * 1024 * 1024],
    ];
    for state in states {
        let app = started(&upstream, Some(&state)).await;
        expect_refused(&app).await;
        assert_eq!(
            logons(&upstream),
            before,
            "{:?}",
            &state[..state.len().min(80)]
        );
        // The suspension survives the next restart, which does not extend it.
        let written = fs::read(app.folder.join(FILE)).unwrap();
        let until = |state: &[u8]| {
            let state: Value = serde_json::from_slice(state).unwrap();
            state["lost_until"].as_u64().unwrap()
        };
        let app = started(&upstream, Some(&written)).await;
        expect_refused(&app).await;
        assert_eq!(logons(&upstream), before);
        assert_eq!(
            until(&fs::read(app.folder.join(FILE)).unwrap()),
            until(&written)
        );
    }
    let app = started(&upstream, Some(b"no JSON")).await;
    expect_refused(&app).await;
    fs::write(app.folder.join("hmc.password"), "kanari-password-2").unwrap();
    app.delete_hmc_user(delete_by_id("id-1")).await.unwrap();
    // The suspension has ended.
    let passed = json!({"version": 1, "lost_until": now() - 1, "hmcs": {}}).to_string();
    let app = started(&upstream, Some(passed.as_bytes())).await;
    expect_refused(&app).await;
    assert_eq!(logons(&upstream), before + 2);
}

/// A path that is not a regular file is not read, and the server does not block on it; a folder at that path does not
/// prevent the server from serving calls.
#[tokio::test]
async fn special_file_at_logon_path_does_not_block_calls() {
    let upstream = hmc(PASSWORD).await;
    let folder = App::folder();
    let made = std::process::Command::new("mkfifo")
        .arg(folder.join(FILE))
        .status();
    assert!(made.unwrap().success());
    let section = hmc_section(&folder, &upstream.url);
    let app = App::start_in(folder, &section).await;
    expect_refused(&app).await;

    let folder = App::folder();
    fs::create_dir(folder.join(FILE)).unwrap();
    let section = hmc_section(&folder, &upstream.url);
    let app = App::start_in(folder, &section).await;
    expect_refused(&app).await;
    assert_eq!(logons(&upstream), 0);
}

/// Without an audit log file there is no state file for refused logons; the process counts them in memory.
#[tokio::test]
async fn refused_logons_are_kept_in_memory_without_audit_file() {
    let upstream = hmc("another password").await;
    let folder = App::folder();
    let section = hmc_section(&folder, &upstream.url);
    let section = format!("[audit]\nfile = \"/dev/null\"\n{section}");
    let app = App::start_in(folder, &section).await;
    for _ in 0..4 {
        expect_refused(&app).await;
    }
    assert_eq!(logons(&upstream), 2);
    assert!(!app.folder.join(FILE).exists());
    assert!(!std::path::Path::new("/dev/.null.logons").exists());
}
