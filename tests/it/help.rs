//! `--help`, shell completions and man pages.

use std::{
    fs,
    io::Write as _,
    process::{Command, Stdio},
};

use useradmin_testkit::{App, run};

/// All commands. The man pages, which are generated for each command, must be the same ones.
const COMMANDS: [&[&str]; 13] = [
    &[],
    &["serve"],
    &["check-config"],
    &["health"],
    &["audit"],
    &["audit", "verify"],
    &["audit", "reconcile"],
    &["audit", "report"],
    &["store"],
    &["store", "migrate"],
    &["protoset"],
    &["completions"],
    &["man"],
];

const SECTIONS: [&str; 6] = [
    "Usage: useradmin",
    "Options:",
    "Examples:\n  useradmin ",
    "Environment variables:\n  ",
    "Exit codes:\n  0  ",
    "Documentation:\n  ",
];

/// Maximum width of a line, so that it fits into a usual terminal.
const MAX_COLUMNS: usize = 110;

fn succeed(arguments: &[&str]) -> String {
    let (code, out, err) = run(arguments);
    assert_eq!((code, err.as_str()), (0, ""), "{arguments:?}");
    out
}

#[test]
fn every_help_has_the_same_sections() {
    let mut all = String::new();
    for command in COMMANDS {
        let help = succeed(&[command, &["--help"]].concat());
        let mut rest = help.as_str();
        for section in SECTIONS {
            let (_, after) = rest
                .split_once(section)
                .unwrap_or_else(|| panic!("{command:?}: no {section}: {help}"));
            rest = after;
        }
        for line in help.lines() {
            assert!(line.chars().count() <= MAX_COLUMNS, "{line}");
        }
        for document in rest.trim().split(", ") {
            let found = fs::exists(document).unwrap();
            assert!(found, "{command:?}: {document}");
        }
        let lines = help.lines().map(|line| format!("{}\n", line.trim_end()));
        all.extend([format!("$ useradmin {} --help\n", command.join(" "))]);
        all.extend(lines.chain(["\n".to_owned()]));
    }
    insta::assert_snapshot!("help", all);
}

#[test]
fn completions_know_every_command() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = succeed(&["completions", shell]);
        for command in COMMANDS.iter().filter_map(|command| command.first()) {
            assert!(script.contains(command), "{shell}: {command}");
        }
        // Checks the syntax if the shell is installed and has an option for this.
        if !["bash", "fish", "zsh"].contains(&shell) {
            continue;
        }
        let Ok(mut parser) = Command::new(shell).arg("-n").stdin(Stdio::piped()).spawn() else {
            continue;
        };
        let mut input = parser.stdin.take().unwrap();
        input.write_all(script.as_bytes()).unwrap();
        drop(input);
        assert!(parser.wait().unwrap().success(), "{shell}");
    }
    let (code, out, err) = run(&["completions", "tcsh"]);
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(err.contains("possible values: bash,"), "{err}");
}

#[test]
fn man_pages_exist_for_every_command() {
    let folder = App::folder();
    let path = folder.to_str().unwrap();
    assert_eq!(succeed(&["man", path]), "");
    let names = COMMANDS.map(|command| [&["useradmin"], command].concat().join("-"));
    let mut expected = names.map(|name| format!("{name}.1"));
    expected.sort();
    let entries = fs::read_dir(&folder).unwrap();
    let mut found: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    found.sort();
    assert_eq!(found, expected);
    let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    let page = read("useradmin.1");
    for command in COMMANDS.iter().filter(|command| command.len() == 1) {
        let reference = format!("useradmin-{}(1)", command[0]).replace('-', "\\-");
        assert!(page.contains(&reference), "{reference}: {page}");
    }
    let serve = read("useradmin-serve.1");
    assert!(
        serve.contains("RUST_LOG") && serve.contains("Exit codes:"),
        "{serve}"
    );
    fs::remove_dir_all(&folder).unwrap();

    let (code, out, err) = run(&["man", path]);
    assert_eq!((code, out.as_str()), (1, ""));
    assert!(err.starts_with(path), "{err}");
}
