//! Checks `docs/operations.md`, which is written by hand: every metric has a row and every row a metric, and the server
//! writes the log lines that the document names.

use std::{collections::BTreeSet, fs, path::Path, sync::Arc, time::Duration};

use tonic::Code;
use useradmin::metrics::{
    CredentialState, Metrics, RequestResult, Snapshot, TargetName, TargetState,
};

const DOCUMENT: &str = include_str!("../../../docs/operations.md");

/// Returns the content of `/metrics` after each event occurred once. An event that never occurred has no line.
fn numbers() -> String {
    let metrics = Arc::new(Metrics::default());
    let mut content = metrics.reloads.content("tls");
    content.reloaded();
    content.failed();
    metrics.expect_connections(1, &["max_connections"]);
    metrics.connection_aborted("PROTOCOL_ERROR");
    metrics.unidentified("nothing_shown");
    metrics.certificate_expires("cert_file", 1);
    let second = Duration::from_secs(1);
    metrics.store.observe("append", second);
    metrics
        .calls
        .record_end("DeleteHmcUser", Code::Ok, "", second);
    let _outcomes = metrics.calls.outcomes("ibm_hmc", "hmc");
    let requests = metrics.upstreams.requests("ibm_hmc", "hmc");
    requests.record_request("logon", RequestResult::Status(200), second);
    requests.record_renewal("session", true);
    let credential = CredentialState {
        kind: "token",
        age: second,
        expires_in: Some(second),
    };
    let state = TargetState {
        api_version: Some("2023-11-01.18.0"),
        credential: Some(credential),
        ..TargetState::default()
    };
    metrics.text(&Snapshot {
        targets: vec![(TargetName::default(), state)],
        ..Snapshot::default()
    })
}

#[test]
fn metrics_table_matches_exported_metrics() {
    let actual = numbers();
    let families = actual
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "));
    let names: BTreeSet<_> = families
        .map(|family| match family.split_once(' ').unwrap() {
            (name, "counter") => format!("{name}_total"),
            (name, "info") => format!("{name}_info"),
            (name, _) => name.to_owned(),
        })
        .collect();
    let rows = DOCUMENT.lines().filter_map(|line| line.strip_prefix("| `"));
    let rows: BTreeSet<_> = rows
        .map(|row| row.split('`').next().unwrap().to_owned())
        .filter(|name| {
            let of = ["grpc_server_", "process_", "useradmin_"];
            of.iter().any(|prefix| name.starts_with(prefix))
        })
        .collect();
    assert!(rows.len() > 40, "{rows:?}");
    if cfg!(target_os = "linux") {
        assert_eq!(rows, names);
    }
}

#[test]
fn links_point_to_existing_sections() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let headings = DOCUMENT.lines().filter(|line| line.starts_with('#'));
    let anchors: BTreeSet<_> = headings
        .map(|line| {
            let text = line.trim_start_matches('#').trim().to_lowercase();
            let kept = |c: &char| c.is_alphanumeric() || " -_".contains(*c);
            text.chars()
                .filter(kept)
                .collect::<String>()
                .replace(' ', "-")
        })
        .collect();
    let links = DOCUMENT.split("](").skip(1);
    let targets = links.map(|link| link.split(')').next().unwrap());
    let mut count = 0;
    for target in targets.filter(|target| !target.starts_with("https://")) {
        count += 1;
        let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
        assert!(fs::exists(docs.join(file)).unwrap(), "{target}");
        let own = file.is_empty();
        assert!(!own || anchors.contains(anchor), "{target}");
    }
    assert!(count > 10);
}
