//! The formats of the log: the same order of keys in each JSON line, text in a terminal or by option, no control
//! characters in either, and the line about the start.

use std::{
    fs::{self, File, OpenOptions},
    io::Read as _,
    os::fd::OwnedFd,
    path::Path,
    process::Stdio,
};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde_json::Value;
use useradmin_testkit::{
    App, Process, Signer, batch_request, batch_section, configure, hmc_section, pki::Authority,
};

use crate::{
    authorization,
    callers::{issuer_section, tls_section},
};

/// Texts that would change a terminal, or add a line.
const HOSTILE: [&str; 4] = ["a\u{1B}[2Kb", "a\nb", "a\u{202E}b", "a\u{85}b"];

/// Starts a server with the configuration in this folder and these options, which logs to `log`.
fn start_server(folder: &Path, options: &[&str], log: impl Into<Stdio>) -> Process {
    let file = folder.join("useradmin.toml");
    let arguments = [&["serve", "--config", file.to_str().unwrap()], options].concat();
    Process::start_with_log(&arguments, log, "info")
}

/// Makes calls with hostile names of targets and users.
async fn call(process: &Process) {
    let mut client = process.client();
    for text in HOSTILE {
        let mut request = batch_request(text);
        client
            .delete_batch_node_user(request.clone())
            .await
            .unwrap_err();
        text.clone_into(&mut request.account);
        client.delete_batch_node_user(request).await.unwrap_err();
    }
    client
        .delete_batch_node_user(batch_request("alice"))
        .await
        .unwrap();
}

/// Asserts that the log is text in lines that no text of a caller has changed.
#[track_caller]
fn expect_text(log: &str) {
    let raw = log.chars().find(|c| c.is_control() && !"\r\n".contains(*c));
    assert_eq!(raw, None, "{log}");
    for line in log.lines() {
        let mut words = line.split_whitespace();
        assert!(words.next().unwrap().ends_with('Z'), "{line}");
        assert!(["INFO", "WARN"].contains(&words.next().unwrap()), "{line}");
    }
    let count = |text: &str| log.lines().filter(|line| line.contains(text)).count();
    assert_eq!(count(" INFO server started version="), 1, "{log}");
    assert_eq!(
        count(" INFO call ended target="),
        2 * HOSTILE.len() + 1,
        "{log}"
    );
    assert_eq!(
        count(" INFO call ended target=\"batch\" request_id="),
        HOSTILE.len() + 1,
        "{log}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn json_lines_start_with_the_same_keys() {
    let (upstream, folder) = (authorization::upstream().await, App::folder());
    configure(&folder, &upstream.url, "");
    let log = folder.join("log");
    for options in [&[][..], &["--log-format", "json"]] {
        let process = start_server(&folder, options, File::create(&log).unwrap());
        call(&process).await;
        process.stop();
        let text = fs::read_to_string(&log).unwrap();
        for line in text.lines() {
            let object: serde_json::Map<String, Value> = serde_json::from_str(line).unwrap();
            // The library that reads the line sorts keys, so their order is that of their texts.
            let mut keys: Vec<&str> = object.keys().map(String::as_str).collect();
            keys.sort_by_key(|key| line.find(&format!("\"{key}\":")));
            assert_eq!(keys[..3], ["timestamp", "level", "message"], "{line}");
            assert_eq!(keys.last(), Some(&"module"), "{line}");
            assert!(
                !object.contains_key("target") || keys[3] == "target",
                "{line}"
            );
        }
        let calls = Process::log_records(&folder, "call ended");
        assert_eq!(calls.len(), 2 * HOSTILE.len() + 1);
        assert_eq!(calls.last().unwrap()["target"], "batch");
    }
    fs::remove_dir_all(folder).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn log_is_text_in_terminal_or_by_option() {
    let (upstream, folder) = (authorization::upstream().await, App::folder());
    configure(&folder, &upstream.url, "");
    let log = folder.join("log");
    let process = start_server(
        &folder,
        &["--log-format", "text"],
        File::create(&log).unwrap(),
    );
    call(&process).await;
    process.stop();
    expect_text(&fs::read_to_string(&log).unwrap());

    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&terminal).unwrap();
    unlockpt(&terminal).unwrap();
    let name = ptsname(&terminal, Vec::new()).unwrap();
    let reader = std::thread::spawn(|| read_all(terminal));
    let other_end = OpenOptions::new().write(true).open(name.to_str().unwrap());
    let process = start_server(&folder, &[], other_end.unwrap());
    call(&process).await;
    process.stop();
    expect_text(&reader.join().unwrap());
    fs::remove_dir_all(folder).unwrap();
}

/// Reads the output to a terminal until its other end is closed, which is an error on Linux.
fn read_all(terminal: OwnedFd) -> String {
    let (mut text, mut buffer) = (Vec::new(), [0; 4096]);
    let mut terminal = File::from(terminal);
    while let Ok(length @ 1..) = terminal.read(&mut buffer) {
        text.extend(&buffer[..length]);
    }
    String::from_utf8(text).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn server_start_is_logged_in_one_line() {
    let (upstream, folder) = (authorization::upstream().await, App::folder());
    let authority = Authority::new();
    let targets = batch_section(&folder, &upstream.url) + &hmc_section(&folder, &upstream.url);
    let server_section = "[server]\nlisten = \"127.0.0.1:0\"\nadmin_listen = \"\"\n".to_owned();
    let tls = tls_section(&folder, &authority, "");
    let issuer = issuer_section(&folder, &Signer::es256("key"));
    let caller = "[[callers]]\nidentity = \"anonymous\"\nallow = []\n";
    for (text, tls, auth, callers) in [
        (server_section.clone(), false, "none", 0),
        (server_section.clone() + caller, false, "none", 1),
        (server_section + &issuer, false, "token", 0),
        (
            tls.replacen("client_ca_file = \"clients.pem\"\n", "", 1),
            true,
            "none",
            0,
        ),
        (tls.clone(), true, "certificate", 0),
        (tls + &issuer, true, "certificate or token", 0),
    ] {
        let file = folder.join("useradmin.toml");
        fs::write(&file, text + &targets).unwrap();
        let process = Process::start(&folder);
        let address = process.address.clone();
        process.stop();
        let lines = Process::log_records(&folder, "server started");
        let [line] = &lines[..] else {
            panic!("{lines:?}");
        };
        assert_eq!(line["version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(line["config"], file.to_str().unwrap());
        assert_eq!(line["listen"], address);
        assert_eq!((&line["tls"], &line["auth"]), (&tls.into(), &auth.into()));
        let admin = line["admin_listen"].as_str().unwrap();
        assert_eq!(admin.starts_with("127.0.0.1:"), tls, "{admin}");
        assert!(tls || admin == "off", "{admin}");
        assert_eq!(line["targets"], "batch_accounts: 1, hmcs: 1");
        assert_eq!(line["callers"], callers);
        fs::remove_file(folder.join("log")).unwrap();
    }
    fs::remove_dir_all(folder).unwrap();
}
