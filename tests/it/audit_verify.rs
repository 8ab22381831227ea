//! `audit verify` accepts complete logs and rejects modified ones.

mod invalid_records;

use std::{
    ffi::OsStr,
    fs,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use useradmin::{
    audit::{self, Head, VerifyOptions},
    proto::DeleteBatchNodeUserRequest,
};
use useradmin_testkit::{
    App, ForgedLog, Process, Upstream, batch_deleted, batch_request, batch_response, configure,
    sha256, token_reply_or, verify,
};

/// Returns a file written by a server, with two deletions and a validation.
async fn write_real_log() -> (PathBuf, PathBuf) {
    let upstream = Upstream::start(|received| {
        token_reply_or(received, || match received.method.as_str() {
            "DELETE" => batch_deleted(),
            _ => batch_response(200, r#"{"state":"idle"}"#),
        })
    })
    .await;
    let folder = App::folder();
    configure(&folder, &upstream.url, "");
    let process = Process::start(&folder);
    let mut client = process.client();
    for (user, validate_only) in [("alice", false), ("bob", true), ("eve", false)] {
        let request = DeleteBatchNodeUserRequest {
            validate_only,
            ..batch_request(user)
        };
        client.delete_batch_node_user(request).await.unwrap();
    }
    process.stop();
    let file = folder.join("audit.jsonl");
    (folder, file)
}

/// Returns the number of faults in a file with these bytes.
fn count_faults(file: &Path, bytes: &[u8], contains: &[Head]) -> usize {
    fs::write(file, bytes).unwrap();
    let options = VerifyOptions {
        partial: false,
        contains: contains.to_vec(),
    };
    let mut faults = 0;
    audit::verify(&[file.to_owned()], &options, |finding| {
        faults += usize::from(!finding.note);
    })
    .unwrap();
    faults
}

#[tokio::test(flavor = "multi_thread")]
async fn change_of_any_byte_is_detected() {
    let (folder, file) = write_real_log().await;
    let valid = fs::read(&file).unwrap();
    let last = valid[..valid.len() - 1]
        .rsplit(|byte| *byte == b'\n')
        .next()
        .unwrap();
    let head = Head {
        seq: 5,
        hash: sha256(last),
    };
    assert_eq!(count_faults(&file, &valid, std::slice::from_ref(&head)), 0);
    let before_last = valid.len() - 1 - last.len();
    for at in 0..valid.len() {
        let mut changed_lines = [valid.clone(), valid.clone(), valid.clone()];
        changed_lines[0][at] ^= 1 << (at % 8);
        changed_lines[1].remove(at);
        changed_lines[2].insert(at, valid[at / 2]);
        // Only one of the three per position, to limit the duration.
        let changed_lines = &changed_lines[at % 3];
        if at < before_last {
            assert!(count_faults(&file, changed_lines, &[]) > 0, "{at}");
        }
        // A change of the last line is only detected with a known head.
        assert!(
            *changed_lines == valid
                || count_faults(&file, changed_lines, std::slice::from_ref(&head)) > 0,
            "{at}"
        );
    }
    for len in 0..valid.len() {
        if len % 37 == 0 || valid[len] == b'\n' {
            assert!(
                count_faults(&file, &valid[..len], std::slice::from_ref(&head)) > 0,
                "{len}"
            );
        }
    }
    fs::remove_dir_all(folder).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn reordered_lines_are_detected() {
    let (folder, file) = write_real_log().await;
    let valid = fs::read_to_string(&file).unwrap();
    let lines: Vec<_> = valid.split_inclusive('\n').collect();
    assert_eq!(lines.len(), 5);
    let has_faults = |lines: &[&str]| count_faults(&file, lines.concat().as_bytes(), &[]) > 0;
    assert!(!has_faults(&lines));
    for at in 0..lines.len() {
        let mut changed_lines = lines.clone();
        changed_lines.remove(at);
        // A file without its newest lines is valid; only a known head shows that they are missing.
        assert_eq!(has_faults(&changed_lines), at + 1 < lines.len(), "{at}");
        for to in 0..lines.len() {
            let mut changed_lines = lines.clone();
            changed_lines.insert(to, lines[at]);
            assert!(has_faults(&changed_lines), "{at} again at {to}");
            let mut changed_lines = lines.clone();
            changed_lines.swap(at, to);
            assert_eq!(has_faults(&changed_lines), at != to, "{at} with {to}");
            let mut changed_lines = lines.clone();
            let moved = changed_lines.remove(at);
            changed_lines.insert(to, moved);
            assert_eq!(has_faults(&changed_lines), at != to, "{at} to {to}");
        }
    }
    let reversed: Vec<_> = lines.iter().rev().copied().collect();
    assert!(has_faults(&reversed));
    fs::remove_dir_all(folder).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn saved_head_detects_truncation() {
    let (folder, file) = write_real_log().await;
    let (_, out, _) = verify([&file]);
    let head = out.trim_end().rsplit(' ').next().unwrap().to_owned();
    let name = file.to_str().unwrap().to_owned();
    assert_eq!(verify([&name, "--contains", &head]).0, 0);
    // The head of an empty log.
    assert_eq!(verify([&name, "--contains", "0:"]).0, 0);
    assert_eq!(verify([&name, "--contains", &head.to_uppercase()]).0, 0);

    let valid = fs::read_to_string(&file).unwrap();
    let lines: Vec<_> = valid.split_inclusive('\n').collect();
    fs::write(&file, lines[..3].concat()).unwrap();
    assert_eq!(verify([&name]).0, 0);
    let missing = format!("{name}:3: there is no record 5, which must be here\n");
    assert_eq!(
        verify([&name, "--contains", &head]),
        (1, String::new(), missing)
    );

    // The whole file is replaced by another one with a valid chain.
    let mut log = ForgedLog::default();
    log.intent("a", "bob").outcome("a", "bob", "deleted");
    log.outcome("b", "eve", "denied")
        .outcome("c", "eve", "denied");
    log.outcome("d", "eve", "denied")
        .outcome("e", "eve", "denied");
    fs::write(&file, &log.text).unwrap();
    assert_eq!(verify([&name]).0, 0);
    assert_eq!(verify([&name, "--contains", &log.head()]).0, 0);
    let other = format!("{name}:5: record 5 is not the one that must be here\n");
    assert_eq!(
        verify([&name, "--contains", &log.head(), "--contains", &head]),
        (1, String::new(), other)
    );
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn partial_chain_requires_partial_option() {
    let folder = App::folder();
    let file = folder.join("audit.jsonl");
    let mut log = ForgedLog::default();
    log.intent("a", "bob")
        .intent("b", "eve")
        .outcome("a", "bob", "deleted");
    log.outcome("b", "eve", "deleted");
    let lines: Vec<_> = log.text.split_inclusive('\n').collect();
    fs::write(&file, lines[2..].concat()).unwrap();
    let (code, _, err) = verify([&file]);
    assert_eq!((code, err.lines().count()), (1, 4), "{err}");
    let part = [OsStr::new("--partial"), file.as_os_str()];
    let complete = format!(
        "{}: 2 records, seq 3 to 4, 0 open intents, head {}\n",
        file.display(),
        log.head()
    );
    assert_eq!(verify(part), (0, complete, String::new()));
    // `--partial` does not excuse faults within the part.
    fs::write(&file, [lines[2], lines[2]].concat()).unwrap();
    assert_eq!(verify(part).0, 1);
    fs::write(&file, "").unwrap();
    let empty = format!("{}: 0 records\n", file.display());
    assert_eq!(verify([&file]), (0, empty, String::new()));
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn unfinished_last_line_is_a_note() {
    let folder = App::folder();
    let (file, next) = (folder.join("audit.jsonl.1"), folder.join("audit.jsonl"));
    let mut log = ForgedLog::default();
    log.intent("a", "bob").outcome("a", "bob", "deleted");
    let first = log.text.find('\n').unwrap() + 1;
    for truncated in [first + 1, first + 7, first + 100, log.text.len() - 1] {
        fs::write(&file, &log.text[..truncated]).unwrap();
        let note = format!(
            "{}:2: note: the last line has no end: a server may be writing it, or a crash cut it off\n",
            file.display()
        );
        let (code, out, err) = verify([&file]);
        assert_eq!((code, err), (0, note));
        assert!(
            out.contains(": 1 records, seq 1 to 1, 1 open intents, "),
            "{out}"
        );
        // No process writes to a file that is followed by another one.
        fs::write(&next, "").unwrap();
        assert_eq!(verify([&file, &next]).0, 1);
    }
    for tail in [
        "x",
        "\0\0",
        "{\"w\"",
        "{\"v\":1}x",
        "{\"v\":1} ",
        "{\"v\":,",
    ] {
        fs::write(&file, format!("{}{tail}", log.text)).unwrap();
        assert_eq!(verify([&file]).0, 1, "{tail}");
    }
    fs::remove_dir_all(folder).unwrap();
}

#[test]
fn unreadable_file_is_not_reported_as_fault() {
    let folder = App::folder();
    let file = folder.join("audit.jsonl");
    let mut log = ForgedLog::default();
    fs::write(&file, &log.intent("a", "bob").text).unwrap();
    let name = file.to_str().unwrap();
    let (missing_file, place) = (folder.join("gone"), folder.to_str().unwrap());
    let missing_file = missing_file.to_str().unwrap();
    let short_head = log.head()[..60].to_owned();
    for (arguments, replies) in [
        (
            vec![name, missing_file],
            format!("{missing_file}: No such file or directory (os error 2)\n"),
        ),
        (
            vec![place],
            format!("{place}: Is a directory (os error 21)\n"),
        ),
        (vec![], "Usage:".to_owned()),
        (
            vec!["--contains", &short_head, name],
            "want SEQ:HASH".to_owned(),
        ),
        (vec!["--contains", "1:", name], "want SEQ:HASH".to_owned()),
        (vec!["--frobnicate", name], "Usage:".to_owned()),
    ] {
        let (code, out, err) = verify(&arguments);
        assert_eq!((code, out.as_str()), (2, ""), "{arguments:?}");
        assert!(err.contains(&replies), "{err}");
    }
    // A file name with terminal control characters.
    let misleading = folder.join(OsStr::from_bytes(b"\x1b[31m\xff\n.jsonl"));
    fs::write(&misleading, "x\n").unwrap();
    let (code, _, err) = verify([&misleading]);
    assert_eq!((code, err.lines().count()), (1, 1));
    assert!(err.contains("/\\u{1b}[31m\u{fffd}\\n.jsonl:1: "), "{err}");
    fs::remove_dir_all(folder).unwrap();
}
