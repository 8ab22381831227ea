//! Checks the links between documents, and the length of the documents in the root folder.

use std::{fs, path::Path};

use crate::layers::source_files;

/// Documents of the root folder, each with its maximum number of lines.
const ROOT: [(&str, usize); 5] = [
    ("README.md", 150),
    ("CONTRIBUTING.md", 150),
    ("SECURITY.md", 150),
    ("ARCHITECTURE.md", 150),
    ("CHANGELOG.md", usize::MAX),
];

#[track_caller]
fn check_links(folder: &Path, name: &str) {
    let text = fs::read_to_string(folder.join(name)).unwrap();
    for link in text.split("](").skip(1) {
        let target = link.split(')').next().unwrap();
        let file = target.split('#').next().unwrap();
        let is_file = !file.is_empty() && !file.contains("://");
        assert!(!is_file || folder.join(file).exists(), "{name}: {target}");
    }
}

#[test]
fn links_point_to_existing_files() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (name, _) in ROOT {
        check_links(root, name);
    }
    for entry in fs::read_dir(root.join("docs")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "md") {
            let name = path.file_name().unwrap().to_str().unwrap();
            check_links(&root.join("docs"), name);
        }
    }
}

/// Returns whether a file of the test module, or of a module inside it, contains a test with this name.
fn has_test(module: &str, name: &str) -> bool {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it");
    let file = folder.join(module.split("::").next().unwrap());
    let mut files = vec![file.with_extension("rs")];
    if file.is_dir() {
        files.extend(source_files(&file));
    }
    let declaration = format!("fn {name}()");
    files
        .iter()
        .any(|file| fs::read_to_string(file).is_ok_and(|text| text.contains(&declaration)))
}

#[test]
fn tests_named_in_architecture_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("ARCHITECTURE.md")).unwrap();
    let rows = text.lines().filter(|line| line.starts_with("| "));
    let cells = rows.filter_map(|row| row.trim_matches('|').rsplit('|').next());
    let mut count = 0;
    for quoted in cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)) {
        if let Some((module, name)) = quoted.rsplit_once("::")
            && module.starts_with(|c: char| c.is_ascii_lowercase())
            && module != "path"
        {
            assert!(has_test(module, name), "{quoted}");
            count += 1;
        }
    }
    assert!(count > 10, "{count}");
}

#[test]
fn root_documents_are_at_most_150_lines() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (name, max) in ROOT {
        let lines = fs::read_to_string(root.join(name)).unwrap().lines().count();
        assert!(lines <= max, "{name}: {lines} lines");
    }
}
