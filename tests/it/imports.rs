//! The imports of each module of the server and of the other crates, and what must not be among them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use crate::rooms::sources;

/// Cycles between modules of `src/` that are still there. None may be added.
const CYCLES: [&[&str]; 6] = [
    &[
        "access::token",
        "access::token::issuer",
        "access::token::keeper",
    ],
    &["jwks", "jwks::key"],
    &["metrics", "metrics::calls", "metrics::reloads"],
    &["server::edge", "server::identify"],
    &["telemetry", "telemetry::output"],
    &[
        "upstream::azure_batch::azure_cli",
        "upstream::azure_batch::entra",
        "upstream::azure_batch::token_document",
        "upstream::azure_batch::token_endpoint",
    ],
];

/// The same of `useradmin-sandbox`.
const SANDBOX_CYCLES: [&[&str]; 2] = [
    &[
        "batch",
        "batch::auth",
        "batch::checks",
        "batch::shared_key",
        "batch::world",
    ],
    &["hmc", "hmc::users"],
];

/// The modules that each module imports from.
type Graph = BTreeMap<String, BTreeSet<String>>;

/// Returns the code without comments and unit tests.
fn code(text: &str) -> String {
    let (code, _tests) = text
        .split_once("#[cfg(test)]\nmod tests")
        .unwrap_or((text, ""));
    let lines = code
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}

/// Returns the paths of a `use` tree, such as `a::{b, c::d}`.
fn paths(tree: &str) -> Vec<String> {
    let Some((start, rest)) = tree.split_once('{') else {
        let path = tree.split(" as ").next().unwrap_or_default();
        return vec![path.trim().to_owned()];
    };
    let inner = rest.trim_end().strip_suffix('}').unwrap_or(rest);
    let mut found = Vec::new();
    let (mut depth, mut begin) = (0, 0);
    for (at, c) in inner.char_indices().chain([(inner.len(), ',')]) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                let branch = inner[begin..at].trim();
                if !branch.is_empty() {
                    found.extend(paths(&format!("{}{branch}", start.trim())));
                }
                begin = at + 1;
            }
            _ => {}
        }
    }
    found
}

/// Returns the paths that the code names: those of its `use` declarations, and those that start with `crate` or `super`.
fn named(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("use ") {
        if code[..at].ends_with(char::is_whitespace) || at == 0 {
            let tree = code[at + 4..].split(';').next().unwrap_or_default();
            found.extend(paths(&tree.replace('\n', " ")));
        }
    }
    for start in ["crate::", "super::"] {
        for (at, _) in code.match_indices(start) {
            let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
            let path = code[at..].split(|c| !is_path(c)).next().unwrap_or_default();
            // The start of a tree is in a `use` declaration.
            if !path.ends_with(':') {
                found.push(path.to_owned());
            }
        }
    }
    found
}

/// Returns the segments of a path from the root of the crate, or `None` if it belongs to another crate.
fn resolve(module: &str, path: &str) -> Option<Vec<String>> {
    let mut base: Vec<&str> = module.split("::").collect();
    let mut rest: Vec<&str> = path.split("::").map(str::trim).collect();
    match rest.first().copied()? {
        "crate" => base.clear(),
        "self" | "super" => {}
        _ => return None,
    }
    if matches!(rest[0], "crate" | "self") {
        rest.remove(0);
    }
    while rest.first() == Some(&"super") {
        rest.remove(0);
        base.pop();
    }
    Some(base.into_iter().chain(rest).map(str::to_owned).collect())
}

fn graph(folder: &str) -> Graph {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let files = sources(&src).into_iter().map(|path| {
        let name = path.strip_prefix(&src).unwrap().with_extension("");
        let name = name.to_str().unwrap().replace('/', "::");
        let name = name.strip_suffix("::mod").unwrap_or(&name).to_owned();
        (name, code(&fs::read_to_string(path).unwrap()))
    });
    let files: BTreeMap<String, String> = files
        .filter(|(name, _)| name != "main" && name != "lib")
        .collect();
    let known = |segments: &[String]| {
        let prefixes = (1..=segments.len()).rev().map(|n| segments[..n].join("::"));
        prefixes.into_iter().find(|name| files.contains_key(name))
    };
    let imports = files.iter().map(|(module, code)| {
        let paths = named(code).into_iter();
        let resolved = paths.filter_map(|path| resolve(module, &path));
        let modules = resolved.filter_map(|segments| known(&segments));
        (
            module.clone(),
            modules.filter(|other| other != module).collect(),
        )
    });
    imports.collect()
}

/// Returns the modules that a module depends on, directly or not.
fn reachable<'a>(graph: &'a Graph, module: &'a str) -> BTreeSet<&'a str> {
    let (mut seen, mut open) = (BTreeSet::new(), vec![module]);
    while let Some(next) = open.pop() {
        for other in &graph[next] {
            if seen.insert(other.as_str()) {
                open.push(other);
            }
        }
    }
    seen
}

/// Asserts that the modules below this folder form these cycles and no others.
fn check(folder: &str, known: &[&[&str]]) {
    let graph = graph(folder);
    let reach: BTreeMap<_, _> = graph
        .keys()
        .map(|module| (module.as_str(), reachable(&graph, module)))
        .collect();
    let mut cycles = BTreeSet::new();
    for (module, reached) in &reach {
        let cycle: Vec<_> = reached
            .iter()
            .copied()
            .filter(|other| reach[other].contains(module))
            .collect();
        if !cycle.is_empty() {
            cycles.insert(cycle);
        }
    }
    let known: BTreeSet<Vec<&str>> = known.iter().map(|cycle| cycle.to_vec()).collect();
    assert_eq!(cycles, known, "{folder}");
}

#[test]
fn modules_form_no_cycles() {
    check("src", &CYCLES);
    check("crates/useradmin-sandbox/src", &SANDBOX_CYCLES);
    check("crates/useradmin-client/src", &[]);
}

#[test]
fn use_trees_are_flattened() {
    let code =
        "use a::b;\nuse crate::{\n    c::{self, D},\n    e::f as g,\n};\nlet x = super::h::i();";
    let expected = [
        "a::b",
        "crate::c::self",
        "crate::c::D",
        "crate::e::f",
        "super::h::i",
    ];
    let found = named(code);
    for path in expected {
        assert!(found.iter().any(|found| found == path), "{path}: {found:?}");
    }
    let resolved = resolve("x::y", "super::h::i").unwrap().join("::");
    assert_eq!(resolved, "x::h::i");
}
