//! Checks that `docs/dependencies.md`, which is written by hand, has a reason for every dependency.

use std::{collections::BTreeSet, fs, path::Path};

/// Manifests of the repository. The dependencies of the test clients in other languages are not covered.
const MANIFESTS: [&str; 5] = [
    "Cargo.toml",
    "crates/useradmin-client/Cargo.toml",
    "crates/useradmin-sandbox/Cargo.toml",
    "crates/useradmin-testkit/Cargo.toml",
    "fuzz/Cargo.toml",
];

/// Returns the names in the tables of dependencies of a manifest, without the crates of this repository.
fn dependencies(manifest: &toml::Table) -> BTreeSet<String> {
    let tables = ["dependencies", "build-dependencies", "dev-dependencies"];
    let tables = tables.into_iter().filter_map(|name| manifest.get(name));
    let rows = tables.flat_map(|table| table.as_table().unwrap());
    let names = rows.map(|(name, value)| match value.get("package") {
        Some(package) => package.as_str().unwrap().to_owned(),
        None => name.clone(),
    });
    names
        .filter(|name| !name.starts_with("useradmin"))
        .collect()
}

#[test]
fn every_dependency_has_a_reason() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let document = fs::read_to_string(root.join("docs/dependencies.md")).unwrap();
    let documented: BTreeSet<_> = document
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split('|').next())
        .flat_map(|cell| cell.split('`').skip(1).step_by(2).map(str::to_owned))
        .collect();
    let mut used = BTreeSet::new();
    for manifest in MANIFESTS {
        let text = fs::read_to_string(root.join(manifest)).unwrap();
        used.extend(dependencies(&text.parse().unwrap()));
    }
    assert_eq!(documented, used);
}
