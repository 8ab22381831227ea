//! Checks that the tests exist that `docs/reliability.md`, which is written by hand, names.

use std::{fs, path::Path};

const DOCUMENT: &str = include_str!("../../../docs/reliability.md");

/// Returns the source text of all tests.
fn sources(folder: &Path) -> String {
    let entries = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let rust = |path: &Path| path.extension().is_some_and(|end| end == "rs");
    entries
        .map(|path| match path.is_dir() {
            true => sources(&path),
            false if rust(&path) => fs::read_to_string(path).unwrap(),
            false => String::new(),
        })
        .collect()
}

#[test]
fn every_row_is_shown_by_a_test() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let tests = sources(&root.join("tests")) + &sources(&root.join("src"));
    let rows = DOCUMENT
        .lines()
        .skip_while(|line| !line.starts_with("| situation"))
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    let mut count = 0;
    for row in rows {
        let shown = row.trim_matches('|').rsplit('|').next().unwrap();
        let names: Vec<_> = shown.split('`').skip(1).step_by(2).collect();
        assert!(!names.is_empty(), "{row}");
        for name in names.into_iter().filter(|name| !name.contains("::")) {
            assert!(tests.contains(&format!("fn {name}(")), "{name}");
            count += 1;
        }
    }
    assert!(count > 40, "{count}");
}
