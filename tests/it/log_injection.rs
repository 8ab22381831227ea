//! The lines of the log and of the audit log, with hostile texts in every field that callers and upstreams fill. Each
//! line is one JSON object, the number of lines is right, and no character hides, breaks or reorders text.

use std::{
    fs::{self, File},
    path::Path,
    process::{Command, Stdio},
};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::task::spawn_blocking;
use tonic::Code;
use useradmin::proto::{DeleteBatchNodeUserRequest, DeleteHmcUserRequest};
use useradmin_testkit::{
    App, CallFailure, Process, ReceivedRequest, Reply, Step, Upstream, batch_document,
    batch_request, batch_response, batch_section, canary, default_reply, delete_by_id,
    delete_by_name, hmc_section, token_reply_or,
};

/// Characters that can mislead readers: C1 controls and DEL, line and paragraph separators, bidirectional controls,
/// zero-width characters, annotation characters and tags.
const MISLEADING: [(u32, u32); 12] = [
    (0x7F, 0x9F),
    (0xAD, 0xAD),
    (0x61C, 0x61C),
    (0x180E, 0x180E),
    (0x200B, 0x200F),
    (0x2028, 0x202E),
    (0x2060, 0x206F),
    (0xFE00, 0xFE0F),
    (0xFEFF, 0xFEFF),
    (0xFFF9, 0xFFFB),
    (0xE0001, 0xE0001),
    (0xE0020, 0xE007F),
];

fn is_misleading(c: char) -> bool {
    MISLEADING
        .iter()
        .any(|(first, last)| (*first..=*last).contains(&u32::from(c)))
}

/// Returns a text for every eighth of these characters, and texts that try to end the line or the field.
fn hostile_texts() -> Vec<String> {
    let misleading = MISLEADING
        .iter()
        .flat_map(|(first, last)| (*first..=*last).step_by(8));
    let misleading = misleading
        .filter_map(char::from_u32)
        .map(|c| format!("ev{c}il"));
    let misleading_texts = [
        "a\n{\"event\":\"outcome\",\"outcome\":\"deleted\"}\n",
        "a\r\n",
        "\",\"caller\":\"root",
        "\u{1B}[2K\u{1B}[1A",
        "\\u202e\\",
        "\u{0}",
        "}\u{85}{",
    ];
    let long = ["é".repeat(1_000), "\u{202E}".repeat(20_000)];
    misleading
        .chain(misleading_texts.map(str::to_owned))
        .chain(long)
        .collect()
}

/// Returns the number at the end of a path segment: the index of the text that this request is about.
fn text_index(request: &ReceivedRequest) -> usize {
    let path = request.target.split('?').next().unwrap();
    let digits = path.rsplit('-').next().unwrap();
    digits.parse().unwrap()
}

/// Starts an upstream of both kinds, with the texts in the state of a node, in names of users, messages, codes and
/// headers.
async fn upstream() -> Upstream {
    let texts = hostile_texts();
    Upstream::start(move |request| {
        let id = "r".repeat(1_000);
        match Step::of(request) {
            Step::Read => Reply::json(
                200,
                &json!({"name": texts[text_index(request)]}).to_string(),
            ),
            Step::List => Reply::json(200, r#"{"users":[]}"#),
            Step::Delete => {
                let message = &texts[text_index(request)];
                let body = json!({"http-status": 409, "reason": 317, "message": message});
                Reply::json(409, &body.to_string())
            }
            Step::Other => token_reply_or(request, || {
                if request.method == "GET" {
                    let state = &texts[text_index(request)];
                    return batch_response(200, &json!({"state": state}).to_string());
                }
                let text = &texts[0];
                let body = batch_document(text, text, &[(text, text)]);
                Reply::json(409, &body).with_header("request-id", &id)
            }),
            _ => default_reply(request, 1),
        }
    })
    .await
}

/// Makes the calls about one text. Returns the number of calls and the number of their records.
async fn call(program: &Process, at: usize, text: &str) -> (usize, usize) {
    // Each text has a separate source address, because further refusals of one address would be summarized.
    let source = u8::try_from(at + 1).unwrap();
    let mut client = program.client_from([127, 0, 0, source]);
    let to_text = |text: &str| text.to_owned();
    let batch = [
        batch_request(text),
        DeleteBatchNodeUserRequest {
            node_id: format!("node-{at}"),
            validate_only: true,
            ..batch_request("alice")
        },
        DeleteBatchNodeUserRequest {
            account: to_text(text),
            ..batch_request("alice")
        },
        DeleteBatchNodeUserRequest {
            pool_id: to_text(text),
            ..batch_request("alice")
        },
        DeleteBatchNodeUserRequest {
            client_request_id: to_text(text),
            ..batch_request("alice")
        },
    ];
    let hmc = [
        delete_by_id(&format!("id-{at}")),
        delete_by_name(text),
        delete_by_id(text),
        DeleteHmcUserRequest {
            hmc: to_text(text),
            ..delete_by_name("alice")
        },
    ];
    let (mut calls, mut records) = (0, 0);
    let mut note = |failure: &CallFailure, validate_only: bool| {
        calls += 1;
        if failure.code != Code::InvalidArgument {
            records += if validate_only { 1 } else { 2 };
        }
    };
    for request in batch {
        let validate_only = request.validate_only;
        let failure = client.delete_batch_node_user(request).await.unwrap_err();
        note(&CallFailure::from(failure), validate_only);
    }
    for request in hmc {
        let failure = client.delete_hmc_user(request).await.unwrap_err();
        note(&CallFailure::from(failure), false);
    }
    (calls, records)
}

/// Returns the JSON objects in the lines of a file.
fn read_objects(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).unwrap();
    let raw = text
        .chars()
        .find(|c| is_misleading(*c) || (*c < ' ' && *c != '\n'));
    assert_eq!(raw, None, "{}", file.display());
    assert!(text.ends_with('\n'));
    let lines = text.lines().map(serde_json::from_str::<Value>);
    let objects: Vec<Value> = lines.map(Result::unwrap).collect();
    objects.iter().for_each(check_lengths);
    objects
}

