//! Audit log files, read by `useradmin audit verify`, `useradmin audit reconcile` and `useradmin audit report`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process, thread,
};

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use useradmin::audit::{
    Call, Filter, Scope, Summary, VerifyOptions, report, unsettled_in_file, verify,
};

/// Separator between two files.
const SEPARATOR: &[u8] = b"\x0C\n";

thread_local! {
    static FILES: Vec<PathBuf> = {
        let name = format!("useradmin-fuzz-{}-{:?}", process::id(), thread::current().id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).expect("a folder for two files");
        ["audit.jsonl.1", "audit.jsonl"].map(|file| folder.join(file)).to_vec()
    };
}

/// Checks one file, or two files separated by [`SEPARATOR`].
pub fn audit(bytes: &[u8]) {
    let at = bytes.windows(2).position(|pair| pair == SEPARATOR);
    let parts = match at {
        Some(at) => vec![&bytes[..at], &bytes[at + 2..]],
        None => vec![bytes],
    };
    FILES.with(|files| {
        for (file, part) in files.iter().zip(&parts) {
            fs::write(file, part).expect("a file can be written");
        }
        let files = &files[..parts.len()];
        check(files, &parts, false);
        check(files, &parts, true);
    });
}

fn check(files: &[PathBuf], parts: &[&[u8]], partial: bool) {
    let mut options = VerifyOptions {
        partial,
        contains: Vec::new(),
    };
    let (errors, summary) = run_verify(files, &options, parts);
    check_report(files, parts);
    if let [file] = files {
        check_unsettled(file, errors == 0 && !partial);
    }
    let complete: Vec<&[u8]> = parts.iter().flat_map(|part| complete_lines(part)).collect();
    assert!(summary.records <= complete.len() as u64);
    if errors > 0 {
        return;
    }
    // A reader that follows the letter of docs/audit.md computes the same chain.
    assert_eq!(summary.records, complete.len() as u64);
    let mut prev = None;
    for (line, seq) in complete.iter().zip(summary.first..) {
        let record: Value = serde_json::from_slice(line).expect("a record is JSON");
        assert_eq!(record["seq"].as_u64(), Some(seq));
        let expected = prev.or_else(|| (!partial).then(String::new));
        assert!(expected.is_none_or(|expected| record["prev"].as_str() == Some(&*expected)));
        prev = Some(hash(line));
    }
    assert!(partial || complete.is_empty() || summary.first == 1);
    assert_eq!(summary.head.hash, prev.unwrap_or_default());
    assert!(summary.open <= complete.len());
    // The verification finds the head of the chain, and does not find a head with another hash.
    options.contains = vec![summary.head.clone()];
    let has_records = !complete.is_empty();
    assert_eq!(run_verify(files, &options, parts).0 == 0, has_records);
    options.contains[0].hash.push('0');
    assert!(run_verify(files, &options, parts).0 > 0);
}

/// Checks that a report without filters has every record once, and no other line.
fn check_report(files: &[PathBuf], parts: &[&[u8]]) {
    let mut printed: Vec<Vec<u8>> = Vec::new();
    let mut faults = 0;
    let print = |call: &Call| {
        printed.extend(call.lines().map(<[u8]>::to_vec));
        Ok(())
    };
    let totals = report(files, &Filter::default(), print, |_| faults += 1);
    let totals = totals.expect("the files can be read");
    assert_eq!(totals.records, printed.len() as u64);
    let lines = parts
        .iter()
        .flat_map(|part| part.split_inclusive(|byte| *byte == b'\n'));
    let mut lines: Vec<_> = lines
        .map(|line| line.strip_suffix(b"\n").unwrap_or(line))
        .collect();
    assert_eq!(lines.len(), printed.len() + faults);
    lines.sort_unstable();
    for line in &printed {
        assert!(lines.binary_search(&line.as_slice()).is_ok());
    }
}

/// Searches the file for unknown outcomes. Checks the result for a valid file.
fn check_unsettled(file: &Path, valid: bool) {
    let scope = Scope {
        is_readable: |_| true,
        with_open_intents: true,
        max: usize::MAX,
    };
    let cases = unsettled_in_file(file, scope).expect("the file can be read");
    let found: Vec<_> = cases.readable.newest.iter().collect();
    assert!(cases.readable.older == 0 && cases.not_readable.newest.is_empty());
    let text = fs::read(file).expect("the file can be read");
    // A last line without a newline may be a complete record, which `verify` does not count.
    if !valid || !text.is_empty() && !text.ends_with(b"\n") {
        return;
    }
    let mut expected = BTreeSet::new();
    let mut last: BTreeMap<String, Value> = BTreeMap::new();
    for line in complete_lines(&text) {
        let record: Value = serde_json::from_slice(line).expect("a record is JSON");
        let id = record["request_id"].as_str().expect("an ID").to_owned();
        // An unreadable user changes nothing.
        if record["outcome"] != "unreadable" {
            last.insert(id, record);
        }
    }
    for (id, record) in last {
        let outcome = record["outcome"].as_str().unwrap_or_default();
        let open = record["event"] == "intent";
        let sent = outcome == "unknown" && record["attempts"] != 0;
        if open || sent || outcome == "unknown_after_crash" {
            expected.insert(id);
        }
    }
    let ids = found.iter().map(|case| case.request_id().to_owned());
    assert_eq!(ids.collect::<BTreeSet<_>>(), expected);
    assert_eq!(found.len(), expected.len());
}

/// Returns the number of faults and the summary.
fn run_verify(files: &[PathBuf], options: &VerifyOptions, parts: &[&[u8]]) -> (usize, Summary) {
    let mut errors = 0;
    let summary = verify(files, options, |finding| {
        errors += usize::from(!finding.note);
        let at = files.iter().position(|file| file == finding.log);
        let lines = parts[at.expect("a file that was asked for")].split(|byte| *byte == b'\n');
        assert!(finding.line <= lines.count() as u64);
        assert!(finding.text.is_ascii() && !finding.text.contains('\n'));
    });
    (errors, summary.expect("the files can be read"))
}

fn complete_lines(part: &[u8]) -> Vec<&[u8]> {
    let lines = part.split_inclusive(|byte| *byte == b'\n');
    lines.filter_map(|line| line.strip_suffix(b"\n")).collect()
}

fn hash(line: &[u8]) -> String {
    let mut text = String::new();
    for byte in Sha256::digest(line) {
        write!(text, "{byte:02x}").expect("a text takes all");
    }
    text
}
