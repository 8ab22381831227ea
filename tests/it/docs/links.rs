//! Checks the links between documents, and the length of the documents in the root folder.

use std::{fs, path::Path};

/// Documents of the root folder, each with its maximum number of lines.
const ROOT: [(&str, usize); 5] = [
    ("README.md", 150),
    ("CONTRIBUTING.md", 150),
    ("SECURITY.md", 150),
    ("ARCHITECTURE.md", 170),
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
fn links_lead_to_files() {
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

#[test]
fn documents_of_the_root_folder_are_short() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (name, max) in ROOT {
        let lines = fs::read_to_string(root.join(name)).unwrap().lines().count();
        assert!(lines <= max, "{name}: {lines} lines");
    }
}
