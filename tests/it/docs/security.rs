//! Checks that everything exists that `docs/security.md`, which is written by hand, names: causes, reasons, metrics,
//! keys, log messages and link targets. The tests in `config.rs` cover its examples, and `.ci/security.sh` its
//! commands.

use std::{collections::BTreeSet, fs, path::Path, sync::Arc};

use useradmin::{
    access::authentication_error::AuthenticationError,
    config::KEYS,
    metrics::{Metrics, Snapshot},
    proto::ErrorReason,
};

const DOCUMENT: &str = include_str!("../../../docs/security.md");

/// Log messages that the document asks the reader to look for.
const LOGGED: [&str; 5] = [
    "TLS handshake failed",
    "files reloaded",
    "file reload failed",
    "issuer keys not read",
    "restart needed for changed keys",
];

/// Words in backquotes that look like keys of the configuration but are not.
const NO_KEYS: [&str; 16] = [
    "aadsts_code",
    "access_as_user",
    "assertion_rejected",
    "caller_gone",
    "interaction_required",
    "key_id",
    "no_bearer_token",
    "not_sent",
    "nothing_shown",
    "on_behalf_of",
    "request_id",
    "upstream_identity",
    "user_id",
    "user_impersonation",
    "user_name",
    "validate_only",
];

/// Returns the texts in backquotes outside of code blocks.
fn quoted_names() -> BTreeSet<&'static str> {
    let mut inside = false;
    let prose = DOCUMENT.lines().filter(|line| {
        let fence = line.starts_with("```");
        inside ^= fence;
        !inside && !fence
    });
    // A quotation may continue on the next line, but none of those checked here does.
    prose
        .flat_map(|line| line.split('`').skip(1).step_by(2))
        .collect()
}

#[test]
fn every_cause_is_documented_in_security_guide() {
    let rows = DOCUMENT
        .lines()
        .skip_while(|line| !line.starts_with("| `cause`"));
    let rows = rows.take_while(|line| line.starts_with('|')).skip(2);
    let named_items: Vec<_> = rows
        .flat_map(|row| row.split('|').nth(1).unwrap().split('`').skip(1).step_by(2))
        .collect();
    assert_eq!(
        named_items,
        AuthenticationError::ALL.map(AuthenticationError::as_str)
    );
}

#[test]
fn named_metrics_exist() {
    let metrics = Arc::new(Metrics::default());
    let mut content = metrics.reloads.content("tls");
    content.reloaded();
    content.failed();
    metrics.unidentified("nothing_shown");
    let text = metrics.text(&Snapshot::default());
    let named_items: BTreeSet<_> = quoted_names()
        .into_iter()
        .flat_map(|text| text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_'))
        .filter(|word| word.starts_with("useradmin_"))
        .collect();
    assert!(!named_items.is_empty());
    for name in named_items {
        let line = text.lines().find(|line| {
            let end = line.strip_prefix(name);
            end.is_some_and(|end| end.starts_with(['{', ' ']))
        });
        assert!(line.is_some(), "{name} in\n{text}");
    }
}

#[test]
fn named_reasons_keys_and_log_lines_exist() {
    for word in DOCUMENT.split(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
        if word.starts_with("ERROR_REASON_") || word.starts_with("CALLER_") {
            let name = format!("ERROR_REASON_{}", word.trim_start_matches("ERROR_REASON_"));
            assert!(ErrorReason::from_str_name(&name).is_some(), "{word}");
        }
    }
    let causes = AuthenticationError::ALL.map(AuthenticationError::as_str);
    for word in quoted_names() {
        let name = word.split(' ').next().unwrap_or_default();
        let like_a_key = name.contains('_')
            && !name.starts_with("useradmin_")
            && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        let is_key = KEYS.iter().any(|key| key.name == name);
        assert!(
            !like_a_key || is_key || causes.contains(&name) || NO_KEYS.contains(&name),
            "{word}"
        );
    }
    let sources = source_text(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    let flowing = DOCUMENT.split_whitespace().collect::<Vec<_>>().join(" ");
    for text in LOGGED {
        assert!(flowing.contains(text), "not documented: {text}");
        assert!(sources.contains(text), "not logged: {text}");
    }
}

fn source_text(folder: &Path) -> String {
    let entries = fs::read_dir(folder).unwrap();
    let read_text = |path: &Path| {
        if path.is_dir() {
            source_text(path)
        } else {
            fs::read_to_string(path).unwrap()
        }
    };
    entries
        .map(|entry| read_text(&entry.unwrap().path()))
        .collect()
}

#[test]
fn section_links_are_valid_and_lines_fit() {
    let anchors: BTreeSet<_> = DOCUMENT
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .map(|heading| heading.to_lowercase().replace(',', "").replace(' ', "-"))
        .collect();
    for link in DOCUMENT.split("](#").skip(1) {
        let anchor = link.split(')').next().unwrap();
        assert!(anchors.contains(anchor), "{anchor}");
    }
    let mut block = "";
    for line in DOCUMENT.lines() {
        if let Some(kind) = line.strip_prefix("```") {
            block = kind;
        }
        let bounded = !line.starts_with('|') && block != "text";
        assert!(!bounded || line.chars().count() <= 120, "{line}");
    }
}
