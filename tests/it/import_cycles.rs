//! The imports of each module of the server and of the other crates, and those that are forbidden.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use crate::layers::source_files;

/// The modules, or the paths, that each module imports.
type Graph = BTreeMap<String, BTreeSet<String>>;

/// Returns the code without comments and unit tests.
fn code_without_tests(text: &str) -> String {
    let (code, _tests) = text
        .split_once("#[cfg(test)]\nmod tests")
        .unwrap_or((text, ""));
    let lines = code
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}

/// Returns the paths of a `use` tree, such as `a::{b, c::d}`.
fn expand_use_tree(tree: &str) -> Vec<String> {
    let Some((start, subtree)) = tree.split_once('{') else {
        let path = tree.split(" as ").next().unwrap_or_default();
        return vec![path.trim().to_owned()];
    };
    let inner = subtree.trim_end().strip_suffix('}').unwrap_or(subtree);
    let mut found = Vec::new();
    let (mut depth, mut begin) = (0, 0);
    for (at, c) in inner.char_indices().chain([(inner.len(), ',')]) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                let branch = inner[begin..at].trim();
                if !branch.is_empty() {
                    found.extend(expand_use_tree(&format!("{}{branch}", start.trim())));
                }
                begin = at + 1;
            }
            _ => {}
        }
    }
    found
}

/// Returns the paths that the code names, in `use` declarations and elsewhere.
fn paths_in_use_statements(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut other = code;
    while let Some((before, after)) = other.split_once("use ") {
        found.extend(parse_use_tree(before));
        other = after;
        if before.is_empty() || before.ends_with(char::is_whitespace) {
            let (tree, after) = after.split_once(';').unwrap_or((after, ""));
            found.extend(expand_use_tree(&tree.replace('\n', " ")));
            other = after;
        }
    }
    found.extend(parse_use_tree(other));
    found
}

/// Returns the paths outside of `use` declarations.
fn parse_use_tree(code: &str) -> impl Iterator<Item = String> {
    let words = code.split(|c: char| !c.is_alphanumeric() && c != '_' && c != ':');
    words
        .filter(|word| word.contains("::") && !word.ends_with(':'))
        .map(str::to_owned)
}

/// Returns the segments of a path from the root of the crate, or `None` if it starts with neither `crate`, `self`,
/// `super` nor one of the module's children.
fn resolve(module: &str, path: &str, is_module: impl Fn(&str) -> bool) -> Option<Vec<String>> {
    let mut base: Vec<&str> = module.split("::").collect();
    let mut segments: Vec<&str> = path.split("::").map(str::trim).collect();
    match segments.first().copied()? {
        "crate" => base.clear(),
        "self" | "super" => {}
        child if is_module(&format!("{module}::{child}")) => {}
        _ => return None,
    }
    if matches!(segments[0], "crate" | "self") {
        segments.remove(0);
    }
    while segments.first() == Some(&"super") {
        segments.remove(0);
        base.pop();
    }
    Some(
        base.into_iter()
            .chain(segments)
            .map(str::to_owned)
            .collect(),
    )
}

/// Returns the paths that each module below this folder names. Paths within the same crate start with `crate`.
pub fn import_graph(folder: &str) -> Graph {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let files = source_files(&src).into_iter().map(|path| {
        let name = path.strip_prefix(&src).unwrap().with_extension("");
        let name = name.to_str().unwrap().replace('/', "::");
        let name = name.strip_suffix("::mod").unwrap_or(&name).to_owned();
        (name, code_without_tests(&fs::read_to_string(path).unwrap()))
    });
    let files: BTreeMap<String, String> = files
        .filter(|(name, _)| name != "main" && name != "lib")
        .collect();
    let imports = files.iter().map(|(module, code)| {
        let absolute = paths_in_use_statements(code).into_iter().map(|path| {
            let own = resolve(module, &path, |name| files.contains_key(name));
            own.map_or(path, |segments| format!("crate::{}", segments.join("::")))
        });
        (module.clone(), absolute.collect())
    });
    imports.collect()
}

fn graph(folder: &str) -> Graph {
    let imported = import_graph(folder);
    let is_module_path = |path: &String| {
        let segments: Vec<_> = path.strip_prefix("crate::")?.split("::").collect();
        let mut prefixes = (1..=segments.len()).rev().map(|n| segments[..n].join("::"));
        prefixes.find(|name| imported.contains_key(name))
    };
    let imports = imported.iter().map(|(module, paths)| {
        let modules = paths.iter().filter_map(is_module_path);
        (
            module.clone(),
            modules.filter(|other| other != module).collect(),
        )
    });
    imports.collect()
}

/// Returns the modules that a module depends on, directly or not.
fn reachable<'a>(graph: &'a Graph, module: &'a str) -> BTreeSet<&'a str> {
    let (mut request, mut open) = (BTreeSet::new(), vec![module]);
    while let Some(next) = open.pop() {
        for other in &graph[next] {
            if request.insert(other.as_str()) {
                open.push(other);
            }
        }
    }
    request
}

/// Asserts that the modules below this folder form no cycle.
fn check(folder: &str) {
    let graph = graph(folder);
    let reach: BTreeMap<_, _> = graph
        .keys()
        .map(|module| (module.as_str(), reachable(&graph, module)))
        .collect();
    for (module, reached) in &reach {
        let mut cycle = reached
            .iter()
            .filter(|other| *other != module && reach[*other].contains(module));
        assert_eq!(
            cycle.next(),
            None,
            "{module} of {folder} is part of a cycle with this module"
        );
    }
}

#[test]
fn modules_form_no_cycles() {
    for folder in [
        "src",
        "crates/useradmin-sandbox/src",
        "crates/useradmin-client/src",
        "crates/useradmin-testkit/src",
    ] {
        check(folder);
    }
}

#[test]
fn use_trees_are_flattened() {
    let code = "use a::b;\nuse crate::{\n    c::{self, D},\n    e::f as g,\n};\nlet x = super::h::i(child::j);";
    let expected = [
        "a::b",
        "crate::c::self",
        "crate::c::D",
        "crate::e::f",
        "super::h::i",
        "child::j",
    ];
    let found = paths_in_use_statements(code);
    for path in expected {
        assert!(found.iter().any(|found| found == path), "{path}: {found:?}");
    }
    let is_module = |name: &str| name == "x::y::child";
    for (path, expected) in [
        ("super::h::i", Some("x::h::i")),
        ("child::j", Some("x::y::child::j")),
        ("other::k", None),
    ] {
        let resolved = resolve("x::y", path, is_module).map(|path| path.join("::"));
        assert_eq!(resolved.as_deref(), expected, "{path}");
    }
}
