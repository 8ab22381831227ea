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
pub async fn hmc_with_password(accepted: &'static str) -> Upstream {
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

pub fn unix_seconds() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap().as_secs()
}

/// Starts a process with the state file of an earlier one.
pub async fn start_app(upstream: &Upstream, state: Option<&[u8]>) -> App {
    let folder = App::folder();
    if let Some(state) = state {
        fs::write(folder.join(FILE), state).unwrap();
    }
    let section = hmc_section(&folder, &upstream.url);
    App::start_in(folder, &section).await
}

async fn expect_refused(app: &App) {
    let failure = app.delete_hmc_user(delete_by_id("id-1")).await.unwrap_err();
    failure.expect(Internal, "UPSTREAM_CREDENTIALS_REJECTED");
}

/// Returns the state file of a process after this number of refused logons.
pub async fn logon_file_after_refusals(upstream: &Upstream, refusal: usize) -> Vec<u8> {
    let app = start_app(upstream, None).await;
    let logons_before = logons(upstream);
    for _ in 0..refusal {
        expect_refused(&app).await;
    }
    assert_eq!(logons(upstream) - logons_before, refusal);
    // A SIGKILL would leave the same file: it is written before the caller receives the response.
    fs::read(app.folder.join(FILE)).unwrap()
}

/// Returns the only entry of the file.
pub fn parse_entry(state: &[u8]) -> Value {
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
    let upstream = hmc_with_password("another password").await;
    let first = logon_file_after_refusals(&upstream, 1).await;
    assert_eq!(parse_entry(&first)["refused"], 1);
    // One more logon is sent, and then none, regardless of the number of restarts.
    let app = start_app(&upstream, Some(&first)).await;
    for _ in 0..3 {
        expect_refused(&app).await;
    }
    assert_eq!(logons(&upstream), 2);
    let second = fs::read(app.folder.join(FILE)).unwrap();
    for _ in 0..3 {
        let app = start_app(&upstream, Some(&second)).await;
        join_all((0..5).map(|_| expect_refused(&app))).await;
    }
    assert_eq!(logons(&upstream), 2);
}

#[tokio::test]
async fn logon_file_is_private_and_contains_no_password() {
    let upstream = hmc_with_password("another password").await;
    let app = start_app(&upstream, None).await;
    expect_refused(&app).await;
    let file = app.folder.join(FILE);
    let mode = fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    canary::check_file(&file);
    let text = fs::read_to_string(&file).unwrap();
    assert!(!text.contains(PASSWORD), "{text}");
    let remaining = parse_entry(text.as_bytes())["until"].as_u64().unwrap() - unix_seconds();
    assert!((290..=301).contains(&remaining), "{remaining}");
    let names = fs::read_dir(&app.folder).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let logons: Vec<_> = names.filter(|name| name.contains("logons")).collect();
    assert_eq!(logons, [FILE]);
}

#[tokio::test]
async fn changed_password_is_tried_immediately_after_restart() {
    let upstream = hmc_with_password("kanari-password-2").await;
    let state = logon_file_after_refusals(&upstream, 2).await;
    let app = start_app(&upstream, Some(&state)).await;
    fs::write(app.folder.join("hmc.password"), "kanari-password-2").unwrap();
    app.delete_hmc_user(delete_by_id("id-1")).await.unwrap();
    assert_eq!(logons(&upstream), 3);
    // Success removes the last entry, and the file with it.
    assert!(!app.folder.join(FILE).exists());
}