/// Asserts that no text is longer than the maximum length of quoted texts.
fn check_lengths(value: &Value) {
    match value {
        Value::String(text) => assert!(text.len() <= 256, "{text}"),
        Value::Object(object) => object.values().for_each(check_lengths),
        Value::Array(_) => panic!("{value}"),
        _ => {}
    }
}

const CALLERS: &str = r#"
[server]
listen = "127.0.0.1:0"
admin_listen = ""
[[callers]]
identity = "anonymous"
allow = [{ rpc = "DeleteBatchNodeUser", targets = ["*"] }, { rpc = "DeleteHmcUser", targets = ["*"] }]
"#;

#[tokio::test]
async fn hostile_texts_cannot_forge_or_hide_log_lines() {
    let folder = App::folder();
    let upstream = upstream().await;
    let sections = [batch_section, hmc_section].map(|section| section(&folder, &upstream.url));
    let config = folder.join("useradmin.toml");
    fs::write(&config, format!("{CALLERS}{}", sections.concat())).unwrap();
    let (log, audit) = (folder.join("log"), folder.join("audit.jsonl"));
    let arguments = ["serve", "--config", config.to_str().unwrap()];
    let level = "\u{202E}no level\u{2028}".repeat(100);
    let program = Process::start_with_log(&arguments, File::create(&log).unwrap(), &level);

    let (mut calls, mut records) = (0, 0);
    for (at, text) in hostile_texts().iter().enumerate() {
        let (called, audit_values) = call(&program, at, text).await;
        calls += called;
        records += audit_values;
    }
    assert!(calls > 300, "{calls}");
    // Runs on another thread, so that the upstream can respond to the log-off meanwhile.
    let stopped = spawn_blocking(move || program.stop_with("TERM"))
        .await
        .unwrap();
    assert_eq!(stopped.0, Some(0));

    let lines = read_objects(&log);
    let message = |line: &Value| line["message"].as_str().unwrap().to_owned();
    let (actual, others): (Vec<_>, Vec<_>) = lines
        .iter()
        .map(message)
        .partition(|message| message == "call ended");
    assert_eq!(actual.len(), calls);
    let expected = [
        "invalid RUST_LOG ignored",
        "audit log opened",
        "server started",
        "drain started",
        "server stopped",
    ];
    assert_eq!(others, expected);
    assert!(level.starts_with(lines[0]["value"].as_str().unwrap()));
    // A field of the same name would replace it.
    assert_eq!(lines[0]["level"], "WARN");
    let audit_values = read_objects(&audit);
    assert_eq!(audit_values.len(), records);
    // The unescaped text is the original one.
    for (at, text) in hostile_texts().iter().enumerate() {
        let id = format!("id-{at}");
        let mut users = audit_values
            .iter()
            .filter(|record| record["identifiers"]["user_id"] == id);
        let user = users.next_back().unwrap()["user"].as_str().unwrap();
        assert!(
            text.starts_with(user) && (user.len() > 250 || user == text),
            "{user:?}"
        );
    }
    // The hash chain covers the bytes of the file.
    let text = fs::read_to_string(&audit).unwrap();
    for (line, next) in text.lines().zip(&audit_values[1..]) {
        let hash = Sha256::digest(line);
        let hash: Vec<_> = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(next["prev"], hash.concat());
    }
    fs::remove_dir_all(folder).unwrap();
}

/// Set in the process that the next test starts.
const PANIC: &str = "USERADMIN_TEST_PANIC";

/// Does nothing in the process of the test suite.
#[test]
fn panic_in_child_process() {
    if std::env::var_os(PANIC).is_some() {
        let _log = useradmin::telemetry::start(None).unwrap();
        panic!("\u{202E}of {}\nin two lines", canary::PASSWORD);
    }
}

#[test]
fn panic_is_logged_without_its_message() {
    let output = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "log_injection::panic_in_child_process",
            "--nocapture",
        ])
        .env(PANIC, "1")
        .env("RUST_LOG", "trace")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(!output.status.success());
    let err = String::from_utf8(output.stderr).unwrap();
    let lines: Vec<Value> = err
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 1, "{err}");
    assert_eq!(lines[0]["message"], "thread panicked");
    assert!(
        lines[0]["location"]
            .as_str()
            .unwrap()
            .starts_with("tests/it/log_injection.rs:")
    );
    assert_eq!(canary::find(&err), None);
}
