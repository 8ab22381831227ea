//! The program: its exit codes, its line on standard output, its signals.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use tonic::Code;
use useradmin::proto::DeleteBatchNodeUserRequest;
use useradmin_testkit::{App, Process, batch_request, configure, run, write_secret};

/// Creates a folder with a configuration file. Returns both paths.
fn write_configuration(text: &str) -> (PathBuf, PathBuf) {
    let folder = App::folder();
    let file = folder.join("useradmin.toml");
    fs::write(&file, text).unwrap();
    write_secret(&folder.join("password"), "secret");
    (folder, file)
}

const SOUND: &str = r#"
[server]
listen = "127.0.0.1:0"
admin_listen = "127.0.0.1:0"
[hmcs.h]
url = "https://hmc.example:6794"
userid = "u"
password_file = "password"
[[callers]]
identity = "anonymous"
allow = [{ rpc = "DeleteHmcUser", targets = ["h"] }]
"#;

fn path_text(file: &Path) -> &str {
    file.to_str().unwrap()
}

#[test]
fn check_config_prints_every_error() {
    let (folder, file) = write_configuration(SOUND);
    let (code, out, err) = run(&["check-config", "--config", path_text(&file)]);
    assert_eq!((code, out.as_str(), err.as_str()), (0, "", ""));

    fs::write(&file, SOUND.replace("password\"", "gone\"")).unwrap();
    let file = path_text(&file);
    // A value that names no file may be the password itself, so it is not shown.
    let expected = format!(
        "{file}:8:17: `password_file` cannot be used: No such file or directory (os error 2) \
         (relative paths start at {})\n\
         password_file = ...\n                ^\n",
        folder.display()
    );
    for command in ["check-config", "serve"] {
        let (code, out, err) = run(&[command, "--config", file]);
        assert_eq!((code, out.as_str(), &err), (2, "", &expected));
    }
    fs::remove_dir_all(folder).unwrap();

    for command in ["check-config", "serve"] {
        let (code, out, err) = run(&[command, "--config", file]);
        assert_eq!((code, out.as_str()), (2, ""));
        let expected = "1:1: cannot be read: No such file or directory (os error 2)\n";
        assert_eq!(err, format!("{file}:{expected}"));
    }
}

#[test]
fn invalid_arguments_are_rejected() {
    for arguments in [
        &["serve"][..],
        &["serve", "--sandbox", "--config", "x"],
        &["serve", "--config", "x", "--listen", "127.0.0.1:0"],
        &["check-config"],
        &["serve", "--config", "x", "--secure", "y"],
        &["serve", "--config", "x", "--admin-listen", "127.0.0.1:0"],
        &["protoset", "x"],
        &["man"],
        &["completions"],
        &["frobnicate"],
        &[],
    ] {
        let (code, out, err) = run(arguments);
        assert_eq!((code, out.as_str()), (2, ""), "{arguments:?}");
        assert!(err.contains("Usage:"), "{err}");
    }
}

#[test]
fn sandbox_serves_until_signal() {
    for signal in ["TERM", "INT"] {
        let arguments = ["serve", "--sandbox", "--listen", "127.0.0.1:0"];
        let serving = Process::start_with_log(&arguments, Stdio::null(), "");
        let address = serving.address.clone();
        let (code, out, err) = run(&["health", "--addr", &address]);
        assert_eq!((code, out.as_str(), err.as_str()), (0, "", ""));
        assert_eq!(serving.stop_with(signal), (Some(0), String::new()));
        let (code, out, err) = run(&["health", "--addr", &address]);
        assert_eq!((code, out.as_str()), (1, ""));
        assert!(err.contains(&address), "{err}");
    }
}

/// Returns the error in the last line of the log of a server that cannot start.
fn start_error(arguments: &[&str]) -> String {
    let (code, out, err) = run(&[&["serve"], arguments].concat());
    assert_eq!((code, out.as_str()), (1, ""));
    let last: serde_json::Value = serde_json::from_str(err.lines().last().unwrap()).unwrap();
    last["error"].as_str().unwrap().to_owned()
}