/// The count belongs to the user and the HMC, not to the alias.
#[tokio::test]
async fn other_users_and_hmcs_are_not_suspended() {
    let (refusing, accepting) = (
        hmc_with_password("another password").await,
        hmc_with_password(PASSWORD).await,
    );
    let state = logon_file_after_refusals(&refusing, 2).await;
    let app = start_app(&accepting, Some(&state)).await;
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
    let upstream = hmc_with_password("another password").await;
    let state = logon_file_after_refusals(&upstream, 2).await;
    let with = |until: u64| {
        let mut state: Value = serde_json::from_slice(&state).unwrap();
        only_entry(&mut state)["until"] = json!(until);
        state.to_string().into_bytes()
    };
    // The suspension has ended: one logon is sent, and a suspension of five minutes starts again.
    let app = start_app(&upstream, Some(&with(unix_seconds() - 1))).await;
    for _ in 0..3 {
        expect_refused(&app).await;
    }
    assert_eq!(logons(&upstream), 3);
    assert_eq!(
        parse_entry(&fs::read(app.folder.join(FILE)).unwrap())["refused"],
        3
    );
    // The clock was set back by a year: logons are suspended for five minutes from now, which the next restart does not
    // extend.
    for until in [unix_seconds() + 31_536_000, u64::MAX] {
        let app = start_app(&upstream, Some(&with(until))).await;
        expect_refused(&app).await;
        let remaining = parse_entry(&fs::read(app.folder.join(FILE)).unwrap())["until"].as_u64();
        assert!(remaining.unwrap() <= unix_seconds() + 301);
    }
    assert_eq!(logons(&upstream), 3);
}

/// A file that cannot be parsed may have contained refused logons: logons are suspended for five minutes, unless the
/// password changes.
#[tokio::test]
async fn unreadable_logon_file_suspends_logons_for_five_minutes() {
    let upstream = hmc_with_password("kanari-password-2").await;
    let valid_file = logon_file_after_refusals(&upstream, 1).await;
    let logons_before = logons(&upstream);
    let mut future: Value = serde_json::from_slice(&valid_file).unwrap();
    future["version"] = json!(2);
    let mut foreign: Value = serde_json::from_slice(&valid_file).unwrap();
    only_entry(&mut foreign)["refused"] = json!("many");
    let states = [
        Vec::new(),
        b"\0\0\0\0\0\0\0\0".to_vec(),
        b"{}".to_vec(),
        b"[]".to_vec(),
        valid_file[..valid_file.len() - 2].to_vec(),
        [valid_file.clone(), b"}".to_vec()].concat(),
        future.to_string().into_bytes(),
        foreign.to_string().into_bytes(),
        vec![b' '; 2 * 1024 * 1024],
    ];
    for state in states {
        let app = start_app(&upstream, Some(&state)).await;
        expect_refused(&app).await;
        assert_eq!(
            logons(&upstream),
            logons_before,
            "{:?}",
            &state[..state.len().min(80)]
        );
        // The suspension survives the next restart, which does not extend it.
        let file_content = fs::read(app.folder.join(FILE)).unwrap();
        let until = |state: &[u8]| {
            let state: Value = serde_json::from_slice(state).unwrap();
            state["lost_until"].as_u64().unwrap()
        };
        let app = start_app(&upstream, Some(&file_content)).await;
        expect_refused(&app).await;
        assert_eq!(logons(&upstream), logons_before);
        assert_eq!(
            until(&fs::read(app.folder.join(FILE)).unwrap()),
            until(&file_content)
        );
    }
    let app = start_app(&upstream, Some(b"no JSON")).await;
    expect_refused(&app).await;
    fs::write(app.folder.join("hmc.password"), "kanari-password-2").unwrap();
    app.delete_hmc_user(delete_by_id("id-1")).await.unwrap();
    // The suspension has ended.
    let passed = json!({"version": 1, "lost_until": unix_seconds() - 1, "hmcs": {}}).to_string();
    let app = start_app(&upstream, Some(passed.as_bytes())).await;
    expect_refused(&app).await;
    assert_eq!(logons(&upstream), logons_before + 2);
}

/// A path that is not a regular file is not read, and the server does not block on it; a folder at that path does not
/// prevent the server from serving calls.
#[tokio::test]
async fn special_file_at_logon_path_does_not_block_calls() {
    let upstream = hmc_with_password(PASSWORD).await;
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
    let upstream = hmc_with_password("another password").await;
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
