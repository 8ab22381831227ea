//! Checks the dependencies between modules that `ARCHITECTURE.md` describes against the imports in the sources.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::import_cycles::import_graph;

/// Modules, each with the paths that neither the module nor its submodules may import.
const FORBIDDEN_IMPORTS: [(&str, &[&str]); 9] = [
    (
        "error",
        &[
            "crate::access",
            "crate::config",
            "crate::server",
            "crate::service",
            "crate::upstream",
            "hyper_util::client",
        ],
    ),
    (
        "upstream",
        &["crate::access", "crate::server", "crate::service", "tonic"],
    ),
    (
        "access",
        &[
            "crate::server",
            "crate::service",
            "crate::upstream",
            "tonic",
        ],
    ),
    (
        "audit",
        &[
            "crate::access",
            "crate::server",
            "crate::service",
            "crate::upstream",
            "tonic",
        ],
    ),
    ("access", &["crate::audit"]),
    (
        "service",
        &["crate::server", "crate::cli", "hyper_util::client"],
    ),
    (
        "server",
        &["crate::cli", "crate::upstream", "hyper_util::client"],
    ),
    (
        "metrics",
        &[
            "crate::access",
            "crate::server",
            "crate::service",
            "crate::trace",
            "crate::upstream",
        ],
    ),
    (
        "trace",
        &[
            "crate::access",
            "crate::metrics",
            "crate::server",
            "crate::service",
            "crate::upstream",
        ],
    ),
];

pub fn source_files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|_| panic!("no {}", folder.display()));
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .flat_map(|path| {
            if path.is_dir() {
                source_files(&path)
            } else {
                vec![path]
            }
        })
        .filter(|path| path.extension().is_some_and(|end| end == "rs"))
        .collect()
}

/// Returns whether a path is this one or below it.
fn is_below(path: &str, parent: &str) -> bool {
    let remaining = path.strip_prefix(parent);
    remaining.is_some_and(|remaining| remaining.is_empty() || remaining.starts_with("::"))
}

#[test]
fn no_layer_imports_a_layer_above_it() {
    let imported = import_graph("src");
    for (layer, absent) in FORBIDDEN_IMPORTS {
        let modules = imported
            .iter()
            .filter(|(module, _)| is_below(module, layer));
        let paths: Vec<_> = modules
            .flat_map(|(module, paths)| paths.iter().map(move |path| (module, path)))
            .collect();
        assert!(!paths.is_empty(), "no {layer}");
        for (module, path) in paths {
            let found = absent.iter().any(|other| is_below(path, other));
            assert!(!found, "{module}: {path}");
        }
    }
}

/// Every folder of `src/upstream/` except for the HTTP client is a platform.
#[test]
fn no_platform_imports_another() {
    let imported = import_graph("src");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/upstream");
    let folders = fs::read_dir(folder).unwrap().map(Result::unwrap);
    let folders = folders.filter(|entry| entry.path().is_dir());
    let names = folders.map(|entry| entry.file_name().into_string().unwrap());
    let platforms: Vec<_> = names.filter(|name| name != "client").collect();
    assert!(platforms.len() >= 2, "{platforms:?}");
    for platform in &platforms {
        let own_module = format!("upstream::{platform}");
        let modules = imported
            .iter()
            .filter(|(name, _)| is_below(name, &own_module));
        for (module, paths) in modules {
            for other in platforms.iter().filter(|other| *other != platform) {
                let other = format!("crate::upstream::{other}");
                let found = paths.iter().find(|path| is_below(path, &other));
                assert_eq!(found, None, "{module}");
            }
        }
    }
}

#[test]
fn no_file_is_longer_than_400_lines() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for folder in [
        "src",
        "crates",
        "tests",
        "examples",
        "fuzz/entries",
        "fuzz/targets",
    ] {
        for path in source_files(&root.join(folder)) {
            let lines = fs::read_to_string(&path).unwrap().lines().count();
            assert!(lines <= 400, "{}: {lines} lines", path.display());
        }
    }
}
