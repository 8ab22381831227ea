//! Who imports whom: the arrows of ARCHITECTURE.md, read from the sources.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A folder of `src/`, and what none of its lines of code may hold.
const ABSENT: [(&str, &[&str]); 11] = [
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
        &[
            "crate::access",
            "crate::server",
            "crate::service",
            "tonic::",
        ],
    ),
    ("upstream/azure_batch", &["ibm_hmc"]),
    ("upstream/ibm_hmc", &["azure_batch"]),
    (
        "access",
        &[
            "crate::server",
            "crate::service",
            "crate::upstream",
            "tonic::",
        ],
    ),
    (
        "audit",
        &[
            "crate::access",
            "crate::server",
            "crate::service",
            "crate::upstream",
            "tonic::",
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

pub fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|_| panic!("no {}", folder.display()));
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .flat_map(|path| {
            if path.is_dir() {
                sources(&path)
            } else {
                vec![path]
            }
        })
        .filter(|path| path.extension().is_some_and(|end| end == "rs"))
        .collect()
}

#[test]
fn no_room_imports_a_room_above_it() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for (folder, absent) in ABSENT {
        for path in sources(&src.join(folder)) {
            let text = fs::read_to_string(&path).unwrap();
            let code = text
                .lines()
                .filter(|line| !line.trim_start().starts_with("//"));
            for line in code {
                for word in absent {
                    assert!(!line.contains(word), "{}: {line}", path.display());
                }
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
        for path in sources(&root.join(folder)) {
            let lines = fs::read_to_string(&path).unwrap().lines().count();
            assert!(lines <= 400, "{}: {lines} lines", path.display());
        }
    }
}
