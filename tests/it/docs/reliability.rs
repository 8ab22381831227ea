//! Checks that the modules exist that `docs/reliability.md`, which is written by hand, names as tests.

use std::path::Path;

const DOCUMENT: &str = include_str!("../../../docs/reliability.md");

/// Returns the rows of the tables of failures.
fn rows() -> impl Iterator<Item = &'static str> {
    let (_, failures) = DOCUMENT.split_once("## Failures").unwrap();
    let (failures, _) = failures.split_once("\n## ").unwrap();
    let rows = failures.lines().filter(|line| line.starts_with("| "));
    rows.filter(|row| !row.starts_with("| situation"))
}

#[test]
fn every_row_names_the_modules_that_test_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for row in rows() {
        let cell = row.trim_matches('|').rsplit('|').next().unwrap();
        let modules: Vec<_> = cell.split('`').skip(1).step_by(2).collect();
        assert!(!modules.is_empty(), "{row}");
        for module in modules {
            let folder = if module.starts_with("src/") {
                ""
            } else {
                "tests/it/"
            };
            let file = format!("{folder}{module}.rs");
            assert!(root.join(&file).exists(), "{file}: {row}");
        }
    }
    assert!(rows().count() > 40);
}
