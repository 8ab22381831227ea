//! Continuation of the hash chain across restarts, for any content at the end of the file.

use std::{fs, path::Path};

use serde_json::Value;
use useradmin_testkit::{
    App, ForgedLog, Process, batch_request, configure, lines, records, sha256, values_of, verify,
};

use crate::authorization::upstream;

/// Starts a server, deletes one user, and stops the server.
async fn delete_one_user(folder: &Path) {
    let process = Process::start(folder);
    let mut client = process.client();
    client
        .delete_batch_node_user(batch_request("alice"))
        .await
        .unwrap();
    process.stop();
}

/// Creates a folder with the configuration of a server and this audit log.
fn folder_with_log(log: &[u8], url: &str) -> std::path::PathBuf {
    let folder = App::folder();
    configure(&folder, url, "");
    fs::write(folder.join("audit.jsonl"), log).unwrap();
    folder
}

/// Asserts that each `prev` is the hash of the previous line, even if that line is not a record.
fn check_links(file: &Path) {
    let mut previous_hash = String::new();
    for line in fs::read(file).unwrap().split(|byte| *byte == b'\n') {
        let record: Value = serde_json::from_slice(line).unwrap_or_default();
        if let Some(prev) = record["prev"].as_str() {
            assert_eq!(prev, previous_hash);
        }
        previous_hash = sha256(line);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn chain_continues_after_restart() {
    let upstream = upstream().await;
    let folder = folder_with_log(b"", &upstream.url);
    let file = folder.join("audit.jsonl");
    for _ in 0..3 {
        delete_one_user(&folder).await;
    }
    let seqs: Vec<_> = records(&file)
        .iter()
        .map(|record| record["seq"].as_u64())
        .collect();
    assert_eq!(seqs, (1..=6).map(Some).collect::<Vec<_>>());
    check_links(&file);
    // `--contains` accepts the heads that the server logs.
    let heads = [
        values_of(&Process::log_records(&folder, "audit log opened"), "head"),
        values_of(
            &Process::log_records(&folder, "server stopped"),
            "audit_head",
        ),
    ];
    assert_eq!(heads[0][1..], heads[1][..2]);
    assert_eq!(heads[0][0], "0:");
    let last = format!("6:{}", sha256(lines(&file)[5].as_bytes()));
    assert_eq!(heads[1][2], last);
    let name = file.to_str().unwrap();
    let all = heads[1].iter().flat_map(|head| ["--contains", head]);
    let replies = verify(all.chain([name]));
    let expected_output = format!("{name}: 6 records, seq 1 to 6, 0 open intents, head {last}\n");
    assert_eq!(replies, (0, expected_output, String::new()));
    fs::remove_dir_all(folder).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn incomplete_line_is_truncated_and_foreign_lines_are_kept() {
    let upstream = upstream().await;
    let mut valid = ForgedLog::default();
    valid.intent("a", "bob").outcome("a", "bob", "deleted");
    let unfinished = ForgedLog::default().intent("b", "eve").text[..200].to_owned();
    let unfinished = unfinished.as_str();
    // The bytes after the two records, the number of bytes that are cut off, and whether the file is valid afterwards.
    let nul = "\0".repeat(5_000);
    let tails: [(&str, usize, bool); 9] = [
        ("", 0, true),
        ("{", 1, true),
        ("{\"v\":", 5, true),
        (unfinished, 200, true),
        (&nul, 5_000, true),
        (&format!("{unfinished}\0\0"), 202, true),
        ("somebody else", 0, false),
        ("{\"w\":1", 0, false),
        ("a line\n\0\0\n{\"v\":1}\n", 0, false),
    ];
    for (tail, truncated, expected_output) in tails {
        let folder = folder_with_log(format!("{}{tail}", valid.text).as_bytes(), &upstream.url);
        let file = folder.join("audit.jsonl");
        delete_one_user(&folder).await;
        let text = fs::read_to_string(&file).unwrap();
        let kept = &tail[..tail.len() - truncated];
        assert!(text.starts_with(&format!("{}{kept}", valid.text)), "{text}");
        assert!(!text.contains("\n\n"), "{text}");
        let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        assert_eq!((&last["seq"], &last["user"]), (&4.into(), &"alice".into()));
        check_links(&file);
        let warnings = Process::log_records(&folder, "unfinished audit record removed");
        let bytes: Vec<_> = warnings.iter().map(|line| line["bytes"].clone()).collect();
        assert_eq!(
            bytes,
            if truncated > 0 {
                vec![truncated]
            } else {
                vec![]
            },
            "{tail}"
        );
        let (code, _, err) = verify([&file]);
        assert_eq!(code, i32::from(!expected_output), "{tail}: {err}");
        fs::remove_dir_all(folder).unwrap();
    }
    // If only the newline of a record is missing, it is added.
    let folder = folder_with_log(valid.text.trim_end().as_bytes(), &upstream.url);
    delete_one_user(&folder).await;
    let file = folder.join("audit.jsonl");
    assert_eq!(records(&file).len(), 4);
    assert_eq!(verify([&file]).0, 0);
    fs::remove_dir_all(folder).unwrap();
}

/// Neither long lines nor a file without any record stop the service.
#[tokio::test(flavor = "multi_thread")]
async fn chain_starts_after_foreign_content() {
    let upstream = upstream().await;
    let long = format!("{}\n", "x".repeat(3_000_000));
    let long_torn = format!("{{\"v\":1,{}", "x".repeat(3_000_000));
    let bytes: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    for log in [long.as_bytes(), long_torn.as_bytes(), b"\n\n", &bytes] {
        let folder = folder_with_log(log, &upstream.url);
        let file = folder.join("audit.jsonl");
        delete_one_user(&folder).await;
        let text = fs::read(&file).unwrap();
        let lines: Vec<_> = text.trim_ascii_end().split(|byte| *byte == b'\n').collect();
        let last: Value = serde_json::from_slice(lines[lines.len() - 1]).unwrap();
        assert_eq!(last["seq"], 2);
        check_links(&file);
        let torn = log == long_torn.as_bytes();
        assert_eq!(verify([&file]).0, i32::from(!torn));
        fs::remove_dir_all(folder).unwrap();
    }
}
