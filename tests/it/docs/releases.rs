//! Checks that the version is the same in all places, and that a copy of the released API exists.

use std::{fs, path::Path};

const CHANGELOG: &str = include_str!("../../../CHANGELOG.md");
const OVERLAY: &str =
    include_str!("../../../deploy/kubernetes/overlays/example/kustomization.yaml");
const DEPLOYMENT: &str = include_str!("../../../docs/deployment.md");
const RELEASED: &str = include_str!("../../released/README.md");

/// Returns the sections of the changelog, the newest first.
fn sections() -> Vec<&'static str> {
    CHANGELOG
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .collect()
}

#[test]
fn version_matches_last_release() {
    let version = env!("CARGO_PKG_VERSION");
    let sections = sections();
    assert_eq!(sections[0], "[Unreleased]");
    let (name, date) = sections[1].split_once(" - ").unwrap();
    assert_eq!(name, format!("[{version}]"));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let lengths: Vec<_> = date
        .split('-')
        .filter(|part| digits(part))
        .map(str::len)
        .collect();
    assert_eq!(lengths, [4, 2, 2], "{date}");
    assert!(RELEASED.contains(&format!("Version {version}.")));
    let line = format!("newTag: {version}");
    assert!(OVERLAY.lines().any(|found| found.trim() == line));
    assert!(DEPLOYMENT.contains(&format!("--build-arg VERSION={version} ")));
}

/// The comparison must cover the whole API: a breaking change in a file that has no released copy would not be
/// detected.
#[test]
fn released_api_copy_is_complete() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let names = |folder: &str| {
        let entries = fs::read_dir(root.join(folder)).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let released = names("tests/released/useradmin/v1");
    assert!(!released.is_empty());
    assert_eq!(released, names("proto/useradmin/v1"));
}