/// Readiness does not wait for upstreams, and the health check does not depend on them.
#[test]
fn server_is_ready_without_upstreams() {
    let (folder, file) = write_configuration(SOUND);
    let serving =
        Process::start_with_log(&["serve", "--config", path_text(&file)], Stdio::null(), "");
    let (code, ..) = run(&["health", "--addr", &serving.address]);
    assert_eq!(code, 0);

    // SIGHUP makes the server check its files.
    serving.signal("HUP");
    let (code, ..) = run(&["health", "--addr", &serving.address]);
    assert_eq!(code, 0);

    // A port that is in use is not an error of the configuration.
    let address = serving.address.as_str();
    let in_use = "Address already in use (os error 98)";
    for key in ["listen", "admin_listen"] {
        let free = format!("\n{key} = \"127.0.0.1:0\"");
        let key_line = format!("\n{key} = \"{address}\"");
        fs::write(&file, SOUND.replacen(&free, &key_line, 1)).unwrap();
        let expected = format!(
            "cannot listen on {address} ({key}): {in_use}; set `{key}` in [server] to another address"
        );
        assert_eq!(start_error(&["--config", path_text(&file)]), expected);

        let option = format!("--{}", key.replace('_', "-"));
        let ports = match key {
            "listen" => vec!["--sandbox", &option, address],
            _ => vec!["--sandbox", "--listen", "127.0.0.1:0", &option, address],
        };
        let expected = format!(
            "cannot listen on {address} ({key}): {in_use}; pass another address with {option}"
        );
        assert_eq!(start_error(&ports), expected);
    }

    assert_eq!(serving.stop_with("TERM"), (Some(0), String::new()));
    fs::remove_dir_all(folder).unwrap();
}

/// The log line of a call that was refused before a request was sent has the ID that the caller chose, if that is a
/// valid ID.
#[tokio::test]
async fn refused_call_is_logged_with_callers_trace_id() {
    let folder = App::folder();
    configure(&folder, "http://127.0.0.1:1", "");
    let serving = Process::start(&folder);
    let id = "628a2a0c-d7d7-4a2f-9133-0367c202f8b4";
    for chosen in [id, "", "no id"] {
        let request = DeleteBatchNodeUserRequest {
            pool_id: String::new(),
            client_request_id: chosen.to_owned(),
            ..batch_request("alice")
        };
        let call = serving.client().delete_batch_node_user(request).await;
        assert_eq!(call.unwrap_err().code(), Code::InvalidArgument);
    }
    // A call with an unreadable message is logged as well.
    let unreadable = DeleteBatchNodeUserRequest {
        user_name: "x".repeat(100_000),
        ..batch_request("alice")
    };
    let call = serving.client().delete_batch_node_user(unreadable).await;
    assert_eq!(call.unwrap_err().code(), Code::InvalidArgument);
    serving.stop();
    let mut calls = Process::log_records(&folder, "call ended");
    let unreadable = calls.pop().unwrap();
    assert_eq!(unreadable["reason"], "ERROR_REASON_INVALID_REQUEST");
    assert_eq!(unreadable["code"], "InvalidArgument");
    let ids: Vec<_> = calls
        .iter()
        .map(|line| &line["client_request_id"])
        .collect();
    assert_eq!(ids, [id, "", ""]);
    fs::remove_dir_all(folder).unwrap();
}

/// The service continues if the reader of the log disconnects or its file system is full.
#[test]
fn unwritable_log_does_not_stop_server() {
    let (folder, file) = write_configuration(SOUND);
    let full_device = fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let serving =
        Process::start_with_log(&["serve", "--config", path_text(&file)], full_device, "");
    let (code, ..) = run(&["health", "--addr", &serving.address]);
    assert_eq!(code, 0);
    assert_eq!(serving.stop_with("TERM"), (Some(0), String::new()));
    fs::remove_dir_all(folder).unwrap();
}
